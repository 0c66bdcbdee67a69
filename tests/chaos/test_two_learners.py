"""Two learners on one store and one folder of versions: only the one that holds the lease ends a step."""

from __future__ import annotations

import pytest

from benchmarks.waiting import until
from tests.chaos.processes import Forked, Place
from tests.chaos.test_commit_steps import LEARNER, assert_learned_once

BEFORE_COMMIT = [f"{write}.before" for write in LEARNER[: LEARNER.index("commit") + 1]]


def another(place: Place) -> Forked:
    """A learner of another machine, which shares the versions."""
    folder = place.data_dir / "another"
    folder.mkdir()
    place.share(folder)
    return place.learner(data_dir=folder)


@pytest.mark.parametrize("point", BEFORE_COMMIT)
def test_a_learner_that_stalls_anywhere_in_its_commit_and_wakes_after_another_took_over_changes_nothing(
    due: Place, point: str
):
    stalled = due.learner(f"{point}=stop")
    until(stalled.stopped, due.log)
    store = due.store
    assert store.registry.state().version == 1
    due.lease_runs_out()
    other = another(due)
    until(lambda: store.registry.state().version > 1, "the other's commit")

    active = store.registry.version(store.registry.state().version)
    published = due.artifacts.verify(active.version, active.digest)
    inode = published.stat().st_ino

    stalled.go_on()
    until(lambda: "step.discarded" in due.log() or "step.failed" in due.log(), due.log)
    until(lambda: "lease.lost" in due.log(), due.log)
    assert_learned_once(due)
    assert published.stat().st_ino == inode, "its files took the place of those that are live"
    due.artifacts.verify(active.version, active.digest)
    assert stalled.stop() == other.stop() == 0
