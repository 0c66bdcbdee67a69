"""What is to be removed when examples are deleted, as the script takes it."""

import json

from accrete_storage.examples.pending import Location
from accrete_storage.redis.keys import Keys


class Deletion:
    """Made from what is found of the examples, and good for as long as nothing has moved since."""

    def __init__(self, keys: Keys, revision: str, last_step: str) -> None:
        """`revision` and `last_step`: the state's, read before anything is looked for."""
        self.names = [keys.state, *keys.counted, keys.exemplar_bytes, keys.review_labels]
        """The script's keys."""
        self._keys = keys
        self._moment = {"revision": revision, "last_step": last_step}
        self._pending: list[list[object]] = []
        self._lists: list[list[object]] = []
        self._records: list[bytes] = []
        self._seen: dict[str, int] = {}

    def add_pending(self, example_id: str, location: Location, *, recorded: bool) -> None:
        """An example that is, or was, pending or in review there; `recorded`: its id says so."""
        label, places = location.label, (self._keys.pending, self._keys.review_notes, self._keys.review_records)
        stream, notes, records = (self._key(place(label)) for place in places)
        self._pending.append([label, stream, location.position, example_id, notes, records, recorded])

    def add_kept(self, label: str, kind: str, key: str, record: bytes, named: list[str]) -> None:
        """A record of the list `key` that goes with any of the ids `named`; `kind`: "exemplars" or "holdout"."""
        self._records.append(record)
        self._lists.append([label, self._key(key), len(self._records) + 1, kind, named])

    def add_seen(self, ids: list[str]) -> None:
        """All ids that were asked for."""
        self._seen = {example_id: self._key(self._keys.seen(example_id)) for example_id in ids}

    def arguments(self) -> list[str | bytes]:
        """The script's."""
        plan = {**self._moment, "pending": self._pending, "lists": self._lists, "seen": self._seen}
        return [json.dumps(plan), *self._records]

    def _key(self, name: str) -> int:
        self.names.append(name)
        return len(self.names)
