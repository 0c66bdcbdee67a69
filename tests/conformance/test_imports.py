"""Who may import whom: data flows one way."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
OURS = {
    "accrete": ROOT / "clients/python/accrete",
    "accrete_storage": ROOT / "storage/accrete_storage",
    "accrete_learner": ROOT / "learner/accrete_learner",
    "accrete_learner_service": ROOT / "learner/accrete_learner_service",
    "accrete_model": ROOT / "server/accrete_engine",
    "accrete_server": ROOT / "server/accrete_server",
    "accrete_node": ROOT / "server/accrete_node",
}
ALLOWED = {
    "accrete": set(),
    "accrete_storage": set(),
    "accrete_learner": set(),
    "accrete_model": {
        "accrete_learner.backbones",
        "accrete_learner.config",  # the PyTorch engine rebuilds the network
        "accrete_kit.failpoints",  # standard library alone
    },
    "accrete_server": {"accrete.v1", "accrete.inference", "accrete_model", "accrete_storage"},
    "accrete_learner_service": {
        "accrete_model",
        "accrete_storage",
        "accrete_learner.memory.config",
        "accrete_learner.config",
        "accrete_learner.trainer.job",
        "accrete_learner.metrics",
    },
    "accrete_node": set(OURS) | {"accrete.v1"},
}
FOREIGN = {
    "accrete": {"torch", "redis", "onnxruntime", "prometheus_client", "pydantic", "msgpack"},
    "accrete_storage": {"torch", "grpc", "onnxruntime", "google"},
    "accrete_learner": {"redis", "grpc", "google", "prometheus_client", "pydantic"},
    "accrete_server": {"torch", "torchvision"},
    "accrete_learner_service": {"torch", "torchvision", "grpc"},
    "accrete_node": {"torch", "torchvision"},
}


def _imports(package: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
    found = []
    for path in sorted(package.rglob("*.py")):
        if "_pb2" in path.name:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found += [(path, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found += [(path, f"{node.module}.{alias.name}") for alias in node.names]
    return found


@pytest.mark.parametrize("package", OURS)
def test_a_package_imports_only_those_below_it(package: str):
    def allowed(name: str) -> bool:
        top = name.split(".")[0]
        return top not in OURS or top == package or any(f"{name}.".startswith(f"{a}.") for a in ALLOWED[package])

    wrong = [f"{path.relative_to(ROOT)}: {name}" for path, name in _imports(OURS[package]) if not allowed(name)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", FOREIGN)
def test_a_package_keeps_foreign_libraries_out(package: str):
    banned = FOREIGN[package]
    wrong = [
        f"{path.relative_to(ROOT)}: {name}" for path, name in _imports(OURS[package]) if name.split(".")[0] in banned
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "module", ["accrete", "accrete_server.app", "accrete_learner_service.app", "accrete_node.commands"]
)
def test_a_process_starts_without_torch(module: str):
    code = f"import sys, {module}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("package", OURS)
def test_nothing_is_read_in_a_form_that_can_run_code(package: str):
    banned = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
    wrong = [f"{path.name}: {name}" for path, name in _imports(OURS[package]) if name.split(".")[0] in banned]
    for path in sorted(OURS[package].rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load"):
                safe = {"weights_only": True, "allow_pickle": False}
                given = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
                if not safe.items() & given.items():
                    wrong.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert not wrong, "\n".join(wrong)
