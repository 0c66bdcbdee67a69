"""Near-duplicates, bursts and shares beyond the cap, as pure functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from accrete_learner_service.principal_shares import beyond_share
from accrete_learner_service.review.checks import bursts, near_duplicates
from accrete_storage.examples.example import Example
from accrete_storage.examples.fingerprint import fingerprint
from accrete_storage.examples.pending import PendingEntry
from tests.learner_service.helpers import digits

GENERATOR = np.random.default_rng(7)


def entry(number: int, tensor: NDArray[Any], *, principal: str = "ann", at_s: float = 0.0) -> PendingEntry:
    example = Example(id=f"x-{number}", label="x", content=tensor, principal=principal)
    return PendingEntry(position=f"{int(at_s * 1000)}-{number}", holdout=False, example=example)


def numbers(entries: list[PendingEntry]) -> list[int]:
    return [int(one.example.id.removeprefix("x-")) for one in entries]


def noisy(tensor: NDArray[Any], amount: int) -> NDArray[Any]:
    changed = tensor.astype(int) + GENERATOR.integers(-amount, amount + 1, tensor.shape)
    return changed.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(32, 32, 3), (8, 8, 1), (5, 7, 1), (224, 160, 3)])
def test_copies_with_a_little_noise_are_found_and_other_images_are_not(shape: tuple[int, ...]) -> None:
    smooth = GENERATOR.integers(0, 256, (5, *shape), dtype=np.uint8)
    copies = [noisy(smooth[0], 2) for _ in range(40)]
    entries = [entry(n, tensor) for n, tensor in enumerate([*smooth, *copies])]
    found = numbers(near_duplicates(entries, limit=10))
    assert set(found) <= set(range(5, 45)), "others are left alone"
    assert len(found) >= 25


def test_near_embeddings_are_found_and_the_first_of_them_stay() -> None:
    vectors = GENERATOR.standard_normal((30, 128)).astype(np.float32)
    entries = [entry(n, vector) for n, vector in enumerate([*vectors, *(vectors[3] * (1 + n / 10) for n in range(8))])]
    assert numbers(near_duplicates(entries, limit=4)) == [33, 34, 35, 36, 37]


def test_different_digits_of_one_class_are_mostly_told_apart() -> None:
    entries = [entry(n, one.tensor) for n, one in enumerate(digits(3, 180))]
    assert len(near_duplicates(entries, limit=50)) == 0
    assert len({int(fingerprint(one.example.tensor)) for one in entries}) > 150


def test_all_of_a_burst_is_found_and_who_sends_slowly_or_less_is_left_alone() -> None:
    empty = np.zeros((2, 2, 1), np.uint8)
    slow = [entry(n, empty, principal="bob", at_s=7 * n) for n in range(20)]
    fast = [entry(100 + n, empty, at_s=200 + n) for n in range(12)]
    before_and_after = [entry(90, empty, at_s=100), entry(91, empty, at_s=300)]
    assert numbers(bursts([*before_and_after[:1], *slow, *fast, *before_and_after[1:]], limit=9)) == list(
        range(100, 112)
    )
    assert bursts([*slow, *fast], limit=12) == []


def taught(principal: str, count: int, start: int = 0) -> list[Example]:
    return [replace(one, principal=principal, id=f"{principal}-{start + n}") for n, one in enumerate(digits(0, count))]


def test_no_principal_makes_up_more_than_its_share_of_a_class() -> None:
    ann, bob = taught("ann", 80), taught("bob", 30)
    assert beyond_share([], [*ann, *bob], share=0.5, floor=1) == ann[30:]
    assert beyond_share([], [*ann, *bob], share=0.75, floor=1) == []
    assert beyond_share(bob[:20], ann, share=0.5, floor=1) == ann[20:], "exemplars of others count"
    assert beyond_share([*bob[:20], *ann[:15]], ann[15:], share=0.5, floor=1) == ann[20:], "so do one's own"


def test_a_class_of_one_principal_is_its_own_and_each_may_have_the_floor() -> None:
    ann, bob = taught("ann", 80), taught("bob", 1)
    assert beyond_share(ann[:20], ann[20:], share=0.5, floor=1) == []
    assert beyond_share([], [*ann, *bob], share=0.5, floor=20) == ann[20:], "one example of another does not leave one"


def test_what_is_nobodys_is_never_beyond_and_counts_as_others() -> None:
    nobody, ann = taught("", 30), taught("ann", 80)
    assert beyond_share(nobody, ann, share=0.5, floor=1) == ann[30:]
    assert beyond_share([], [*taught("", 80), *taught("ann", 3)], share=0.5, floor=1) == []
