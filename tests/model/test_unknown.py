"""Calling an image unknown at a rate of false alarms that is known."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from accrete_model.config import EngineConfig
from accrete_model.errors import LoadError
from accrete_model.loaded_version import load
from accrete_model.scoring import PrototypeSet
from accrete_model.unknown import NEVER, threshold
from accrete_model.vectors import unit
from tests.model.artifacts import Recipe, write_artifact

CPU = EngineConfig(device="cpu")


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_images_that_did_not_set_the_threshold_are_called_unknown_at_the_rate_that_is_told(rate):
    draws = np.random.default_rng(3).standard_normal((3_000, 80)).astype(np.float32)
    found = [(row[0] < (below := threshold(np.sort(row[1:]), rate)).nearness, below.rate) for row in draws]
    alarms, told = np.mean(found, axis=0)
    assert told <= rate
    assert alarms == pytest.approx(told, abs=0.03)


def test_a_holdout_too_small_for_the_rate_calls_nothing_unknown():
    assert threshold(np.zeros(18, np.float32), 0.05) == NEVER
    assert threshold(np.zeros(19, np.float32), 0.05).rate == pytest.approx(0.05)
    assert threshold(np.zeros(0, np.float32), 0.5) == NEVER
    assert threshold(np.zeros(100, np.float32), 0) == NEVER


def test_a_version_has_the_nearness_of_its_holdout(tmp_path):
    loaded = load(write_artifact(tmp_path / "v", Recipe(nearness=(0.9, 0.1, 0.5))), 1, CPU)
    assert loaded.unknown_below(0.25).nearness == pytest.approx(0.1)
    assert loaded.unknown_below(0.25).rate == 0.25
    assert loaded.unknown_below(0.5).nearness == pytest.approx(0.5)


def test_a_version_of_an_earlier_release_calls_nothing_unknown(tmp_path):
    assert load(write_artifact(tmp_path / "v", Recipe()), 1, CPU).unknown_below(0.5) == NEVER


def test_a_damaged_file_of_the_holdout_is_a_damaged_version(tmp_path):
    path = write_artifact(tmp_path / "v", Recipe())
    save_file({"nearness": np.array([np.nan], np.float32)}, path / "holdout.safetensors")
    with pytest.raises(LoadError, match=r"holdout\.safetensors"):
        load(path, 1, CPU)


def test_what_is_near_a_prototype_or_a_class_that_is_not_masked_is_near(tmp_path):
    loaded = load(write_artifact(tmp_path / "v", Recipe()), 1, CPU)
    features = np.random.default_rng(4).standard_normal((5, 6)).astype(np.float32)
    prototype = unit(features[:1])
    near = loaded.classifier(prototypes=PrototypeSet(labels=("owl",), vectors=prototype)).nearness(features)
    alone, without_cat = (
        loaded.classifier().nearness(features),
        loaded.classifier(frozenset({"cat"})).nearness(features),
    )
    assert near[0] == pytest.approx(1)
    assert (near > alone - 1e-6).all()
    assert (alone > without_cat - 1e-6).all()
    assert (alone > without_cat + 0.1).any()
