"""The ledger test, short, and that its checker would see what it is there to see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from accrete_storage.config import HoldoutConfig
from accrete_storage.examples.ids import holdout_rank, is_holdout
from accrete_storage.examples.pending import Location
from accrete_storage.versions.record import VersionRecord
from benchmarks import faults
from benchmarks.nemesis.checker import Snapshot, Verdict, check, check_files
from benchmarks.nemesis.ledger import Ledger

SHARE = 0.1


def test_nothing_acknowledged_is_lost_or_learned_twice_whatever_strikes(tmp_path: Path) -> None:
    story = faults.run(tmp_path, seed=11, count=20, stop_s=1.0)
    rows = {row.name: row.value for row in faults.tell(story)}
    assert [row.name for row in faults.tell(story) if row.ok is False] == [], story.verdict
    assert rows["strikes"] == 20
    assert rows["acknowledged"] > 100
    assert rows["learned"] == rows["stored"] >= rows["acknowledged"]


def record(version: int, consumed: dict[str, int], learned: dict[str, str]) -> VersionRecord:
    return VersionRecord(
        version=version, state="ready", parent=version - 1, created_ms=0, labels=["a"], new_labels=[], method="lucir",
        digest="", accuracy={}, class_accuracy={}, step_seconds=0.0, stage_seconds={}, learned=learned, revision=0,
        since={}, consumed=consumed,
    )  # fmt: skip


NAMES = [name for name in (f"e{number}" for number in range(100)) if not is_holdout(name, SHARE)][:6]
HELD = next(name for name in (f"h{number}" for number in range(100)) if is_holdout(name, SHARE))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Seven examples of one class, acknowledged."""
    ledger = Ledger(tmp_path / "ledger")
    for name in (*NAMES, HELD):
        ledger.sending(name, "a")
        ledger.acknowledge(name)
    ledger.close()
    return ledger


@pytest.fixture
def sound() -> Snapshot:
    """Six of them learned in two steps, one pending."""
    order = [*NAMES[:5], HELD, NAMES[5]]
    return Snapshot(
        located={name: Location(label="a", position=f"{at}-0") for at, name in enumerate(order)},
        pending={"a": [NAMES[5]]},
        exemplars={"a": NAMES[:3]},
        holdout={"a": [HELD]},
        records=[record(1, {"a": 4}, {"a": "3-0"}), record(2, {"a": 2}, {"a": "5-0"})],
        active=2,
    )


def judged(ledger: Ledger, found: Snapshot) -> Verdict:
    return check(ledger, found, per_class=3, holdout=HoldoutConfig(share=SHARE), answered=[1, 2])


def test_a_sound_store_passes(ledger: Ledger, sound: Snapshot) -> None:
    assert judged(ledger, sound) == Verdict()


def test_an_acknowledged_example_that_is_gone_is_seen(ledger: Ledger, sound: Snapshot) -> None:
    located = {name: where for name, where in sound.located.items() if name != NAMES[5]}
    assert judged(ledger, replace(sound, located=located, pending={})).lost == {NAMES[5]}


def test_one_that_was_never_sent_and_one_that_was_refused_are_seen(ledger: Ledger, sound: Snapshot) -> None:
    assert judged(ledger, replace(sound, pending={"a": [NAMES[5], "stranger"]})).foreign == {"stranger"}
    ledger.refused[NAMES[0]] = "too large"
    assert judged(ledger, sound).foreign == {NAMES[0]}


@pytest.mark.parametrize(("taken", "off"), [(3, 1), (1, -1)])
def test_one_that_is_learned_twice_or_passed_over_is_seen(
    ledger: Ledger, sound: Snapshot, taken: int, off: int
) -> None:
    records = [record(1, {"a": 4}, {"a": "3-0"}), record(2, {"a": taken}, {"a": "5-0"})]
    assert judged(ledger, replace(sound, records=records)).miscounted == {"a": off}


def test_one_that_is_learned_and_still_pending_is_seen(ledger: Ledger, sound: Snapshot) -> None:
    assert NAMES[4] in judged(ledger, replace(sound, pending={"a": [NAMES[4], NAMES[5]]})).relearned


def test_a_wrong_number_of_exemplars_and_a_mixed_hold_out_are_seen(ledger: Ledger, sound: Snapshot) -> None:
    assert judged(ledger, replace(sound, exemplars={"a": NAMES[:2]})).overfull == {"a": 2}
    assert judged(ledger, replace(sound, exemplars={"a": NAMES[:4]})).overfull == {"a": 4}
    assert judged(ledger, replace(sound, exemplars={"a": [NAMES[0], NAMES[0], NAMES[1]]})).overfull == {"a": 3}
    assert judged(ledger, replace(sound, exemplars={"a": [*NAMES[:2], HELD]})).leaked == {HELD}
    assert judged(ledger, replace(sound, holdout={"a": [NAMES[3]]})).leaked == {NAMES[3]}


def test_beyond_its_cap_the_hold_out_of_highest_rank_may_be_trained_on(ledger: Ledger, sound: Snapshot) -> None:
    flagged = (name for name in (f"x{number}" for number in range(100)) if is_holdout(name, SHARE))
    low, high = sorted(flagged, key=holdout_rank)[:2]
    located = {**sound.located, low: sound.located[HELD], high: sound.located[HELD]}

    def leaked(kept: str, trained: str, cap: int) -> set[str]:
        found = replace(sound, located=located, holdout={"a": [kept]}, exemplars={"a": [*NAMES[:2], trained]})
        return check(ledger, found, per_class=3, holdout=HoldoutConfig(share=SHARE, cap=cap)).leaked

    assert leaked(low, high, cap=1) == set()
    assert leaked(high, low, cap=1) == {low}, "the other one should have stayed"
    assert leaked(low, high, cap=2) == {high}, "there was room"


def test_of_a_class_that_began_with_its_hold_out_alone_half_may_be_trained_on(ledger: Ledger, sound: Snapshot) -> None:
    began = record(3, {"b": 1}, {"a": "5-0", "b": "9-0"})
    plain = next(name for name in (f"y{number}" for number in range(100)) if not is_holdout(name, SHARE))

    def leaked(*others: str) -> set[str]:
        located = {**sound.located, **{name: Location(label="b", position="9-0") for name in (HELD, *others)}}
        exemplars = {**sound.exemplars, "b": [HELD, *others]}
        found = replace(sound, located=located, exemplars=exemplars, records=[*sound.records, began], active=3)
        return judged(ledger, found).leaked

    assert leaked() == set()
    assert leaked(plain) == {HELD}


def test_a_version_that_nobody_made_and_one_that_cannot_be_read_are_seen(
    ledger: Ledger, sound: Snapshot, tmp_path: Path
) -> None:
    assert check(ledger, sound, per_class=3, holdout=HoldoutConfig(share=SHARE), answered=[2, 7]).unknown_versions == {
        7
    }
    assert set(check_files(tmp_path, sound.records, damaged={1})) == {2}
