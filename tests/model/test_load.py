"""Loading a version: what is accepted, what is refused and where."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from accrete_model.config import EngineConfig
from accrete_model.engines.onnxruntime_ import cuda_driver_found
from accrete_model.errors import LoadError
from accrete_model.loaded_version import load
from tests.model.artifacts import Recipe, reference_features, write_artifact

CPU = EngineConfig(device="cpu")
NO_GPU = "no NVIDIA driver with a device on this machine"


@pytest.fixture
def artifact(tmp_path):
    return write_artifact(tmp_path / "v", Recipe())


@pytest.mark.parametrize("rule", ["head", "nme", "knn", "svm"])
@pytest.mark.parametrize("head", ["linear", "cosine", "random_features"])
def test_a_version_computes_what_its_trainer_computed(tmp_path, head, rule):
    path = write_artifact(tmp_path / "v", Recipe(head=head, rule=rule))
    loaded = load(path, 3, CPU)
    golden = load_file(path / "golden.safetensors")
    classifier = loaded.classifier()
    probabilities = classifier(loaded.features(golden["input"]))
    assert (loaded.version, classifier.labels) == (3, ("cat", "dog"))
    assert not classifier.provisional.any()
    assert set(loaded.stage_seconds) == {"read", "engine", "golden", "warm"}
    np.testing.assert_allclose(probabilities, golden["probabilities"], atol=1e-5)
    loaded.close()


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
def test_a_batch_of_any_size_gives_the_same_features(artifact, count):
    loaded = load(artifact, 1, CPU)
    batch = np.random.default_rng(1).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    matrix = load_file(artifact / "weights.safetensors")["matrix"]
    np.testing.assert_allclose(loaded.features(batch), reference_features(matrix, batch), rtol=1e-4, atol=1e-4)


def test_an_embedding_passes_through(tmp_path):
    loaded = load(write_artifact(tmp_path / "v", Recipe(shape=(6,))), 1, CPU)
    vector = np.arange(6, dtype=np.float32)[None]
    np.testing.assert_array_equal(loaded.features(vector), vector)


def test_several_threads_may_use_one_version(artifact):
    loaded = load(artifact, 1, CPU)
    batch = load_file(artifact / "golden.safetensors")["input"]
    wanted = loaded.features(batch)
    wrong: list[object] = []

    def work() -> None:
        for _ in range(50):
            if not np.array_equal(loaded.features(batch), wanted):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("name", ["model.json", "graph.onnx", "head.safetensors", "golden.safetensors"])
def test_a_missing_file_is_named(artifact, name):
    (artifact / name).unlink()
    with pytest.raises(LoadError, match=name):
        load(artifact, 1, CPU)


@pytest.mark.parametrize("name", ["model.json", "graph.onnx", "head.safetensors", "golden.safetensors"])
def test_a_cut_file_is_refused(artifact, name):
    (artifact / name).write_bytes((artifact / name).read_bytes()[:-20])
    with pytest.raises(LoadError):
        load(artifact, 1, CPU)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("schema", 2, "schema 2"),
        ("labels", ["cat", "cat"], "twice"),
        ("labels", [], "labels"),
        ("labels", ["cat", "dog", "owl"], r"weight is float32 \[2, 6\]"),
        ("head", "svm", "svm"),
        ("rule", "forest", "forest"),
        ("rule", "knn", r"rule\.safetensors"),
        ("head", "random_features", "projection"),
        ("feature_length", 7, "weight"),
        ("input", {"shape": [4, 4, 2], "dtype": "uint8"}, "2 channels"),
        ("input", {"shape": [8, 8, 3], "dtype": "uint8"}, "input is uint8"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(artifact, field, value, reason):
    card = json.loads((artifact / "model.json").read_text())
    (artifact / "model.json").write_text(json.dumps(card | {field: value}))
    with pytest.raises(LoadError, match=reason):
        load(artifact, 1, CPU)


@pytest.mark.parametrize("field", ["labels", "nme_scale", "input"])
def test_a_card_without_a_field_is_refused(artifact, field):
    card = json.loads((artifact / "model.json").read_text())
    del card[field]
    (artifact / "model.json").write_text(json.dumps(card))
    with pytest.raises(LoadError, match=field):
        load(artifact, 1, CPU)


def _change(path: pathlib.Path, name: str, key: str, change: Callable[[Any], Any]) -> None:
    tensors = load_file(path / name)
    tensors[key] = change(tensors[key].copy())
    save_file(tensors, path / name)


def _poison(tensor: Any) -> Any:
    tensor.flat[0] = np.nan
    return tensor


@pytest.mark.parametrize(
    ("name", "key", "change", "stage"),
    [
        ("head.safetensors", "weight", _poison, "read"),
        ("head.safetensors", "means", lambda t: t[:1], "read"),
        ("head.safetensors", "weight", lambda t: t.astype(np.float64), "read"),
        ("head.safetensors", "weight", lambda t: t * 3, "golden"),
        ("golden.safetensors", "features", lambda t: t + 1, "golden"),
        ("golden.safetensors", "features", _poison, "read"),
        ("golden.safetensors", "probabilities", lambda t: t[:, ::-1].copy(), "golden"),
        ("golden.safetensors", "input", lambda t: t[:0], "read"),
    ],
)
def test_wrong_tensors_are_found_before_they_serve(artifact, name, key, change, stage):
    _change(artifact, name, key, change)
    with pytest.raises(LoadError) as found:
        load(artifact, 1, CPU)
    assert found.value.stage == stage


@pytest.mark.parametrize(
    ("rule", "key", "change", "stage"),
    [
        ("knn", "x", _poison, "read"),
        ("knn", "y", lambda t: t.astype(np.float32), "read"),
        ("knn", "y", lambda t: t[:1], "read"),
        ("knn", "y", lambda t: t[::-1].copy(), "golden"),
        ("knn", "neighbours", lambda t: t - 9, "golden"),
        ("svm", "dual", lambda t: t[:1], "read"),
        ("svm", "x", lambda t: t[:, 1:].copy(), "read"),
        ("svm", "gamma", lambda t: t * 9, "golden"),
    ],
)
def test_wrong_tensors_of_a_rule_are_found_before_they_serve(tmp_path, rule, key, change, stage):
    path = write_artifact(tmp_path / "v", Recipe(rule=rule))
    _change(path, "rule.safetensors", key, change)
    with pytest.raises(LoadError) as found:
        load(path, 1, CPU)
    assert found.value.stage == stage


def test_a_head_may_hold_tensors_that_no_server_reads(artifact):
    head = load_file(artifact / "head.safetensors")
    save_file(head | {"blocks": np.array([0, 1])}, artifact / "head.safetensors")
    assert load(artifact, 1, CPU).labels == ("cat", "dog")


def test_weights_that_are_not_finite_are_found_by_the_golden_check(tmp_path):
    import onnx
    from onnx import numpy_helper

    path = write_artifact(tmp_path / "v", Recipe())
    model = onnx.load_from_string((path / "graph.onnx").read_bytes())
    matrix = next(tensor for tensor in model.graph.initializer if tensor.name == "matrix")
    matrix.CopyFrom(numpy_helper.from_array(_poison(numpy_helper.to_array(matrix).copy()), "matrix"))
    (path / "graph.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(LoadError, match="not finite"):
        load(path, 1, CPU)


@pytest.mark.skipif(cuda_driver_found(), reason="this machine has a GPU")
@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_cuda_asked_for_and_not_there_is_an_error_that_says_so(artifact, engine):
    with pytest.raises(LoadError, match="device = cuda"):
        load(artifact, 1, EngineConfig(engine=engine, device="cuda"))


@pytest.mark.skipif(cuda_driver_found(), reason="this machine has a GPU")
def test_auto_takes_the_cpu_where_there_is_no_gpu(artifact):
    loaded = load(artifact, 1, EngineConfig(device="auto"))
    assert loaded.engine_name == "onnxruntime CPUExecutionProvider"
    assert not loaded.on_gpu


@pytest.mark.skipif(not cuda_driver_found(), reason=NO_GPU)
@pytest.mark.parametrize("count", [1, 3, 64, 70])
def test_cuda_computes_what_the_cpu_computes(artifact, count):
    batch = np.random.default_rng(1).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    loaded = load(artifact, 1, EngineConfig(device="cuda"))
    assert loaded.engine_name == "onnxruntime CUDAExecutionProvider"
    np.testing.assert_allclose(loaded.features(batch), load(artifact, 1, CPU).features(batch), rtol=1e-3, atol=1e-3)


def test_serving_with_onnx_runtime_never_imports_torch(artifact):
    code = (
        "import sys, pathlib\n"
        "from accrete_model.config import EngineConfig\n"
        "from accrete_model.loaded_version import load\n"
        "load(pathlib.Path(sys.argv[1]), 1, EngineConfig(device='cpu'))\n"
        "assert not {'torch', 'sklearn', 'accrete_learner'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(artifact)], check=True, timeout=300)


@pytest.mark.parametrize("where", ["weights.bin", "../weights.bin"])
def test_a_graph_that_points_to_other_files_is_refused(artifact, where, monkeypatch):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(artifact / "graph.onnx")
    monkeypatch.chdir(artifact)  # even where the file would be found
    for tensor in graph.graph.initializer:
        if tensor.raw_data and len(tensor.raw_data) >= 16:
            (artifact / where).write_bytes(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=where)
            break
    else:
        pytest.fail("the graph has no tensor to move")
    (artifact / "graph.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(LoadError, match="graph.onnx"):
        load(artifact, 1, CPU)
