"""An unmodified tritonclient, driven for real.

It wants protobuf < 7 and we may have a newer one, so that it lives in an environment of its own: the one whose Python
ACCRETE_TRITON_PYTHON names, or one that is made from PyPI and kept in pytest's cache.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2

from accrete.inference import model_config_pb2, service_pb2
from accrete.v1 import prediction_pb2, types_pb2
from tests.model.artifacts import Recipe
from tests.server.pictures import encode, picture
from tests.server.world import World, raw
from tests.support.store import SharedStore

pytestmark = pytest.mark.integration

REQUIRED = ("tritonclient[grpc]==2.73.0", "numpy")
SCRIPT = Path(__file__).with_name("triton_client.py")
FOUR = ("cat", "dog", "owl", "yak")


def _clean() -> dict[str, str]:
    """The environment without what would have a Python look for packages in ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="session")
def triton_python(request: pytest.FixtureRequest) -> Path:
    """The Python of an environment that has tritonclient."""
    named = os.environ.get("ACCRETE_TRITON_PYTHON")
    if named:
        return Path(named)
    assert request.config.cache is not None
    home = request.config.cache.mkdir("tritonclient-2.73.0")
    python, complete = home / "bin" / "python", home / "complete"
    if not complete.exists():
        shutil.rmtree(home)
        venv.create(home, with_pip=True)  # its own pip: older ones see what is installed beside them
        pip = [str(python), "-m", "pip", "install", "--quiet", "--retries", "1", *REQUIRED]
        try:
            made = subprocess.run(pip, capture_output=True, text=True, timeout=300, env=_clean())
        except subprocess.TimeoutExpired:
            pytest.skip("tritonclient cannot be installed: PyPI does not answer")
        if made.returncode:
            pytest.skip(f"tritonclient cannot be installed: {made.stderr.strip()[-300:]}")
        complete.touch()
    return python


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two image files."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "a.png").write_bytes(encode(picture(9, 7), "PNG"))
    (folder / "b.jpg").write_bytes(encode(picture(40, 30, seed=1), "JPEG"))
    return folder


@pytest.fixture(scope="module")
def told(
    triton_python: Path, folder: Path, shared_store: SharedStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """What tritonclient was answered; and by Predict, of the same images."""
    world = World(tmp_path_factory.mktemp("w"), shared_store.config())
    batch = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    world.publish_with_holdout(batch, Recipe(labels=FOUR))
    running = world.server()
    command = [str(triton_python), str(SCRIPT), running.server.address, *map(str, sorted(folder.iterdir()))]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300, env=_clean())
        assert ended.returncode == 0, ended.stderr
        sent = [types_pb2.Image(encoded=path.read_bytes()) for path in sorted(folder.iterdir())]
        ask = running.prediction.Predict
        images = [raw(image) for image in batch]
        yield json.loads(ended.stdout) | {
            "pixels": ask(prediction_pb2.PredictRequest(images=images), timeout=300),
            "marked": ask(prediction_pb2.PredictRequest(images=images, unknown_rate=0.06), timeout=300),
            "files": ask(prediction_pb2.PredictRequest(images=sent), timeout=300),
        }
    finally:
        world.close()


def test_it_lists_and_checks(told: dict[str, Any]) -> None:
    asked = told["asked"]
    assert (asked["live"], asked["ready"], asked["other ready"]) == (True, True, False)
    assert asked["model ready"] == [True, True, False]
    assert asked["server"]["name"] == "accrete"
    assert asked["metadata"]["versions"] == ["1"]
    assert asked["metadata"]["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": ["-1", "4", "4", "3"]}]
    assert asked["index"] == {"models": [{"name": "accrete", "version": "1", "state": "READY"}]}
    config = asked["config"]
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (64, ["4", "4", "3"])
    assert [output["data_type"] for output in config["output"]] == [
        "TYPE_STRING",
        "TYPE_FP32",
        "TYPE_BOOL",
        "TYPE_BOOL",
    ]


