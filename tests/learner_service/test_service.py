"""The learner's process as a whole: real scans of digits, the real store, the real trainer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from accrete_model.artifact_store import ArtifactStore
from accrete_storage.examples.example import Example
from accrete_storage.store import Store
from benchmarks.waiting import until
from tests.learner_service.helpers import RunningLearner, digits

Start = Callable[..., RunningLearner]

LONG = {"base_epochs": 60, "epochs": 60}
"""A second or two of training, at a lower priority than the test's, to do something in the midst of."""


def teach(store: Store, *labels: int, count: int = 30, start: int = 0) -> list[Example]:
    examples = [example for label in labels for example in digits(label, count, start)]
    for begin in range(0, len(examples), 50):
        store.pending.add(examples[begin : begin + 50])
    return examples


def committed(store: Store) -> list[dict[str, Any]]:
    return [event.body for event in store.events.read("0", block_ms=None, count=10_000) if event.kind == "committed"]


def learner_events(store: Store) -> list[str]:
    return [event.kind for event in store.events.read("0", block_ms=None, count=10_000)]


def test_two_steps_learn_each_example_once_within_the_budget(start: Start, store: Store, data_dir: Path):
    learner = start()
    teach(store, 0, 1)
    first = learner.version(1)
    teach(store, 2)
    teach(store, 0, count=10, start=30)
    second = learner.version(2)

    assert (first.labels, second.labels) == (["digit 0", "digit 1"], ["digit 0", "digit 1", "digit 2"])
    assert (second.parent, second.new_labels, second.since["digit 2"]) == (1, ["digit 2"], 2)

    def everything_learned() -> bool:
        if store.pending.total().examples:
            store.control.request_step()
            return False
        return True

    until(everything_learned, "everything learned")
    taken = sum(sum(record.consumed.values()) for record in store.registry.versions())
    assert taken == 100
    assert all(count.exemplars <= 5 for count in store.memory.counts().values())
    assert {label: count.exemplars for label, count in store.memory.counts().items()} == dict.fromkeys(second.labels, 5)
    exemplars = {example.id for label in second.labels for example in store.memory.exemplars(label)}
    holdout = {example.id for label in second.labels for example in store.memory.holdout(label)}
    assert holdout
    assert not exemplars & holdout
    assert [event["version"] for event in committed(store)][:2] == [1, 2]
    assert second.accuracy["examples"] > 0
    for record in (first, second):
        nearness = load_file(data_dir / "versions" / f"v{record.version:06d}" / "holdout.safetensors")["nearness"]
        assert len(nearness) == record.accuracy["examples"]
    assert second.accuracy["average_incremental"] == pytest.approx((first.accuracy["all"] + second.accuracy["all"]) / 2)


def test_a_killed_trainer_costs_an_attempt_and_no_example(start: Start, store: Store):
    learner = start(training=LONG)
    teach(store, 0, 1)
    learner.event("progress")
    os.kill(learner.step_pid(), signal.SIGKILL)
    failed = learner.event("failed")
    assert (failed["reason"].split(":")[0], failed["attempt"]) == ("the trainer was killed by signal 9", 1)
    record = learner.version(1)
    assert sum(record.consumed.values()) == 60
    assert len(committed(store)) == 1


def test_a_killed_learner_takes_up_from_the_store_alone(start: Start, store: Store, data_dir: Path):
    learner = start(training=LONG)
    teach(store, 0, 1)
    learner.event("progress")
    trainer = learner.trainer_pid(), learner.step_pid()
    learner.kill()
    until(lambda: not any(map(_runs, trainer)), "the trainer's end")
    assert list((data_dir / "work").iterdir())

    record = start().version(1)
    assert sum(record.consumed.values()) == 60
    assert len(committed(store)) == 1
    assert store.pending.total().examples == 0
    until(lambda: not list((data_dir / "work").iterdir()), "the end of what the killed one left")


