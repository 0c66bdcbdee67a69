"""The plan of a deletion, as the script takes it."""

import json
from collections.abc import Mapping

from accrete_storage.examples.pending import Location
from accrete_storage.redis.keys import Keys


class Deletion:
    """What to remove, by where the examples were found; the script refuses it once anything has moved."""

    def __init__(self, keys: Keys, revision: str, last_step: str) -> None:
        """Begin a plan with the state's `revision` and `last_step`, read before any example is looked for."""
        self.names = [keys.state, *keys.counted, keys.exemplar_bytes, keys.review_labels, keys.judgements, *keys.inbox]
        """Keys of the script, whose position in the plan counts from 1."""
        self._keys = keys
        self._moment = {"revision": revision, "last_step": last_step}
        self._pending: list[list[object]] = []
        self._lists: list[list[object]] = []
        self._records: list[bytes] = []
        self._features: list[list[object]] = []
        self._seen: dict[str, int] = {}
        self._reopen: dict[str, str] = {}

    def add_pending(self, example_id: str, location: Location, *, seen: bool) -> None:
        """Add an example that is, or was, pending or in review at a location; `seen` when its id's key says so."""
        label, places = location.label, (self._keys.pending, self._keys.review_notes, self._keys.review_records)
        stream, notes, records = (self._key(place(label)) for place in places)
        self._pending.append([label, stream, location.position, example_id, notes, records, seen])

    def add_kept(self, label: str, kind: str, key: str, record: bytes, named: list[str]) -> None:
        """Add a record of a list that is removed with any of some ids.

        Args:
            label: of the list.
            kind: "exemplars" or "holdout".
            key: of the list.
            record: in it.
            named: those of the ids to delete that it is, or was made from.
        """
        self._records.append(record)
        self._lists.append([label, self._key(key), len(self._records) + 1, kind, named])

    def add_feature(self, key: str, example_id: str) -> None:
        """Add the feature of an example in a label's hash."""
        self._features.append([example_id, self._key(key)])

    def add_seen(self, ids: list[str]) -> None:
        """Set all ids that are to be deleted."""
        self._seen = {example_id: self._key(self._keys.seen(example_id)) for example_id in ids}

    def reopen(self, decisions: Mapping[str, str]) -> None:
        """Let items of the inbox stay and be open again, by id with the decision (JSON) that was found of each."""
        self._reopen = dict(decisions)

    def arguments(self) -> list[str | bytes]:
        """Return the arguments of the script."""
        plan = {
            **self._moment,
            "pending": self._pending,
            "lists": self._lists,
            "features": self._features,
            "seen": self._seen,
            "reopen": self._reopen,
        }
        return [json.dumps(plan), *self._records]

    def _key(self, name: str) -> int:
        self.names.append(name)
        return len(self.names)
