"""What importing brings along. Who may import whom stands in pyproject.toml and is checked by import-linter."""

from __future__ import annotations

import ast
import os
import pathlib
import subprocess
import sys
import tomllib

import pytest

from tests.support.extras import LIGHT_LACKS, SERVE_LACKS, without

pytestmark = pytest.mark.integration

ROOT = pathlib.Path(__file__).resolve().parents[2]
OURS = {
    "accrete": ROOT / "clients/python/accrete",
    "accrete_kit": ROOT / "storage/accrete_kit",
    "accrete_model": ROOT / "storage/accrete_model",
    "accrete_storage": ROOT / "storage/accrete_storage",
    "accrete_learner": ROOT / "learner/accrete_learner",
    "accrete_learner_service": ROOT / "learner/accrete_learner_service",
    "accrete_server": ROOT / "server/accrete_server",
    "accrete_page": ROOT / "server/accrete_page",
    "accrete_node": ROOT / "server/accrete_node",
    "accrete_cluster": ROOT / "server/accrete_cluster",
    "accrete_experiments": ROOT / "server/accrete_experiments",
}


#: Weights from elsewhere are read here. tests/model/test_torch_file.py has the hostile ones.
TENSORS_ALONE = ROOT / "storage/accrete_model/frozen/torch_file.py"


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


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (
            "accrete, accrete_node.commands, accrete_node.processes, accrete_server.app, accrete_page.serving",
            SERVE_LACKS,
        ),
        (
            "accrete_node.up, accrete_node.backbones, accrete_learner_service.app, accrete_experiments.demo.run",
            LIGHT_LACKS,
        ),
        ("accrete_node.up, accrete_cluster.commands, accrete_cluster.operating", ("ray",)),
        # It starts first, and stays beside those that have a use for them.
        ("accrete_node.up", ("numpy", "grpc", "starlette", "uvicorn")),
    ],
    ids=["serve", "light", "all but cluster", "supervisor"],
)
def test_each_extra_has_all_that_its_processes_import(modules: str, absent: tuple[str, ...]):
    code = f"import sys, {modules}; assert not {{*{absent!r}}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, env=os.environ | without(absent))


def test_the_server_extra_has_all_that_the_light_one_has_but_the_other_onnx_runtime():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    everything = set(extras["server"])
    assert {*extras["light"], *extras["serve"]} - everything == {"accrete[serve]", "onnxruntime>=1.23"}


@pytest.mark.parametrize("package", ["accrete_model", "accrete_learner", "benchmarks"])
def test_libraries_are_silenced_before_they_are_imported(package: str):
    code = f"import sys, {package}, os; assert not {{'onnxruntime', 'sklearn'}} & set(sys.modules)"
    code += "; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"
    clean = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, env=clean)


def test_the_one_unpickler_decides_itself_what_a_pickle_may_name():
    tree = ast.parse(TENSORS_ALONE.read_text())
    used = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert [name for name in used if name.startswith("pickle.")] == ["pickle.Unpickler"]
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    (unpickler,) = (node for node in classes if "pickle.Unpickler" in map(ast.unparse, node.bases))
    methods = {node.name: ast.unparse(node) for node in unpickler.body if isinstance(node, ast.FunctionDef)}
    assert {"find_class", "persistent_load"} <= methods.keys()
    assert "super()" not in methods["find_class"]  # which would import what the file names


@pytest.mark.parametrize("package", OURS)
def test_nothing_is_read_in_a_form_that_can_run_code(package: str):
    banned = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
    named = [(path, name) for path, name in _imports(OURS[package]) if name.split(".")[0] in banned]
    wrong = [f"{path.name}: {name}" for path, name in named if not (path == TENSORS_ALONE and name == "pickle")]
    for path in sorted(OURS[package].rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load"):
                safe = {"weights_only": True, "allow_pickle": False}
                given = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
                if not safe.items() & given.items():
                    wrong.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert not wrong, "\n".join(wrong)