def test_a_learner_that_is_asked_to_end_in_a_step_does_and_loses_nothing(start: Start, store: Store):
    learner = start(training=LONG)
    teach(store, 0, 1)
    learner.event("progress")
    trainer = learner.trainer_pid(), learner.step_pid()
    assert learner.stop() == 0
    assert not any(map(_runs, trainer))
    assert store.lease_holder() is None
    assert store.pending.total().examples == 60


def test_paused_learning_starts_no_step_until_resumed(start: Start, store: Store):
    store.control.pause()
    learner = start()
    teach(store, 0, 1)
    until(lambda: store.control.phase() == "paused", "paused")
    until(lambda: "trainer.started" in learner.log(), "trainer")
    assert store.registry.next_version() == 1
    store.control.resume()
    learner.version(1)


def test_a_step_by_hand_takes_all_that_is_pending(start: Start, store: Store):
    learner = start(trigger={"min_examples": 1000})
    teach(store, 0, 1, 2, count=12)
    until(lambda: store.control.phase() == "waiting", "waiting")
    store.control.request_step()
    assert learner.version(1).labels == ["digit 0", "digit 1", "digit 2"]
    phases = [event.body for event in store.events.read("0", count=10_000) if event.kind == "phase"]
    assert {"phase": "staging", "reason": "asked for by hand"} in phases


def test_a_candidate_that_forgets_is_rejected_and_its_classes_wait_for_more(start: Start, store: Store):
    learner = start(
        gate={"enabled": True, "min_holdout": 5},
        method={"name": "finetune"},
        memory={"size": 0},
        training={"base_epochs": 30, "epochs": 30},
    )
    teach(store, 0, 1, count=40)
    assert learner.version(1).accuracy["all"] > 0.8
    teach(store, 2, count=40)
    rejected = learner.event("rejected")
    assert rejected["version"] == 2
    assert "a drop of 0.1 is allowed" in rejected["reason"]

    assert store.registry.state().version == 1
    assert store.registry.version(2).state == "rejected"
    assert store.pending.total().examples == 40
    assert store.quarantine.entries()["digit 2"].count == 40
    until(lambda: store.control.phase() == "waiting", "waiting")
    teach(store, 2, count=20, start=40)
    learner.event("rejected", 2)


def test_a_step_that_fails_three_times_is_set_aside_and_the_learner_goes_on_with_other_classes(
    start: Start, store: Store
):
    learner = start(learner={"retry_s": 0.05})
    bad = [Example(id=f"bad-{n}", label="bad", content=np.zeros((4, 4, 1), np.uint8)) for n in range(30)]
    store.pending.add(bad + [replace(one, label="worse", id=f"worse-{one.id}") for one in bad])
    assert [learner.event("failed", n)["attempt"] for n in (1, 2, 3)] == [1, 2, 3]
    entry = until(lambda: store.quarantine.entries().get("bad"), "it set aside")
    assert (entry.count, entry.attempts) == (30, 3)
    assert "the network takes uint8 [8, 8, 1]" in entry.reason

    teach(store, 0, 1)
    assert learner.version(1).labels == ["digit 0", "digit 1"]
    assert store.pending.total().examples == 60, "what was set aside is not lost"

    assert store.quarantine.retry("bad") == 30
    assert learner.event("failed", 4)["attempt"] == 1, "tried again, and three times"
    learner.event("failed", 6)
    until(lambda: "bad" in store.quarantine.entries(), "it set aside again")
    assert (store.quarantine.drop("bad"), store.quarantine.drop("worse")) == (30, 30)
    teach(store, 2)
    assert learner.version(2).labels == ["digit 0", "digit 1", "digit 2"]
    assert store.pending.total().examples == 0


def test_of_a_step_that_fails_only_the_label_to_blame_is_set_aside(start: Start, store: Store):
    learner = start(learner={"retry_s": 0.01})
    teach(store, 0, 1)
    learner.version(1)
    store.control.pause()
    store.pending.add([Example(id=f"bad-{n}", label="bad", content=np.zeros((4, 4, 1), np.uint8)) for n in range(30)])
    teach(store, 2, 3, 4)
    store.control.resume()
    until(lambda: store.pending.total().examples == 30, lambda: f"all others learned\n{learner.log()}")
    assert list(store.quarantine.entries()) == ["bad"]
    newest = learner.version(store.registry.state().version)
    assert newest.labels == [f"digit {n}" for n in range(5)]
    assert learner.event("failed", 9)["attempt"] == 3, "all, the half with it, it alone: each three times"


