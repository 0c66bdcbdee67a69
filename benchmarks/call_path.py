"""Which of our own functions a call passes in the server, in order: how long the way is, and how winding.

A real server in this process, over gRPC, with a ResNet-32 that nobody trained. Counted is what runs on the threads that
the call passes, of handlers and of the line, from the moment gRPC hands it over. Comprehensions count as part of the
function that they stand in.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import grpc

import accrete_server
from accrete.inference import service_pb2, service_pb2_grpc
from accrete.v1 import prediction_pb2, prediction_pb2_grpc, teaching_pb2, teaching_pb2_grpc, types_pb2
from accrete_model.config import EngineConfig
from accrete_model.input_spec import InputSpec
from accrete_server.app import Server
from accrete_server.config import ServerConfig
from accrete_server.settings import ServerSettings
from accrete_storage.config import StoreConfig
from benchmarks.lone_server import SHAPE, published
from benchmarks.noise import noise

_ROOT = Path(accrete_server.__file__).parents[2]
_OURS = tuple(f"{_ROOT / folder}{os.sep}" for folder in ("server", "storage"))
_PARTS = ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call of a function of ours."""

    thread: str
    module: str
    function: str
    depth: int


class Recorder:
    """Notes calls on every thread that starts after it was installed."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._records = False

    def install(self) -> None:
        """Watch the threads that start from now on."""
        threading.setprofile(self._note)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note what is called meanwhile."""
        self.steps.clear()
        self._records = True
        try:
            yield
        finally:
            self._records = False

    def path(self) -> list[Step]:
        """Return what was called on the threads that the call passed: gRPC's own, then one of the server's."""
        passed = {step.thread for step in self.steps if step.function.endswith("intercept_service")}
        threads = ("call", "line")
        return [step for step in self.steps if step.thread in passed or step.thread.startswith(threads)]

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if not self._records or event != "call" or not code.co_filename.startswith(_OURS) or code.co_name in _PARTS:
            return
        module = Path(code.co_filename).relative_to(_ROOT).with_suffix("").as_posix()
        self.steps.append(
            Step(
                thread=threading.current_thread().name,
                module=module.split("/", 1)[1],
                function=code.co_qualname,
                depth=_depth(frame),
            )
        )


def _depth(frame: FrameType) -> int:
    """Return the number of calls of ours that the frame is inside of."""
    depth, above = 0, frame.f_back
    while above is not None:
        depth += above.f_code.co_filename.startswith(_OURS) and above.f_code.co_name not in _PARTS
        above = above.f_back
    return depth


def main() -> None:
    """Print each method's path and its length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quiet", action="store_true", help="lengths alone")
    quiet = parser.parse_args().quiet
    with tempfile.TemporaryDirectory(prefix="accrete-path-") as folder:
        paths = measure(Path(folder))
    for name, path in paths.items():
        if not quiet:
            print(f"\n{name}")
            for step in path:
                print(f"  {step.thread[:9]:10}{'  ' * step.depth}{step.function}  ({step.module})")
        print(f"{name}: {describe(path)}")


def describe(path: Sequence[Step]) -> str:
    """Return the calls and modules, of all and of the server alone, and how often the call changes the module."""
    told = []
    for name, steps in (
        ("all", path),
        ("accrete_server", [step for step in path if step.module.startswith("accrete_server/")]),
    ):
        modules = [step.module for step in steps]
        changes = sum(one != other for one, other in zip(modules, modules[1:], strict=False))
        told.append(f"{name}: {len(steps)} calls through {len(set(modules))} modules, {changes} changes of module")
    return "; ".join(told)


def measure(folder: Path) -> dict[str, list[Step]]:
    """Return the path of a call of one image, by method, once the server is warm."""
    recorder, store = Recorder(), StoreConfig()
    with published(folder, store):
        recorder.install()
        server = Server(
            ServerSettings(
                data_dir=folder,
                spec=InputSpec(SHAPE, "uint8"),
                method="lucir",
                server=ServerConfig(port=0, metrics_port=0, drain_s=0.0),
                store=store,
                engine=EngineConfig(device="cpu"),
            )
        )
        server.start()
        try:
            with grpc.insecure_channel(server.address) as channel:
                methods = {
                    "Predict": (prediction_pb2_grpc.PredictionStub(channel).Predict, _predict()),
                    "ModelInfer": (service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer, _infer()),
                    "AddExamples": (teaching_pb2_grpc.TeachingStub(channel).AddExamples, _add()),
                }
                return {name: _path(recorder, ask, request) for name, (ask, request) in methods.items()}
        finally:
            threading.setprofile(None)
            server.stop()


def _path(recorder: Recorder, ask: Any, request: Any) -> list[Step]:
    for _ in range(3):  # the first calls set up what those after them find
        ask(request, timeout=30)
    with recorder.recording():
        ask(request, timeout=30)
    return recorder.path()


def _image() -> types_pb2.Image:
    pixels = noise(1, SHAPE)[0]
    tensor = types_pb2.Tensor(dtype=types_pb2.Tensor.UINT8, shape=pixels.shape, data=pixels.tobytes())
    return types_pb2.Image(tensor=tensor)


def _predict() -> prediction_pb2.PredictRequest:
    return prediction_pb2.PredictRequest(images=[_image()])


def _add() -> teaching_pb2.AddExamplesRequest:
    return teaching_pb2.AddExamplesRequest(examples=[teaching_pb2.Example(label="noise", image=_image())])


def _infer() -> service_pb2.ModelInferRequest:
    pixels = noise(1, SHAPE)
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=pixels.shape)
    return service_pb2.ModelInferRequest(model_name="accrete", inputs=[tensor], raw_input_contents=[pixels.tobytes()])


if __name__ == "__main__":
    main()
