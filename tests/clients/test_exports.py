"""The public face: names, types, and what an install without extras can do."""

from __future__ import annotations

import importlib
import json
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import accrete

pytestmark = pytest.mark.integration

BLOCKED = (
    "PIL",
    "annotated_types",
    "grpc_health",
    "grpc_reflection",
    "msgpack",
    "onnx",
    "onnxruntime",
    "prometheus_client",
    "pydantic",
    "redis",
    "rich",
    "sklearn",
    "torch",
    "torchvision",
    "typer",
)
CLI = ("annotated_types", "pydantic", "rich", "typer")
"""What comes with the `cli` extra."""
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
"""
MAIN = "from accrete.cli import main; sys.exit(main(sys.argv[1:]))"


def _base_install(code: str, *arguments: str, extra: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run code where only grpcio, protobuf, numpy and what an extra brings can be imported."""
    block = BLOCK.format(blocked=tuple(name for name in BLOCKED if name not in extra))
    command = [sys.executable, "-W", "error", "-c", block + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_exported_names_are_sorted_and_all_there_is():
    exports = importlib.import_module("accrete._exports")
    public = {name for name in vars(exports) if not name.startswith("_")}
    assert accrete.__all__ == sorted(accrete.__all__)
    assert set(accrete.__all__) == public
    assert set(accrete.__all__) <= {*dir(accrete)}


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = accrete.Nothing


def test_exported_classes_show_their_public_name():
    assert accrete.Client.__module__ == accrete.NoModel.__module__ == "accrete"


def test_all_modules_but_the_command_line_and_the_stubs_are_private():
    names = {module.name for module in pkgutil.iter_modules(accrete.__path__)}
    assert {name for name in names if not name.startswith("_")} == {"cli", "inference", "v1"}


def test_the_package_is_typed():
    assert (pathlib.Path(accrete.__file__).parent / "py.typed").exists()


def test_every_error_is_in_the_tree():
    errors = importlib.import_module("accrete._errors")
    kinds = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert all(issubclass(kind, accrete.AccreteError) for kind in kinds)
    assert {kind.__name__ for kind in kinds} <= set(accrete.__all__)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)


def test_the_base_install_predicts_and_teaches(server, tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(b"a")
    code = """
import numpy as np, accrete
with accrete.Client(sys.argv[1]) as client:
    report = client.add_folder(sys.argv[2])
    print(client.predict(np.zeros((4, 4), np.uint8)).label, report.stored)
"""
    done = _base_install(code, server.address, str(tmp_path))
    assert (done.stdout, done.stderr) == ("cat 1\n", "")


@pytest.mark.parametrize("arguments", [["status"], ["up"], ["--help"], []])
def test_the_base_install_says_which_extra_has_the_command_line(arguments):
    done = _base_install(MAIN, *arguments)
    assert done.returncode == 2
    assert done.stderr == 'accrete: the command line needs an extra: pip install "accrete[cli]"\n'


def test_the_extra_has_the_command_line(server):
    done = _base_install(MAIN, "status", "--json", "--address", server.address, extra=CLI)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == 1


@pytest.mark.parametrize(
    "command", ["up", "serve", "learn", "demo", "bench protocol --data x --out y", "backup x", "restore x"]
)
def test_a_command_of_the_server_says_what_to_install(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = _base_install(MAIN, *command.split(), extra=CLI)
    assert done.returncode == 2
    assert 'pip install "accrete[server]"' in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
