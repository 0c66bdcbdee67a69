"""A cluster that is struck again and again, and held against the ledger each time."""

from __future__ import annotations

import os
import random
import time
from dataclasses import replace
from pathlib import Path

from accrete import AccreteError, Client
from accrete_model.artifacts import open_artifacts
from accrete_model.config import ArtifactsConfig
from accrete_model.errors import ModelError
from accrete_storage.versions.record import VersionRecord
from benchmarks.cluster.load import Load
from benchmarks.cluster.place import DIMENSIONS, HOLDOUT, PER_CLASS, Place
from benchmarks.cluster.rounds import Round
from benchmarks.cluster.strikes import STRIKES, Moment
from benchmarks.cluster.wholeness import wait_apart, wait_whole
from benchmarks.nemesis import checker
from benchmarks.nemesis.ledger import Ledger
from benchmarks.waiting import until

_CALM_S = 3.0
"""Of load before a strike, and after all is whole."""
_SETTLE_S = 120.0


class Run:
    """A cluster that is struck again and again."""

    def __init__(self, where: Place, seed: int, folder: Path) -> None:
        """`folder`: for the ledger and a cache of versions."""
        self._place = where
        self._seed = seed
        self._chance = random.Random(seed)
        self._ledger = Ledger(folder / "ledger.jsonl")
        self._folder = folder
        self._loads = 0
        self._records: dict[int, VersionRecord] = {}
        """Of all versions: the store keeps the newest hundred."""

    def strike(self, kind: str, number: int, away_s: float) -> Round:
        """Strike once under load, wait until all is whole, and hold everything against the ledger."""
        here = self._place
        self._loads += 1
        load = Load(
            here.client, self._ledger, dimensions=DIMENSIONS, seed=self._seed + self._loads, run=f"r{self._loads}"
        )
        known = len(self._ledger.acknowledged)
        wait_apart(here, _SETTLE_S)
        with load.steady():
            first = wait_whole(here, load.image, 0 if here.store.registry.state().version else 1)
            if first.lacks:
                raise TimeoutError(f"it was not whole before the strike: {first.lacks}")
            time.sleep(_CALM_S)
            before = here.store.registry.state().version
            struck = STRIKES[kind](here, Moment(chance=self._chance, round=number, away_s=away_s))
            whole = wait_whole(here, load.image, before)
            time.sleep(_CALM_S)
        self._settle()
        verdict = self._check(load)
        answers = load.answers
        names = ("foreign", "overfull", "leaked", "unreadable", "unknown_versions")
        otherwise = {name: found for name in names if (found := getattr(verdict, name))}
        return Round(
            kind=kind,
            round=number,
            what=struck.what,
            acknowledged=len(self._ledger.acknowledged) - known,
            lost=len(verdict.lost),
            doubled=sum(count for count in verdict.miscounted.values() if count > 0) + len(verdict.relearned),
            skipped=sum(-count for count in verdict.miscounted.values() if count < 0),
            otherwise=sum(map(len, otherwise.values())),
            predictions=answers.answered.total(),
            failed_predictions=len(answers.failed),
            failed_teaching=len(answers.refused),
            slowest_s=round(answers.slowest_s, 2),
            whole_s=round(whole.when - struck.began, 1),
            lacks=whole.lacks,
            load=round(os.getloadavg()[0], 1),
            notes=[*answers.failed[:3], *answers.refused[:3], *(f"{name}: {what}" for name, what in otherwise.items())],
        )

    def _settle(self) -> None:
        """Until nothing is pending."""
        with self._place.client() as client:
            until(lambda: _pending(client) == 0, "everything that was taught is learned", seconds=_SETTLE_S)

    def _check(self, load: Load) -> checker.Verdict:
        found = checker.read(self._place.store, self._ledger.sent)
        self._records |= {record.version: record for record in found.records}
        found = replace(found, records=[self._records[number] for number in sorted(self._records)])
        answered = [version for version in load.answers.answered if version]
        verdict = checker.check(self._ledger, found, per_class=PER_CLASS, holdout=HOLDOUT, answered=answered)
        artifacts = open_artifacts(ArtifactsConfig(url=self._place.bucket.url), self._folder / "cache")
        for record in self._place.store.registry.versions():
            if record.state == "ready":
                try:
                    artifacts.verify(record.version, record.digest)
                except ModelError as error:
                    # Its time may have come since its record was read: a retired one's files go.
                    if self._place.store.registry.version(record.version).state == "ready":
                        verdict.unreadable[record.version] = str(error)
        return verdict


def _pending(client: Client) -> int:
    try:
        status = client.status()
    except AccreteError:
        return -1
    return int(status.pending) if status.store_alive else -1
