"""The store, in which everything is that must last."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accrete_model.artifact_store import ArtifactStore
from accrete_storage import backup
from accrete_storage.backup import Backup
from accrete_storage.clusters import Clusters
from accrete_storage.config import HoldoutConfig, StoreConfig, TeachingConfig
from accrete_storage.control import Control
from accrete_storage.deep import DeepSteps
from accrete_storage.embedded.server import socket_url
from accrete_storage.errors import StoreMisconfigured
from accrete_storage.events import EventLog
from accrete_storage.examples.example import Example
from accrete_storage.examples.features import FeatureStore
from accrete_storage.examples.listing import ExampleListing
from accrete_storage.examples.memory import ExemplarMemory
from accrete_storage.examples.pending import PendingLog
from accrete_storage.examples.quarantine import Quarantine
from accrete_storage.examples.review import Review
from accrete_storage.inbox import Inbox
from accrete_storage.members import Members
from accrete_storage.redis import requirements
from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import SCHEMA, Keys
from accrete_storage.renaming import Renaming
from accrete_storage.versions.commit import Commit, Lease, Reject, Steps, acquire_lease
from accrete_storage.versions.judgements import JudgementStore
from accrete_storage.versions.prototypes import PrototypeStore
from accrete_storage.versions.registry import Registry

_NO_QUOTAS = TeachingConfig()


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreInfo:
    """The server behind the store."""

    engine: str
    """"valkey" or "redis"."""
    version: str
    used_memory: int
    """Bytes."""
    max_memory: int
    """Bytes; 0 for no limit."""


class Store:
    """A connection to the store. Safe to use from several threads, of which one at a time may run a step."""

    def __init__(
        self, database: Database, config: StoreConfig, holdout: HoldoutConfig, teaching: TeachingConfig = _NO_QUOTAS
    ) -> None:
        """Use `Store.connect`, which checks the server."""
        keys = Keys(config.prefix)
        self._database = database
        self._keys = keys
        self._steps = Steps(database, keys)
        self.pending = PendingLog(database, keys, config, holdout, teaching)
        self.memory = ExemplarMemory(database, keys)
        self.listing = ExampleListing(database, keys, self.pending)
        self.features = FeatureStore(database, keys)
        self.registry = Registry(database, keys)
        self.judgements = JudgementStore(database, keys)
        self.prototypes = PrototypeStore(database, keys)
        self.events = EventLog(database, keys)
        self.quarantine = Quarantine(database, keys)
        self.review = Review(database, keys)
        self.inbox = Inbox(database, keys)
        self.deep = DeepSteps(database, keys)
        self.members = Members(database, keys)
        self.renaming = Renaming(database, keys)
        self.clusters = Clusters(database, keys)
        self.control = Control(database, keys, pending=self.pending, memory=self.memory, registry=self.registry)

    @classmethod
    def connect(
        cls, config: StoreConfig, holdout: HoldoutConfig, *, data_dir: Path, teaching: TeachingConfig = _NO_QUOTAS
    ) -> "Store":
        """Connect, and check that the server can keep what is promised.

        Args:
            config: of the connection.
            holdout: which examples to set aside at arrival.
            data_dir: of the embedded server, which `config` without a url means.
            teaching: quotas for examples added through this connection.

        Raises:
            StoreUnavailable: the server does not answer.
            StoreMisconfigured: it cannot keep what is promised; the message says what to set.
        """
        try:
            database = Database(config.url or socket_url(data_dir), timeout_s=config.timeout_s)
        except ValueError as error:
            raise StoreMisconfigured(f"store.url: {error}") from None
        try:
            requirements.check(database, config)
        except BaseException:
            database.close()
            raise
        return cls(database, config, holdout, teaching)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def info(self) -> StoreInfo:
        """Return the server's name, version and memory."""
        with reachable():
            info = self._database.client.info()
        engine = "valkey" if "valkey_version" in info else "redis"
        return StoreInfo(
            engine=engine,
            version=str(info[f"{engine}_version"]),
            used_memory=int(info["used_memory"]),
            max_memory=int(info["maxmemory"]),
        )

    def bind_model(self, description: str) -> None:
        """Tie what is stored to the form of the model's input, which the first call decides.

        From then on no other store is taken for this one: where the address leads to one, it counts as away.

        Raises:
            StoreMisconfigured: what is stored has another form, or another schema than this release's.
        """
        with self._database.transaction() as pipeline:
            for name, value in (("model", description), ("schema", SCHEMA), ("identity", uuid.uuid4().hex)):
                pipeline.hsetnx(self._keys.state, name, value)
            pipeline.hmget(self._keys.state, "model", "schema", "identity")
            model, schema, identity = (value.decode() for value in pipeline.execute()[-1])
        self._database.identity = partial(_check_identity, self._keys.state, identity)
        if schema != SCHEMA:
            raise StoreMisconfigured(f"the store has schema {schema}; this release reads schema {SCHEMA}")
        if model != description:
            raise StoreMisconfigured(
                f"the store holds examples for the model input {model}, and the configuration says {description}: "
                "set [model] back, or use another data_dir (or store.prefix)"
            )

    def identity(self) -> str:
        """Return the name by which this store is known from others, once `bind_model` was called for it.

        One that was restored has another name than the one that was backed up, which may go on.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        with reachable():
            values: list[bytes | None] = self._database.client.hmget(self._keys.state, "identity", "restored")
        return "-".join(value.decode() for value in values if value)

    def back_up(self, folder: Path, artifacts: ArtifactStore) -> Backup:
        """Write a backup of everything while it runs; see `backup.take`."""
        return backup.take(self._database, self._keys, artifacts, folder)

    def restore(self, found: Backup, artifacts: ArtifactStore) -> None:
        """Put what `backup.read` found into this store and `artifacts`, both empty; see `backup.restore`."""
        backup.restore(found, self._database, self._keys, artifacts)

    def acquire_lease(self, owner: str, ttl_s: float = 10.0) -> Lease | None:
        """Return the right to commit, under a new epoch, or None while another learner has it."""
        return acquire_lease(self._database, self._keys, owner, ttl_s)

    def lease_holder(self) -> str | None:
        """Return who has the lease."""
        with reachable():
            value: bytes | None = self._database.client.get(self._keys.lease)
        return None if value is None else value.decode().partition(" ")[2]

    def stage(
        self,
        step_id: str,
        exemplars: Mapping[str, Sequence[Example]],
        holdout: Mapping[str, Sequence[Example]],
        features: Mapping[str, Mapping[str, bytes]] | None = None,
    ) -> None:
        """Write what `commit` will move into place; again replaces it.

        Args:
            step_id: of the step.
            exemplars: the whole new list of each label named.
            holdout: likewise.
            features: packed features by label and id, which are added to those that are kept, or replace all of them
                where the commit says that they are of another backbone.
        """
        self._steps.stage(step_id, exemplars, holdout, features or {})

    def commit(self, commit: Commit) -> bool:
        """End a step in one write, by which memory, version, consumed examples and event change together or not at all.

        Returns:
            False when this step was committed before.

        Raises:
            Fenced: another learner has the lease.
            InputsChanged: examples of the step were deleted, or a class forgotten or renamed.
            StoreUnavailable: whether it was committed is unknown; stage and commit the same step again.
        """
        return self._steps.commit(commit, self.memory.labels())

    def reject(self, reject: Reject) -> bool:
        """Record a rejected version, and put its examples into quarantine.

        Returns:
            False when it was recorded before.

        Raises:
            Fenced: another learner has the lease.
            InputsChanged: a class was renamed or merged meanwhile.
        """
        return self._steps.reject(reject)


def _check_identity(key: str, identity: str, connection: Any) -> None:
    """Check by its key in the state that a new connection leads to the same store as before.

    Raises:
        StoreMisconfigured: it does not.
    """
    connection.send_command("HGET", key, "identity")
    found = connection.read_response()
    if found != identity.encode():
        what = "an empty one" if found is None else "another one"
        raise StoreMisconfigured(
            f"the store's address leads to {what} now, in which nothing is read or written; lead it back, or start the "
            "node anew if that store is meant"
        )
