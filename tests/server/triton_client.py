"""What a user of tritonclient does, against the server whose address is given; prints what came of it as JSON.

Runs where tritonclient is installed and nothing of ours is. Images are `[N, 4, 4, 3]`, made from a seed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import queue
import sys
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import shared_memory

MODEL = "accrete"


def pixels(count: int) -> Any:
    image = triton.InferInput("image", [count, 4, 4, 3], "UINT8")
    image.set_data_from_numpy(np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8))
    return image


def files(paths: list[str]) -> Any:
    contents = []
    for path in paths:
        with open(path, "rb") as file:
            contents.append(file.read())
    image = triton.InferInput("image", [len(contents)], "BYTES")
    image.set_data_from_numpy(np.array(contents, np.object_))
    return image


def texts(array: Any) -> Any:
    return np.char.decode(array.astype(np.bytes_)).tolist()


def answer(result: Any) -> dict[str, Any]:
    return {
        "version": result.get_response().model_version,
        "label": texts(result.as_numpy("label")),
        "probabilities": result.as_numpy("probabilities").tolist(),
        "provisional": result.as_numpy("provisional").tolist(),
        "unknown": result.as_numpy("unknown").tolist(),
    }


def by_shared_memory(client: Any) -> dict[str, Any]:
    """tritonclient's own helper makes the region, and its input names it."""
    sent = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    region = shared_memory.create_shared_memory_region("pixels", f"/accrete-{uuid.uuid4().hex}", sent.nbytes)
    try:
        shared_memory.set_shared_memory_region(region, [sent])
        client.register_system_shared_memory("pixels", region._shm_key, sent.nbytes)
        listed = list(client.get_system_shared_memory_status(as_json=True)["regions"])
        image = triton.InferInput("image", sent.shape, "UINT8")
        image.set_shared_memory("pixels", sent.nbytes)
        found = answer(client.infer(MODEL, [image]))
        client.unregister_system_shared_memory("pixels")
        return found | {"listed": listed, "left": client.get_system_shared_memory_status(as_json=True)}
    finally:
        shared_memory.destroy_shared_memory_region(region)


def in_the_background(client: Any) -> dict[str, Any]:
    came: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.async_infer(MODEL, [pixels(3)], callback=lambda result, error: came.put((result, error)))
    result, error = came.get(timeout=300)
    if error is not None:
        raise error
    return answer(result)


async def by_asyncio(address: str) -> dict[str, Any]:
    async with triton_aio.InferenceServerClient(address) as client:
        return answer(await client.infer(MODEL, [pixels(3)]))


def refusal(call: Callable[[], object]) -> list[str]:
    try:
        call()
    except triton.InferenceServerException as error:
        return [str(error.status()), str(error.message())]
    return ["none", ""]


def ask(address: str, paths: list[str]) -> dict[str, Any]:
    client = triton.InferenceServerClient(address)
    top = triton.InferRequestedOutput("probabilities", class_count=2)
    as_json = {"as_json": True}
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": [client.is_model_ready(MODEL, version) for version in ("", "1", "2")],
        "other ready": client.is_model_ready("other"),
        "server": client.get_server_metadata(**as_json),
        "metadata": client.get_model_metadata(MODEL, **as_json),
        "config": client.get_model_config(MODEL, **as_json)["config"],
        "index": client.get_model_repository_index(**as_json),
        "pixels": answer(client.infer(MODEL, [pixels(3)], request_id="7")),
        "named version": answer(client.infer(MODEL, [pixels(3)], model_version="1", timeout=5_000_000)),
        "async": in_the_background(client),
        "asyncio": asyncio.run(by_asyncio(address)),
        "unknown": answer(client.infer(MODEL, [pixels(3)], parameters={"unknown_rate": 0.06})),
        "files": answer(client.infer(MODEL, [files(paths)])),
        "top": texts(client.infer(MODEL, [pixels(3)], outputs=[top]).as_numpy("probabilities")),
        "no such version": refusal(lambda: client.infer(MODEL, [pixels(1)], model_version="9")),
        "no such model": refusal(lambda: client.infer("other", [pixels(1)])),
        "shared memory": by_shared_memory(client),
        "no such region": refusal(lambda: client.get_system_shared_memory_status("other")),
        "cuda": refusal(lambda: client.get_cuda_shared_memory_status()),
        "statistics": client.get_inference_statistics(MODEL, **as_json)["model_stats"],
    }


def contract() -> dict[str, str]:
    """What tritonclient knows of the protocol: its file descriptors."""
    found = {"service": service_pb2.DESCRIPTOR, "model_config": model_config_pb2.DESCRIPTOR}
    return {name: base64.b64encode(file.serialized_pb).decode() for name, file in found.items()}


if __name__ == "__main__":
    json.dump({"asked": ask(sys.argv[1], sys.argv[2:]), "contract": contract()}, sys.stdout)
