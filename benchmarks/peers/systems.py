"""How each server is installed, started and asked."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.callers import Asking, connect
from benchmarks.waiting import free_port

_SERVERS = Path(__file__).with_name("servers")
_READY_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another server."""

    name: str
    requirements: tuple[str, ...]
    """What pip installs, into an environment of its own: their needs contradict each other's and ours."""
    command: tuple[str, ...]
    """After the environment's folder of programs."""
    path: str
    content_type: str
    workers: int = 1
    """Processes that compute, as its documentation advises for one core."""
    batches: bool = True
    """Whether its own batching applies to requests as they come here."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What is served, and how."""

    name: str
    """After a server's in each row; empty: pixels one at a time."""
    kind: str
    """Of an image: "pixels" or "file"."""
    side: int
    """Pixels of the network's input."""
    model: Path
    """Folder of its graph and head."""
    batch: int = 0
    """Images that a server's own batching may join; 0: it is off."""


PEERS = (
    Peer(
        name="mlserver",
        requirements=("mlserver==1.7.1",),
        command=("mlserver", "start", "{folder}"),
        path="/inference.GRPCInferenceService/ModelInfer",
        content_type="grpc",
        workers=0,  # in the server's own process: with one worker beside it, each image is pickled there and back
    ),
    Peer(
        name="litserve",
        requirements=("litserve==0.2.19",),
        command=("python", str(_SERVERS / "litserve_server.py")),
        path="/predict",
        content_type="application/json",
    ),
    Peer(
        name="bentoml",
        requirements=("bentoml==1.4.39",),
        command=("bentoml", "serve", "bentoml_service:Classify", "--host", "127.0.0.1", "--port", "{port}"),
        path="/raw/predict",
        content_type="application/octet-stream",
        batches=False,  # its batching joins calls of its own kind alone, whose images are arrays in JSON
    ),
    Peer(
        name="triton",
        requirements=("nvidia-pytriton==0.7.0",),
        command=("python", str(_SERVERS / "triton_server.py")),
        path="/inference.GRPCInferenceService/ModelInfer",
        content_type="grpc",
    ),
    Peer(
        name="ray",
        requirements=("ray[serve]==2.60.0",),
        command=("python", str(_SERVERS / "ray_server.py")),
        path="/predict",
        content_type="application/octet-stream",
    ),
)


def install(peer: Peer, environments: Path) -> Path:
    """Return the folder of programs of the peer's environment, made from the package index when it is not there."""
    folder = environments / peer.name
    if not (folder / "installed").exists():
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, env=own)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *peer.requirements, "onnxruntime", "numpy", "pillow"], check=True, env=own)
        (folder / "installed").touch()
    return folder / "bin"


class Running:
    """A peer's server process, with all that it starts."""

    def __init__(self, peer: Peer, programs: Path, folder: Path, form: Form, cores: Set[int]) -> None:
        """Start the server on these cores. It is not ready yet."""
        self.peer = peer
        self.port = free_port()
        self._folder = folder
        folder.mkdir(parents=True)
        if peer.name == "mlserver":
            _configure_mlserver(folder, self.port, peer.workers, form.batch)
        command = [part.format(folder=folder, port=self.port) for part in peer.command]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", ",".join(map(str, sorted(cores))), str(programs / command[0]), *command[1:]],
                cwd=_SERVERS,
                env=_environment(peer, programs, folder, form, self.port),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def wait_ready(self, asking: Asking) -> None:
        """Until it answers. Raises RuntimeError, with the end of its log, when it ends or does not in two minutes."""
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if connect(asking)():
                    return
            except OSError:
                pass
            time.sleep(0.2)
        end = (self._folder / "log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{self.peer.name} does not answer:\n{end}")

    def stop(self) -> None:
        """In order, then by force: all of its session."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _configure_mlserver(folder: Path, port: int, workers: int, batch: int) -> None:
    settings = {
        "host": "127.0.0.1",
        "grpc_port": port,
        "http_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": workers,
        "debug": False,
        "use_structured_logging": False,
        "logging_settings": None,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    model: dict[str, object] = {"name": "accrete", "implementation": "mlserver_runtime.Runtime"}
    if batch:
        model |= {"max_batch_size": batch, "max_batch_time": 0.005}
    (folder / "model-settings.json").write_text(json.dumps(model))


def _environment(peer: Peer, programs: Path, folder: Path, form: Form, port: int) -> Mapping[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))},
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(_SERVERS),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PEER_MODEL": str(form.model),
        "PEER_FORM": form.kind,
        "PEER_SIDE": str(form.side),
        "PEER_BATCH": str(form.batch),
        "PEER_PORT": str(port),
        "PEER_WORKERS": str(peer.workers),
        "PEER_FOLDER": str(folder),
        "HOME": str(folder),
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),  # Triton looks for the interpreter's library there
    }
