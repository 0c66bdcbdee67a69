"""What versions answered image by image is kept with them, without what was deleted, and goes with their files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accrete_storage.examples.ids import holdout_rank
from accrete_storage.store import Store
from accrete_storage.versions import judgements
from accrete_storage.versions.judgements import Judged, pack
from accrete_storage.versions.record import VersionRecord

from .conftest import examples, lease, step

LABELS = ["a|b", "é\n{}"]


def judged(name: str, label: str, predicted: str, probability: float = 0.5) -> Judged:
    return Judged(id=name, label=label, predicted=predicted, probability=probability)


def taught(store: Store) -> list[VersionRecord]:
    """Two versions that know two labels, and judge ten examples of each: of the second all wrong."""
    mine = lease(store)
    for version in (1, 2):
        for label in LABELS:
            store.pending.add(examples(label, 10 * version))
        commit = step(store, mine, LABELS)
        answers = [judged(f"{label}-{n}", label, LABELS[0], 0.25) for label in LABELS for n in range(10)]
        answers.append(judged('"odd\\ \u0000id', LABELS[0], LABELS[1], 1 / 3))
        assert store.commit(replace(commit, judgements=pack(answers, commit.record.labels)))
    mine.release()
    return store.registry.versions()


def ids(store: Store, record: VersionRecord) -> list[str]:
    found = store.judgements.of(record)
    assert found is not None
    return [one.id for one in found.images]


def test_what_a_step_judged_is_kept_with_its_version_and_called_as_the_record_says(store: Store):
    first, second = taught(store)
    for record in (first, second):
        found = store.judgements.of(record)
        assert found is not None
        assert found.images[0] == judged(f"{LABELS[0]}-0", LABELS[0], LABELS[0], 0.25)
        assert found.images[-1] == judged('"odd\\ \u0000id', LABELS[0], LABELS[1], 0.3333)
        assert found.confusions == {(LABELS[1], LABELS[0]): 10, (LABELS[0], LABELS[1]): 1}
        assert len(found.by_id(found.below)) == 21
    renamed = replace(first, labels=["other", LABELS[1]])
    found = store.judgements.of(renamed)
    assert found is not None
    assert (found.images[0].label, found.images[10].predicted) == ("other", "other")


def test_an_id_that_is_deleted_disappears_from_every_version_also_where_nothing_else_of_it_is_left(store: Store):
    records = taught(store)
    odd = '"odd\\ \u0000id'
    result = store.control.delete_examples([f"{LABELS[0]}-3", odd, "nobody"])
    assert (result.deleted, result.unknown) == (2, ["nobody"])
    for record in records:
        assert set(ids(store, record)) == {f"{label}-{n}" for label in LABELS for n in range(10)} - {f"{LABELS[0]}-3"}
        found = store.judgements.of(record)
        assert found is not None
        assert found.images[0].probability == 0.25
        assert sum(found.confusions.values()) == 11, "counts have no image"
    revision = store.registry.state().revision
    assert store.control.delete_examples([odd]).unknown == [odd]
    assert store.registry.state().revision == revision
    everything = [f"{label}-{n}" for label in LABELS for n in range(10)]
    store.control.delete_examples(everything)
    assert [ids(store, record) for record in records] == [[], []]


def test_a_class_that_is_forgotten_leaves_no_id(store: Store):
    records = taught(store)
    store.control.forget_class(LABELS[0])
    for record in records:
        assert ids(store, record) == [f"{LABELS[1]}-{n}" for n in range(10)]


def test_what_was_judged_goes_with_a_version_that_is_retired_or_given_up(store: Store):
    first, second = taught(store)
    store.registry.mark_retired(first.version)
    assert store.judgements.of(first) is None
    assert ids(store, second)
    store.registry.discard(second.version, "damaged")
    assert store.judgements.of(second) is None
    assert not store._database.client.exists(store._keys.judgements)


def test_a_version_of_an_earlier_release_has_none(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 3))
    commit = step(store, mine, ["a"])
    assert store.commit(commit)
    assert store.judgements.of(commit.record) is None
    store.control.delete_examples(["a-1"])
    store.control.forget_class("a")


@pytest.mark.parametrize("share_wrong", [0.0, 0.1, 0.9])
def test_of_many_images_a_sample_by_rank_is_whole_and_the_surest_mistakes_are_kept(share_wrong: float):
    count = 5000
    answers = [
        judged(f"i{n}", "a", "b" if n % 10 < 10 * share_wrong else "a", (n * 7919 % count) / count)
        for n in range(count)
    ]
    kept = judgements._unpack(pack(answers, ["a", "b"]).encode(), ["a", "b"])
    assert 0.9 * judgements.MOST < len(kept.images) <= judgements.MOST
    assert kept.confusions == ({("a", "b"): int(count * share_wrong)} if share_wrong else {})
    below = {one.id for one in answers if holdout_rank(one.id) < kept.below}
    assert set(kept.by_id(kept.below)) == below, "below the rank all are kept, right or wrong"
    assert len(below) >= judgements.SAMPLE
    beyond = [one for one in kept.images if one.id not in below]
    assert all(one.predicted == "b" for one in beyond)
    left_out = {one.id for one in answers} - {one.id for one in kept.images}
    surest = max((one.probability for one in answers if one.id in left_out and one.predicted == "b"), default=0.0)
    assert all(one.probability >= round(surest, 4) for one in beyond)