def test_a_damaged_version_blocks_steps_until_it_is_given_up_and_its_classes_come_back_from_exemplars(
    start: Start, store: Store, data_dir: Path
):
    learner = start(teaching={"review_confidence": 0.99})
    teach(store, 0, 1)
    learner.version(1)
    files = ArtifactStore(data_dir / "versions")
    (files.path(1) / "head.safetensors").unlink()
    teach(store, 2)
    until(lambda: store.control.phase() == "blocked", lambda: f"blocked\n{learner.log()}")
    assert store.control.phase_reason().startswith("version 1 is damaged: v000001/head.safetensors cannot be read")
    assert store.registry.discard(1, "damaged") == 0
    again = learner.version(2)
    assert (again.labels, again.parent) == (["digit 0", "digit 1", "digit 2"], 0)
    assert again.consumed == {"digit 2": 30}

    store.registry.activate(2)
    shutil.rmtree(files.path(2))
    assert store.registry.discard(2, "damaged") == 0, "with nothing pending"
    last = learner.version(3)
    assert (last.labels, last.consumed, last.learned) == (again.labels, {}, again.learned)
    assert "failed" not in learner_events(store), "no step has failed"
    assert {label: count.exemplars for label, count in store.memory.counts().items()} == dict.fromkeys(last.labels, 5)


def test_another_backbone_than_the_newest_versions_blocks_steps_and_no_label_is_blamed(start: Start, store: Store):
    first = start()
    teach(store, 0, 1)
    first.version(1)
    first.stop()
    other = start(model={"backbone": "resnet32"})
    teach(store, 2)
    until(lambda: store.control.phase() == "blocked", lambda: f"blocked\n{other.log()}")
    assert store.control.phase_reason().startswith("version 1 is a resnet8, and the configuration asks for a resnet32")
    assert (store.quarantine.entries(), "failed" in learner_events(store)) == ({}, False)
    other.stop()
    assert start().version(2).labels == ["digit 0", "digit 1", "digit 2"]


def test_an_example_deleted_during_a_step_is_not_learned(start: Start, store: Store):
    learner = start(training=LONG)
    taught = teach(store, 0, 1)
    learner.event("progress")
    gone = taught[0]
    assert store.control.delete_examples([gone.id]).deleted == 1
    record = learner.version(1)
    assert sum(record.consumed.values()) == 59
    assert "step.discarded" in learner.log()
    reason = "examples were deleted, or a class forgotten, renamed or merged, during the step"
    assert learner.event("discarded") == {"reason": reason}
    kept = [*store.memory.exemplars(gone.label), *store.memory.holdout(gone.label)]
    assert gone.id not in {example.id for example in kept}


def test_deletions_that_keep_coming_do_not_keep_a_step_from_ending(start: Start, store: Store):
    learner = start(training={"base_epochs": 20})
    taught = teach(store, 0, 1)
    gone = [example.id for example in taught[::7]]
    for number, example_id in enumerate(gone[:4], 1):
        until(lambda number=number: learner.log().count("trainer.begun") >= number, "the next attempt")  # type: ignore[misc]
        assert store.control.delete_examples([example_id]).deleted == 1
    assert {*learner.version(1).labels} == {"digit 0", "digit 1"}
    assert learner.log().count("step.discarded") == 3
    kept = [one.id for label in ("digit 0", "digit 1") for one in store.memory.exemplars(label)]
    held_out = [one.id for label in ("digit 0", "digit 1") for one in store.memory.holdout(label)]
    assert len(kept) == 10
    assert held_out
    assert not {*kept, *held_out} & {*gone[:4]}
    judged = store.judgements.of(store.registry.version(1))
    assert judged is not None
    assert {image.id for image in judged.images} == {*held_out}
    assert store.pending.total().examples == 0


