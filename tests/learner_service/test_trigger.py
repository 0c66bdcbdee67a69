"""When a step starts."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from accrete_learner_service.config import TriggerConfig
from accrete_learner_service.trigger import Decision, Settling, decide, waits_for
from accrete_storage.examples.pending import PendingCount

CONFIG = TriggerConfig(classes_per_step=2, first_classes=3, min_examples=20, max_wait_s=60, refresh_examples=50)
NOW = 1_000_000


def pending(examples: int, holdout: int = 0, age_s: float = 1) -> PendingCount:
    return PendingCount(examples=examples, holdout=holdout, oldest_ms=NOW - int(age_s * 1000))


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    pending: dict[str, PendingCount]
    known: tuple[str, ...] = ("old",)
    quarantined: dict[str, int] = field(default_factory=dict)
    by_hand: bool = False
    labels: set[str] | None = None
    reason: str = ""


CASES = [
    Case(name="nothing is pending", pending={}),
    Case(name="nothing is pending, by hand", pending={}, by_hand=True),
    Case(name="too few classes are ready", pending={"a": pending(20), "b": pending(19)}),
    Case(
        name="enough classes are ready",
        pending={"a": pending(20), "b": pending(25)},
        labels={"a", "b"},
        reason="2 new classes with at least 20 examples each",
    ),
    Case(
        name="known classes come along, new ones that are not ready do not",
        pending={"a": pending(20), "b": pending(20), "c": pending(3), "old": pending(2)},
        labels={"a", "b", "old"},
        reason="2 new classes with at least 20 examples each",
    ),
    Case(name="the first step needs more classes", pending={"a": pending(20), "b": pending(20)}, known=()),
    Case(
        name="the first step has its classes",
        pending={"a": pending(20), "b": pending(20), "c": pending(20)},
        known=(),
        labels={"a", "b", "c"},
        reason="3 new classes with at least 20 examples each",
    ),
    Case(
        name="the oldest has waited too long",
        pending={"a": pending(3, age_s=60), "old": pending(1)},
        labels={"a", "old"},
        reason="the oldest pending example has waited 60 s",
    ),
    Case(name="the oldest has not waited long enough", pending={"a": pending(3, age_s=59)}),
    Case(
        name="known classes have new examples",
        pending={"old": pending(60, holdout=10), "a": pending(5)},
        labels={"old"},
        reason="50 new examples of known classes",
    ),
    Case(name="hold-out examples refresh nothing", pending={"old": pending(60, holdout=11)}),
    Case(
        name="by hand takes everything",
        pending={"old": pending(1), "a": pending(1)},
        by_hand=True,
        labels={"old", "a"},
        reason="asked for by hand",
    ),
    Case(name="hold-out examples alone wait", pending={"old": pending(3, holdout=3, age_s=99)}),
    Case(name="hold-out examples alone wait, by hand", pending={"old": pending(3, holdout=3)}, by_hand=True),
    Case(
        name="a new class whose few examples were all set aside is learned all the same",
        pending={"a": pending(3, holdout=3, age_s=60)},
        labels={"a"},
        reason="the oldest pending example has waited 60 s",
    ),
    Case(
        name="it comes along by hand, too",
        pending={"a": pending(2, holdout=2), "old": pending(1)},
        by_hand=True,
        labels={"old", "a"},
        reason="asked for by hand",
    ),
    Case(name="a class in quarantine is left out", pending={"a": pending(29), "b": pending(20)}, quarantined={"a": 20}),
    Case(
        name="a class in quarantine comes back with half as many again",
        pending={"a": pending(30), "b": pending(20)},
        quarantined={"a": 20},
        labels={"a", "b"},
        reason="2 new classes with at least 20 examples each",
    ),
    Case(
        name="by hand takes classes in quarantine",
        pending={"a": pending(20)},
        quarantined={"a": 20},
        by_hand=True,
        labels={"a"},
        reason="asked for by hand",
    ),
    Case(
        name="a class in quarantine does not wait too long",
        pending={"a": pending(20, age_s=999)},
        quarantined={"a": 20},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_step_starts_when_the_rules_say(case: Case):
    decision = decide(
        case.pending, known=case.known, quarantined=case.quarantined, config=CONFIG, now_ms=NOW, by_hand=case.by_hand
    )
    if case.labels is None:
        assert decision is None
    else:
        assert decision is not None
        assert decision.labels == case.labels
        assert decision.reason == case.reason


BY_COUNT = Decision(labels=frozenset("a"), reason="", cause="count")
BY_HAND = Decision(labels=frozenset("a"), reason="", cause="hand")


def test_a_step_by_count_waits_until_the_upload_rests():
    settling = Settling(TriggerConfig(settle_s=1))
    looks = [settling.over(BY_COUNT, arrived, now) for now, arrived in ((0, 20), (0.5, 30), (1.4, 30), (1.5, 30))]
    assert looks == [False, False, False, True]


def test_a_stream_that_never_rests_is_not_kept_waiting():
    settling = Settling(TriggerConfig(settle_s=1))
    looks = [settling.over(BY_COUNT, now, now) for now in range(12)]
    assert looks.index(True) == 10


def test_a_step_by_hand_does_not_wait():
    assert Settling(TriggerConfig(settle_s=1)).over(BY_HAND, 1, 0)


def test_nothing_decided_starts_nothing():
    assert not Settling(TriggerConfig(settle_s=0)).over(None, 1, 0)


WAITS = {
    "nothing": ({}, ("old",), {}, []),
    "what starts": ({"a": pending(20), "b": pending(20)}, ("old",), {}, []),
    "what is in quarantine": ({"a": pending(29)}, ("old",), {"a": 20}, []),
    "short": (
        {"b": pending(3, age_s=20), "a": pending(19)},
        ("old",),
        {},
        [
            "examples of new labels: a has 19 of 20, b has 3 of 20 (trigger.min_examples)",
            "new labels with enough examples: 0 of 2 (trigger.classes_per_step)",
            "or 40 s more, when the oldest has waited 60 s (trigger.max_wait_s)",
        ],
    ),
    "first": (
        {"a": pending(20), "b": pending(20)},
        (),
        {},
        [
            "new labels with enough examples: 2 of 3 (trigger.first_classes)",
            "or 59 s more, when the oldest has waited 60 s (trigger.max_wait_s)",
        ],
    ),
    "known": (
        {"old": pending(9, holdout=2)},
        ("old",),
        {},
        [
            "new examples of known labels: 7 of 50 (trigger.refresh_examples)",
            "or 59 s more, when the oldest has waited 60 s (trigger.max_wait_s)",
        ],
    ),
    "hold-out": (
        {"old": pending(2, holdout=2)},
        ("old",),
        {},
        ["an example to train on: those that are pending are all set aside to measure by"],
    ),
}


@pytest.mark.parametrize("case", WAITS)
def test_what_is_waited_for_is_told(case: str):
    found, known, quarantined, told = WAITS[case]
    assert waits_for(found, known=known, quarantined=quarantined, config=CONFIG, now_ms=NOW) == told


def test_of_many_labels_some_are_named():
    many = {f"label {number}": pending(1) for number in range(3000)}
    first = waits_for(many, known=(), quarantined={}, config=CONFIG, now_ms=NOW)[0]
    assert first.endswith("label 1000 has 1 of 20 and 2995 more labels (trigger.min_examples)")
