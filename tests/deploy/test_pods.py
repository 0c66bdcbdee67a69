"""A server and a learner run as the chart's pods say: each is process 1 and can write to its volumes alone."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from accrete import Client
from accrete_server.grpc_server import LIVENESS
from benchmarks.waiting import free_port, until
from tests.deploy.rendered import CHART, LEAST, NAMESPACE, RELEASE, changed, parse
from tests.support.store import SharedStore

helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
pytestmark = pytest.mark.integration

NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(autouse=True)
def _can_make_namespaces():
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACES, "true"], capture_output=True).returncode:
        pytest.skip("namespaces of the kernel cannot be made here: that takes root on Linux")


@contextmanager
def pod(deployment: dict[str, Any], place: Path, **variables: str) -> Iterator[int]:
    """Run a Deployment's container on volumes below `place`, and yield its process, as this machine numbers it.

    "/" in the pod is this machine's, read-only; its mounts are below `place`/NAME in place of "/".
    """
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    root = place / container["name"]
    script = ["mount --make-rprivate /"]
    for mount in container["volumeMounts"]:
        shared = mount["name"] in ("config", "versions")
        source = (place if shared else root / "volumes") / mount["name"] / mount.get("subPath", "")
        target = Path(f"{root}{mount['mountPath']}")
        if not source.exists():
            source.mkdir(parents=True)
        # What is mounted on something that is mounted has its place there.
        script.append(f"[ -f {source} ] && touch {target} || mkdir -p {target}")
        script.append(f"mount --bind {source} {target}")
        if mount.get("readOnly"):
            script.append(f"mount -o remount,bind,ro {target}")
    command = shlex.join([sys.executable, "-m", "accrete", *container["args"]])
    script += ["mount -t proc proc /proc", "mount -o remount,bind,ro /", f"cd {root}/data", f"exec {command}"]
    (root / "etc/accrete").mkdir(parents=True)
    own = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    own |= {"ACCRETE_CONFIG": f"{root}{own['ACCRETE_CONFIG']}", "ACCRETE_DATA_DIR": f"{root}/data", **variables}
    process = subprocess.Popen(
        [*NAMESPACES, "sh", "-ec", "\n".join(script)], env={**os.environ, "TMPDIR": f"{root}/tmp", **own}
    )
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        yield int(until(children.read_text))
    finally:
        process.kill()
        process.wait()


def test_a_server_and_a_learner_meet_in_the_volume_of_versions_and_write_nowhere_else(
    shared_store: SharedStore, tmp_path: Path
):
    values = changed(LEAST, {"preset": "embeddings", "settings": {"model": {"embedding": 4}}})
    config = shared_store.config()
    with helm.Chart.load(str(CHART)) as chart:
        rendered = parse(chart.render(values, name=RELEASE, namespace=NAMESPACE))
    (tmp_path / "config").mkdir()
    for name, text in rendered.one("ConfigMap", "demo-accrete")["data"].items():
        (tmp_path / "config" / name).write_text(text.replace('data_dir = "/data"\n', ""))
    port = free_port()
    address = f"127.0.0.1:{port}"
    variables = {
        "ACCRETE_STORE__URL": config.url,
        "ACCRETE_STORE__PREFIX": config.prefix,
        "ACCRETE_SERVER__PORT": str(port),
        "ACCRETE_SERVER__METRICS_PORT": "0",
        "ACCRETE_LEARNER__METRICS_PORT": "0",
    }
    deployments = [rendered.one("Deployment", f"demo-accrete-{name}") for name in ("server", "learner")]
    with ExitStack() as stack:
        server, _ = (stack.enter_context(pod(one, tmp_path, **variables)) for one in deployments)
        channel = stack.enter_context(grpc.insecure_channel(address))
        check = health_pb2_grpc.HealthStub(channel).Check
        for service in ("", LIVENESS):  # what the probes ask
            asked = health_pb2.HealthCheckRequest(service=service)
            assert check(asked, wait_for_ready=True, timeout=300).status == SERVING
        client = stack.enter_context(Client(address, node="prod/demo-accrete"))
        vectors = np.eye(2, 4, dtype=np.float32)
        taught = client.add_examples([("left", vectors[0]), ("right", vectors[1])])
        client.wait_learned(taught.ids)
        assert [answer.label for answer in client.predict(list(vectors))] == ["left", "right"]
        version = client.status().version
        assert (tmp_path / "versions" / "versions" / f"v{version:06d}" / "manifest.json").is_file()
        data = tmp_path / "server" / "volumes" / "data"
        until((data / "active.json").is_file, "the note of what is live, in the pod's own folder")
        assert f"\nNSpid:\t{server}\t1\n" in Path(f"/proc/{server}/status").read_text()
        inside = Path(f"/proc/{server}/root{tmp_path}/server")
        for folder in ("data/versions", "data/backbones", "etc"):
            with pytest.raises(OSError, match="Read-only"):
                (inside / folder / "new").touch()
        os.kill(server, signal.SIGTERM)
        until(lambda: not (data / "server.json").exists())
