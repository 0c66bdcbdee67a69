"""Killed before or after any write of a step and of a swap: the old version or the new one, and the step is done."""

from __future__ import annotations

import ast
import collections
import signal
from pathlib import Path
from typing import Any

import pytest

from accrete_kit.failpoints import VARIABLE, WRITES, around
from accrete_model.artifacts import open_artifacts
from accrete_model.config import ArtifactsConfig
from accrete_server.versions.last_served import read_last_served
from benchmarks.waiting import until
from tests.chaos.conftest import FIRST, SECOND
from tests.chaos.processes import Place
from tests.learner_service.helpers import digits

ROOT = Path(__file__).resolve().parents[2]
LEARNER = ("artifact", "fsync", "rename", "fsync_folder", "stage", "commit", "retire", "remove")
IN_BUCKET = ("upload.before", "upload.after", "commit.after", "remove.before")
"""The moments that are tried with versions in a bucket, too."""
SERVER = {"announce": 1, "load": 2, "check": 2, "warm": 2, "publish": 2, "remember": 2, "free": 1}
"""By write, at which time it belongs to the swap: a server that starts loads a version, too."""
ELSEWHERE = ("inbox", "relabel")
"""Writes that belong to no step or swap; tests/chaos/test_inbox_kill.py and tests/storage/test_renaming.py try them."""
PER_CLASS = 5


def sides(writes: object) -> list[str]:
    return [f"{write}.{side}" for write in writes for side in ("before", "after")]  # type: ignore[attr-defined]


def test_each_write_of_the_table_is_in_one_place_of_the_code_and_is_tried_here():
    found: collections.Counter[str] = collections.Counter()
    for folder in ("storage", "learner", "server"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "around":
                    found[ast.literal_eval(node.args[0])] += 1
    assert found == dict.fromkeys(WRITES, 1)
    assert {*LEARNER, "upload", *SERVER, *ELSEWHERE} == set(WRITES)


@pytest.mark.parametrize("mistake", ["rename", "rename.during", "renam.before", "rename.before=burn"])
def test_a_point_that_is_none_is_told(mistake: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, mistake)
    with pytest.raises(ValueError, match="rena"), around("load"):
        pass


def test_points_of_a_file_are_those_that_it_has_when_they_are_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "points"
    monkeypatch.setenv(VARIABLE, f"@{file}")
    with around("load"):
        pass
    file.write_text("renam.before\n")
    with pytest.raises(ValueError, match="renam"), around("load"):
        pass


@pytest.mark.parametrize("point", sides(LEARNER))
def test_a_learner_killed_at_any_write_leaves_the_old_version_or_the_new_one(due: Place, point: str):
    assert due.learner(point, learner={"keep_versions": 1}).ended() == -signal.SIGKILL, due.log()

    store = due.store
    active = store.registry.state().version
    committed = sides(LEARNER).index(point) > sides(LEARNER).index("commit.before")
    assert active == (2 if committed else 1)
    due.artifacts.verify(active, store.registry.version(active).digest)
    assert store.pending.total().examples == (SECOND if active == 1 else 0)

    due.lease_runs_out()
    after = due.learner(learner={"keep_versions": 1})
    until(lambda: store.control.phase() == "waiting", due.log)
    assert after.stop() == 0
    new = assert_learned_once(due)
    assert new == (2 if committed else 3), "2 is the killed one's for ever"
    assert [path.name for path in due.versions.iterdir()] == [f"v{new:06d}"], "what the killed one left is gone"
    due.artifacts.verify(new, store.registry.version(new).digest)


@pytest.mark.parametrize("point", IN_BUCKET)
def test_in_a_bucket_too_a_kill_leaves_the_old_version_or_the_new_one_and_the_rest_goes(due: Place, point: str):
    bucket = due.data_dir / "bucket"
    bucket.mkdir()
    artifacts = due.home = ArtifactsConfig(url=f"file://{bucket}")
    options: dict[str, Any] = {"learner": {"keep_versions": 1}}
    times = 2 if point.startswith("upload") else 1  # version 1 is put there at first
    assert due.learner(f"{point}=kill@{times}", **options).ended() == -signal.SIGKILL, due.log()

    store, elsewhere = due.store, open_artifacts(artifacts, due.data_dir / "elsewhere")
    active = store.registry.state().version
    committed = not point.startswith("upload")
    assert active == (2 if committed else 1)
    elsewhere.verify(active, store.registry.version(active).digest)

    due.lease_runs_out()
    after = due.learner(**options)
    until(lambda: store.control.phase() == "waiting", due.log)
    assert after.stop() == 0
    new = assert_learned_once(due)
    assert [path.name[:7] for path in (bucket / "versions").iterdir()] == [f"v{new:06d}"], "the rest is gone"
    open_artifacts(artifacts, due.data_dir / "another").verify(new, store.registry.version(new).digest)


def assert_learned_once(place: Place) -> int:
    """Both steps are in the store once, with exactly the memory that is allowed; answers the new version."""
    store = place.store
    records = store.registry.versions()
    assert store.registry.state().version == records[-1].version
    assert [sum(record.consumed.values()) for record in records] == [FIRST, SECOND]
    assert records[1].labels == ["digit 0", "digit 1", "digit 2"]
    assert [event.kind for event in store.events.read("0", count=10_000)].count("committed") == 2
    assert store.pending.total().examples == 0
    taught = {one.id for one in (*digits(0, 40), *digits(1, 30), *digits(2, 30))}
    kept = {label: store.memory.exemplars(label) for label in records[1].labels}
    assert {label: {one.label for one in own} for label, own in kept.items()} == {label: {label} for label in kept}
    exemplars = [one.id for own in kept.values() for one in own]
    holdout = [one.id for label in records[1].labels for one in store.memory.holdout(label)]
    assert len(exemplars) == len(set(exemplars)) == 3 * PER_CLASS
    assert len(holdout) == len(set(holdout))
    assert set(exemplars) | set(holdout) <= taught
    assert not set(exemplars) & set(holdout)
    return records[1].version


@pytest.mark.parametrize("point", sides(SERVER))
def test_a_server_killed_at_any_moment_of_a_swap_answers_from_one_of_both_and_then_from_the_new_one(
    both: Place, point: str
):
    image = digits(0, 1)[0].tensor
    server = both.server(f"{point}=kill@{SERVER[point.split('.')[0]]}")
    with both.client(server) as client:
        assert client.predict(image).version == 1
        both.store.registry.unpin()
        assert server.ended() == -signal.SIGKILL, both.log("server")

    served = next(iter(read_last_served(both.data_dir / "server")), None)
    assert served is not None
    assert served.version in (1, 2)
    both.artifacts.verify(served.version, served.digest)
    again = both.server()
    with both.client(again) as client:
        assert client.predict(image).version == 2
