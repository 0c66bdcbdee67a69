"""A deep step that is killed anywhere leaves all as it was, or is done; what was asked for by hand is done again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accrete_model.reader import read_card
from accrete_storage.versions.record import VersionRecord
from benchmarks.waiting import until
from tests.chaos.processes import Place
from tests.learner_service.test_deep import BY_HAND, FORM, OPTIONS, photographs
from tests.support.store import SharedStore

POINTS = ("fsync.before", "rename.after", "stage.after", "commit.before", "commit.after")
"""What a deep step writes, from the tuned backbone on; the last is after all is done."""


class Shop:
    """A store, a folder, and learners on them whose trainer trains once."""

    def __init__(self, url: str, folder: Path) -> None:
        self.place = Place(url, f"{folder.name}-deep", folder / "deep", folder / "kept")
        self.place.store.bind_model(FORM)

    def learner(self, failpoints: str = "") -> None:
        options: dict[str, Any] = {**OPTIONS, "deep": BY_HAND, "learner": {}}
        self.running = self.place.learner(failpoints, **options)

    def learned(self) -> VersionRecord:
        """Waits for a version with nothing pending."""

        def look() -> VersionRecord | None:
            return None if self.place.store.pending.total().examples else self.place.store.registry.latest_ready()

        return until(look, self.place.log)  # type: ignore[no-any-return]

    def backbone(self, record: VersionRecord) -> str:
        return read_card(self.place.versions / f"v{record.version:06d}").frozen


@pytest.fixture
def shop(shared_store: SharedStore, tmp_path: Path) -> Iterator[Shop]:
    one = Shop(shared_store.url, tmp_path)
    yield one
    one.place.close()


def test_it_is_whole_or_not_there_wherever_it_is_killed(shop: Shop):
    store = shop.place.store
    shop.learner()
    store.pending.add([one for label in range(4) for one in photographs(label, 40)])
    first = shop.learned()
    frozen, features = shop.backbone(first), store.features.of("digit 0", "float16")[1]
    assert shop.running.stop() == 0

    store.deep.request()
    for point in POINTS[:-1]:
        shop.learner(f"{point}=kill")
        assert shop.running.ended() == -signal.SIGKILL, shop.place.log()
        shop.place.lease_runs_out()
        assert store.registry.latest_ready() == first, point
        assert store.features.backbone() == frozen
        assert np.array_equal(store.features.of("digit 0", "float16")[1], features)
        assert store.features.unseen_below() == {}
    shop.learner(f"{POINTS[-1]}=kill")
    assert shop.running.ended() == -signal.SIGKILL, shop.place.log()
    shop.place.lease_runs_out()
    done = shop.learned()
    assert done.version > first.version
    assert shop.backbone(done) == store.features.backbone() != frozen
    assert len(store.features.unseen_below()) == 4

    store.deep.take_request()
    shop.learner()
    more = photographs(4, 4)
    store.pending.add(more)
    until(lambda: "digit 4" in shop.learned().labels, shop.place.log)
    assert shop.backbone(shop.learned()) == store.features.backbone() != frozen, "it goes on with the tuned one"
