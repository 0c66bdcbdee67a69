"""Ray Serve: one replica behind its HTTP proxy; the image is the body of the request."""

from __future__ import annotations

import os
import signal

import ray
from model import BATCH, BATCH_WAIT_S, Model
from ray import serve
from starlette.requests import Request


@serve.deployment(
    num_replicas=int(os.environ["PEER_WORKERS"]), max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5}
)
class Classify:
    """Takes one image's bytes, gives {"label", "probability"}."""

    def __init__(self) -> None:
        self._model = Model()

    async def __call__(self, request: Request) -> dict[str, object]:
        """POST /predict."""
        body = await request.body()
        return await self._together(body) if BATCH else self._model.answer(body)

    @serve.batch(max_batch_size=max(1, BATCH), batch_wait_timeout_s=BATCH_WAIT_S)
    async def _together(self, bodies: list[bytes]) -> list[dict[str, object]]:
        return self._model.answers(bodies)


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, _temp_dir=os.environ["PEER_FOLDER"])
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PEER_PORT"])})
    serve.run(Classify.bind(), route_prefix="/predict", logging_config={"enable_access_log": False})
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