@pytest.mark.parametrize("way", ["pixels", "named version", "async", "asyncio", "shared memory", "files"])
def test_it_infers_what_predict_answers(way: str, told: dict[str, Any]) -> None:
    got, wanted = told["asked"][way], told["files" if way == "files" else "pixels"]
    assert got["version"] == "1"
    assert got["label"] == [[prediction.labels[0].label] for prediction in wanted.predictions]
    assert got["provisional"] == got["unknown"] == [[False]] * len(wanted.predictions)
    for probabilities, prediction in zip(got["probabilities"], wanted.predictions, strict=True):
        by_label = {ranked.label: ranked.probability for ranked in prediction.labels}
        np.testing.assert_allclose(probabilities, [by_label[label] for label in FOUR], rtol=1e-5)


def test_it_has_images_near_no_class_marked(told: dict[str, Any]) -> None:
    marks = [[prediction.unknown] for prediction in told["marked"].predictions]
    assert sum(mark for [mark] in marks) == 1
    assert told["asked"]["unknown"]["unknown"] == marks


def test_it_reads_classes_with_their_labels(told: dict[str, Any]) -> None:
    for row, prediction in zip(told["asked"]["top"], told["pixels"].predictions, strict=True):
        assert [text.split(":")[2] for text in row] == [ranked.label for ranked in prediction.labels[:2]]
        assert [FOUR[int(text.split(":")[1])] for text in row] == [text.split(":")[2] for text in row]


def test_it_is_told_what_is_wrong(told: dict[str, Any]) -> None:
    asked = told["asked"]
    assert asked["no such version"][0] == asked["no such model"][0] == "StatusCode.NOT_FOUND"
    assert "version '9' of 'accrete' is not live" in asked["no such version"][1]
    assert asked["no such region"][0] == "StatusCode.NOT_FOUND"
    assert asked["cuda"][0] == "StatusCode.UNIMPLEMENTED"


def test_its_regions_are_there_until_it_unregisters_them(told: dict[str, Any]) -> None:
    assert "system_shared_memory" in told["asked"]["server"]["extensions"]
    assert told["asked"]["shared memory"]["listed"] == ["pixels"]
    assert told["asked"]["shared memory"]["left"] == {}


def test_it_reads_counters_that_count(told: dict[str, Any]) -> None:
    (own,) = told["asked"]["statistics"]
    assert (own["name"], own["version"]) == ("accrete", "1")
    assert (own["inference_count"], own["execution_count"]) == ("23", "8")
    stats = own["inference_stats"]
    counts = {stats[part]["count"] for part in ("success", "queue", "compute_input", "compute_infer", "compute_output")}
    assert counts == {"8"}
    assert stats["fail"]["count"] == "2"
    assert {size["batch_size"]: size["compute_infer"]["count"] for size in own["batch_stats"]} == {"2": "1", "3": "7"}


@pytest.mark.parametrize(("file", "module"), [("service", service_pb2), ("model_config", model_config_pb2)])
def test_names_and_numbers_are_those_that_it_knows(file: str, module: Any, told: dict[str, Any]) -> None:
    theirs = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(told["contract"][file]))
    ours = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    known = facts(theirs)
    assert len(facts(ours)) > 20
    assert facts(ours) - known == set()


def facts(file: descriptor_pb2.FileDescriptorProto) -> set[tuple[object, ...]]:
    """All that goes over the wire: fields, values of enumerations, methods."""
    found: set[tuple[object, ...]] = set()
    for service in file.service:
        found |= {(service.name, method.name, method.input_type, method.output_type) for method in service.method}
    for enumeration in file.enum_type:
        found |= _values(enumeration, file.package)
    for message in file.message_type:
        found |= _of_message(message, file.package)
    return found


def _values(enumeration: descriptor_pb2.EnumDescriptorProto, inside: str) -> set[tuple[object, ...]]:
    return {(inside, enumeration.name, value.name, value.number) for value in enumeration.value}


def _of_message(message: descriptor_pb2.DescriptorProto, inside: str) -> set[tuple[object, ...]]:
    path = f"{inside}.{message.name}"
    found: set[tuple[object, ...]] = {
        (path, field.name, field.number, field.type, field.label, field.type_name) for field in message.field
    }
    for nested in message.nested_type:
        found |= _of_message(nested, path)
    for enumeration in message.enum_type:
        found |= _values(enumeration, path)
    return found
