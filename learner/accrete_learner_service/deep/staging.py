"""What a deep step takes from the store, written for the trainer, and what came in the meantime.

Shapes: n examples, d feature length.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from accrete_learner.deep import job
from accrete_learner_service.analytic.learning import kept_examples
from accrete_learner_service.deep.due import judging
from accrete_learner_service.errors import NothingToLearn
from accrete_model.vectors import Floats
from accrete_storage.examples.encoded_image import EncodedImage
from accrete_storage.examples.example import Example
from accrete_storage.examples.features import Kind
from accrete_storage.examples.ids import holdout_rank
from accrete_storage.store import Store

#: Images whose features are computed at once.
_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Staged:
    """The examples of a deep step."""

    revision: int
    """Of the store, read before the examples were."""
    names: tuple[tuple[str, str], ...]
    """Label and id of each example, in the order in which the trainer has them."""
    unseen_below: dict[str, int]
    """By label, the rank below which an example of that class judges, and so was not trained on."""

    trained: int
    """How many of them are trained on."""


@dataclass(kw_only=True)
class _Rows:
    """What is collected, label by label."""

    names: list[tuple[str, str]]
    content: list[bytes]
    encoded: list[bool]
    y: list[int]
    judges: list[bool]
    known_x: list[Floats]
    known_y: list[int]
    known_judges: list[Floats]


def stage(store: Store, folder: Path, kind: Kind, check: Callable[[int], None]) -> Staged:
    """Write what is at hand of all classes that are learned, and return which it is.

    Args:
        store: to read.
        folder: of the step.
        kind: how features are stored.
        check: called for each label with the store's revision; what it raises ends the step.

    Raises:
        NothingToLearn: there are too few classes or examples; the message says so.
        StoreUnavailable: the store does not answer.
        CorruptRecord: something stored is damaged.
        OSError: the folder cannot be written.
    """
    revision = store.registry.state().revision
    rows = _Rows(names=[], content=[], encoded=[], y=[], judges=[], known_x=[], known_y=[], known_judges=[])
    unseen_below: dict[str, int] = {}
    for label in store.memory.labels():
        check(revision)
        ids, features = store.features.of(label, kind)
        learned = set(ids)
        at_hand = [one for one in kept_examples(store, label) if one.id in learned]
        if not at_hand:
            continue
        judges = judging([one.id for one in at_hand])
        trained = [holdout_rank(one.id) for one in at_hand if one.id not in judges]
        _add(rows, len(unseen_below), at_hand, judges, dict(zip(ids, features, strict=True)))
        unseen_below[label] = min(trained)
    if len(unseen_below) < 2 or not any(rows.judges):
        raise NothingToLearn(
            f"a deep step needs two classes, and five examples of one to judge by: there are {len(rows.names)} "
            f"examples of {len(unseen_below)}"
        )
    _write(folder, rows, kind)
    trains = rows.judges.count(False)
    return Staged(revision=revision, names=tuple(rows.names), unseen_below=unseen_below, trained=trains)


def _add(rows: _Rows, y: int, at_hand: Sequence[Example], judges: frozenset[str], features: dict[str, Floats]) -> None:
    for one in at_hand:
        content = one.content
        encoded = isinstance(content, EncodedImage)
        rows.names.append((one.label, one.id))
        rows.content.append(content.data if isinstance(content, EncodedImage) else one.tensor.tobytes())
        rows.encoded.append(encoded)
        rows.y.append(y)
        rows.judges.append(one.id in judges)
        if one.id in judges:
            rows.known_judges.append(features[one.id])
    # All that is learned counts for the backbone in use, also what is not at hand any more.
    known = [feature for name, feature in features.items() if name not in judges]
    rows.known_x += known
    rows.known_y += [y] * len(known)


def _write(folder: Path, rows: _Rows, kind: Kind) -> None:
    def features(found: Sequence[Floats]) -> NDArray[Any]:
        return np.stack(found).astype(kind)

    tensors: dict[str, NDArray[Any]] = {
        job.INPUT_DATA: np.frombuffer(b"".join(rows.content), np.uint8),
        job.INPUT_ENDS: np.cumsum([len(content) for content in rows.content], dtype=np.int64),
        job.INPUT_ENCODED: np.array(rows.encoded),
        job.INPUT_Y: np.array(rows.y, np.int64),
        job.INPUT_JUDGES: np.array(rows.judges),
        job.INPUT_KNOWN_X: features(rows.known_x),
        job.INPUT_KNOWN_Y: np.array(rows.known_y, np.int64),
        job.INPUT_KNOWN_JUDGES: features(rows.known_judges),
    }
    save_file(tensors, folder / job.INPUTS_FILE)


Found = dict[str, dict[str, Floats]]
"""Features [d] by label and id."""


def catch_up(
    store: Store,
    found: Found,
    run: Callable[[NDArray[Any]], Floats],
    *,
    seconds: float,
    check: Callable[[], None],
) -> bool:
    """Compute features by another backbone of what was learned since, for so many seconds.

    What is not at hand any more has none: of that nothing but a feature by the backbone in use is left.

    Args:
        store: to read.
        found: what is computed already; more is added.
        run: from images [n, H, W, C] to features [n, d].
        seconds: after which it ends; one batch at least is computed.
        check: called for each batch; what it raises ends it.

    Returns:
        Whether nothing is missing.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    until = time.monotonic() + seconds
    for label in store.memory.labels():
        known = found.setdefault(label, {})
        missing = store.features.ids(label).difference(known)
        if not missing:
            continue
        fresh = [one for one in kept_examples(store, label) if one.id in missing]
        for first in range(0, len(fresh), _BATCH):
            check()
            if time.monotonic() > until:
                return False
            batch = fresh[first : first + _BATCH]
            features = run(np.stack([one.tensor for one in batch]))
            known.update(zip((one.id for one in batch), features, strict=True))
    return True
