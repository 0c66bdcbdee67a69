"""What is left of a step when examples are deleted while it runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accrete_learner_service.step.deleted import without_deleted
from accrete_learner_service.step.inputs import read_inputs
from accrete_storage.errors import InputsChanged
from accrete_storage.store import Store
from tests.learner_service.helpers import digits
from tests.learner_service.run_learner import HOLDOUT


def test_what_is_deleted_is_in_no_list_nor_anything_made_from_it(store: Store):
    store.pending.add([*digits(0, 30), *digits(1, 30)])
    inputs = read_inputs(store, {"digit 0", "digit 1"}, HOLDOUT)
    trained, measured = inputs.new[3], inputs.holdout["digit 1"][0]
    made = replace(inputs.new[0], id="made", made_from=frozenset({inputs.new[0].id, trained.id}))
    whole = replace(inputs.new[0], id="whole", made_from=frozenset({inputs.new[0].id}))
    store.control.delete_examples([trained.id, measured.id])
    left, exemplars = without_deleted(store, inputs, {trained.label: [*inputs.new[:5], made, whole]})
    assert [one.id for one in exemplars[trained.label]] == [*(inputs.new[n].id for n in (0, 1, 2, 4)), "whole"]
    assert left.new == [one for one in inputs.new if one is not trained]
    assert left.holdout["digit 1"] == inputs.holdout["digit 1"][1:]
    assert left.revision == store.registry.state().revision > inputs.revision
    assert left.consumed == inputs.consumed


def test_a_class_that_is_forgotten_ends_the_step_all_the_same(store: Store):
    store.pending.add([*digits(0, 30), *digits(1, 30)])
    inputs = read_inputs(store, {"digit 0", "digit 1"}, HOLDOUT)
    store.control.forget_class("digit 1")
    with pytest.raises(InputsChanged, match="a class was forgotten"):
        without_deleted(store, inputs, {})
