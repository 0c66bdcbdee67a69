"""LitServe: one worker, the fast queue (ZeroMQ); an image travels in JSON as base64, since its bodies are JSON."""

from __future__ import annotations

import base64
import os

import litserve
from model import Model


class Classify(litserve.LitAPI):
    """Takes {"image": base64}, gives {"label", "probability"}."""

    def setup(self, device: str) -> None:
        self._model = Model()

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # an annotation would choose how it is parsed
        return base64.b64decode(request["image"])

    def predict(self, body: bytes) -> dict[str, object]:
        return self._model.answer(body)

    def encode_response(self, output: dict[str, object]) -> dict[str, object]:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Classify(), accelerator="cpu", workers_per_device=int(os.environ["PEER_WORKERS"]), fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PEER_PORT"]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
