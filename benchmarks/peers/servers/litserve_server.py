"""LitServe: one worker, the fast queue (ZeroMQ); an image travels in JSON as base64, since its bodies are JSON."""

from __future__ import annotations

import base64
import os

import litserve
from model import BATCH, BATCH_WAIT_S, Model


class Classify(litserve.LitAPI):
    """Takes {"image": base64}, gives {"label", "probability"}."""

    def setup(self, device: str) -> None:
        self._model = Model()

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # an annotation would choose how it is parsed
        return base64.b64decode(request["image"])

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return inputs

    def predict(self, body):  # type: ignore[no-untyped-def]  # one, or with batching a list
        return self._model.answers(body) if isinstance(body, list) else self._model.answer(body)

    def unbatch(self, output: list[dict[str, object]]) -> list[dict[str, object]]:
        return output

    def encode_response(self, output: dict[str, object]) -> dict[str, object]:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Classify(max_batch_size=max(1, BATCH), batch_timeout=BATCH_WAIT_S if BATCH else 0.0),
        accelerator="cpu",
        workers_per_device=int(os.environ["PEER_WORKERS"]),
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PEER_PORT"]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
