"""What is written of a version reads back the same, and what no server may see is not written."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from accrete_model import files
from accrete_model.card import ModelCard
from accrete_model.errors import LoadError
from accrete_model.input_spec import InputSpec
from accrete_model.reader import read_artifact
from accrete_model.writer import write_artifact, write_nearness, write_tensors

CARD = ModelCard(
    backbone="identity",
    spec=InputSpec((2,), "float32"),
    feature_length=2,
    labels=("Käfer", "dog"),
    head="linear",
    rule="head",
    method="lucir",
)


def floats(*values: Any) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def arrays() -> dict[str, Any]:
    return {
        "graph": b"graph",
        "weights": {"scale": np.array(3), "rows": floats([1, 2], [3, 4]).T},
        "head": {"weight": floats([1, 0], [0, 1]), "bias": floats(0, 0), "means": floats([1, 0], [0, 1])},
        "fitted": {},
        "golden_input": floats([1, 2]),
        "golden_features": floats([1, 2]),
    }


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    write_artifact(tmp_path / "v", CARD, **arrays())
    write_nearness(tmp_path / "v", floats(0.5, -1, 0.25))
    read = read_artifact(tmp_path / "v")
    assert read.card == CARD
    assert read.nearness.tolist() == [-1, 0.25, 0.5]
    assert read.read(files.GRAPH_FILE) == b"graph"
    np.testing.assert_allclose(read.golden.probabilities, [[1 / (1 + np.e), np.e / (1 + np.e)]], rtol=1e-6)


def test_model_json_has_the_fields_of_its_schema_in_plain_letters(tmp_path: Path) -> None:
    write_artifact(tmp_path / "v", CARD, **arrays())
    text = (tmp_path / "v" / "model.json").read_text(encoding="utf-8")
    assert "Käfer" in text
    assert json.loads(text) == {
        "schema": 1,
        "backbone": "identity",
        "last_relu": False,
        "input": {"shape": [2], "dtype": "float32"},
        "feature_length": 2,
        "labels": ["Käfer", "dog"],
        "head": "linear",
        "rule": "head",
        "method": "lucir",
        "nme_scale": 10.0,
    }


def test_a_card_says_how_images_are_cropped_and_nothing_where_they_are_stretched() -> None:
    cropped = replace(CARD, spec=InputSpec((8, 8, 3), "uint8", shorter_side=10))
    assert ModelCard.from_json(cropped.to_json()) == cropped
    stretched = replace(CARD, spec=InputSpec((8, 8, 3), "uint8"))
    assert json.loads(stretched.to_json())["input"] == {"shape": [8, 8, 3], "dtype": "uint8"}
    assert ModelCard.from_json(stretched.to_json()) == stretched


def test_a_card_of_an_earlier_release_has_no_last_relu() -> None:
    fields = json.loads(replace(CARD, last_relu=True).to_json())
    assert ModelCard.from_json(json.dumps(fields)).last_relu
    del fields["last_relu"]
    assert ModelCard.from_json(json.dumps(fields)) == CARD


def test_a_card_says_which_features_they_are_where_they_are_not_the_last() -> None:
    blocks = replace(CARD, features="blocks")
    assert ModelCard.from_json(blocks.to_json()) == blocks
    with pytest.raises(LoadError, match="features 'all'; known: last, blocks"):
        ModelCard.from_json(blocks.to_json().replace('"blocks"', '"all"'))


def test_arrays_of_any_shape_and_order_keep_their_values_and_the_umask_decides_who_reads(tmp_path: Path) -> None:
    written = {"none": floats().reshape(0, 3), "one": np.array(7), "turned": floats([1, 2, 3], [4, 5, 6]).T}
    write_tensors(tmp_path / "file", written)
    read = load_file(tmp_path / "file")
    assert {name: array.shape for name, array in read.items()} == {"none": (0, 3), "one": (), "turned": (3, 2)}
    for name, array in written.items():
        np.testing.assert_array_equal(read[name], array)
    (tmp_path / "plain").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "plain")}
    assert len(modes) == 1


@pytest.mark.parametrize("where", ["weights", "head", "fitted"])
def test_what_is_not_finite_is_never_written(where: str, tmp_path: Path) -> None:
    made = arrays()
    made[where]["bad"] = floats(np.nan)
    with pytest.raises(ValueError, match="'bad' is not finite"):
        write_artifact(tmp_path / "v", CARD, **made)
    assert not (tmp_path / "v").exists()


def test_arrays_that_do_not_fit_the_card_are_never_written(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"weight is float32 \[2, 2\]"):
        write_artifact(tmp_path / "v", replace(CARD, labels=("one",)), **arrays())
    assert not (tmp_path / "v").exists()