def test_the_version_after_a_forgotten_class_lacks_it(start: Start, store: Store):
    learner = start()
    teach(store, 0, 1)
    learner.version(1)
    store.control.forget_class("digit 0")
    teach(store, 2)
    record = learner.version(2)
    assert record.labels == ["digit 1", "digit 2"]
    assert "digit 0" not in record.learned


def test_a_model_of_which_every_class_is_forgotten_learns_afresh(start: Start, store: Store):
    learner = start()
    teach(store, 0, 1)
    learner.version(1)
    for label in ("digit 0", "digit 1"):
        store.control.forget_class(label)
    teach(store, 0, 2)
    record = learner.version(2)
    assert (record.labels, record.new_labels, record.parent) == (["digit 0", "digit 2"], ["digit 0", "digit 2"], 0)


def test_a_learner_that_lost_its_lease_commits_nothing(start: Start, store: Store):
    learner = start(training=LONG)
    teach(store, 0, 1)
    learner.event("progress")
    os.kill(learner.pid, signal.SIGSTOP)
    lease = until(lambda: store.acquire_lease("another", 60), "the lease")
    os.kill(learner.pid, signal.SIGCONT)
    until(lambda: "lease.lost" in learner.log(), "the loss")
    until(lambda: "step.discarded" in learner.log(), "the end of the step")
    assert not committed(store)
    lease.release()
    learner.version(1)


def test_a_new_class_is_provisional_before_any_step(start: Start, store: Store):
    learner = start(learner={"provisional_min_examples": 4})
    teach(store, 0, 1)
    learner.version(1)
    store.pending.add(digits(2, 4))
    store.pending.add(digits(3, 3))  # one short
    told = learner.event("provisional")
    assert told["label"] == "digit 2"
    assert store.prototypes.all(1).by_label.keys() == {"digit 2"}
    prototype = store.prototypes.all(1).by_label["digit 2"]
    assert 0 < prototype.count <= 4
    assert (prototype.vector**2).sum() == pytest.approx(1, abs=1e-5)
    store.pending.add(digits(3, 1, start=3))
    assert learner.event("provisional", 2)["label"] == "digit 3"


def test_inputs_that_always_fail_are_set_aside_with_the_reason(start: Start, store: Store):
    learner = start(model={"weights": "/no/such/file.safetensors"})
    teach(store, 0, 1)
    assert learner.event("failed", 3)["attempt"] == 3
    quarantine = until(store.quarantine.entries, "quarantine")
    assert set(quarantine) == {"digit 0", "digit 1"}
    assert "/no/such/file.safetensors" in quarantine["digit 0"].reason
    until(lambda: store.control.phase() == "waiting", "waiting")
    assert store.pending.total().examples == 60


def test_only_the_newest_versions_keep_their_files(start: Start, store: Store, data_dir: Path):
    learner = start(learner={"keep_versions": 1})
    teach(store, 0, 1)
    learner.version(1)
    teach(store, 2)
    learner.version(2)
    until(lambda: store.registry.version(1).state == "retired", "retired")
    until(lambda: ArtifactStore(data_dir / "versions").list() == [2], "removed")


def test_the_metrics_tell_what_was_learned(start: Start, store: Store, data_dir: Path):
    learner = start()
    teach(store, 0, 1)
    learner.version(1)

    def scrape() -> str:
        address = json.loads((data_dir / "learner.json").read_text())["metrics"]
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=300) as answer:
            return str(answer.read().decode())

    def told() -> str | None:
        text = scrape()
        return text if "accrete_learner_version 1.0" in text and "exemplars 10.0" in text else None

    text = until(told, "version 1")
    assert 'accrete_steps_total{outcome="committed"} 1.0' in text
    assert "accrete_exemplars 10.0" in text
    assert "accrete_exemplar_budget 10.0" in text
    assert "accrete_learner_lease_held 1.0" in text
    assert "digit" not in text


def _runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"
