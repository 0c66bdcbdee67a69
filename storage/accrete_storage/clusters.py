"""Which cluster runs on this prefix of the store: one at a time, and it says so for as long as it runs."""

import time

from accrete_storage.errors import Fenced
from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys


class Clusters:
    """The note of the cluster on this prefix, which expires where it is not written again."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def begin(self) -> int:
        """Return a new epoch, with which that of the controller before is over."""
        with reachable():
            epoch: int = self._database.client.hincrby(self._keys.state, "controller", 1)
        return epoch

    def is_over(self, epoch: int) -> bool:
        """Return whether the controller that began with this epoch has a successor."""
        with reachable():
            found: bytes | None = self._database.client.hget(self._keys.state, "controller")
        return found is None or int(found) != epoch

    def claim(self, cluster: str, place: str, ttl_s: float, epoch: int | None = None) -> str | None:
        """Note a cluster for a time, and return None; or the place of another one that is noted, and change nothing.

        Args:
            cluster: its id, without spaces.
            place: where it is, for people.
            ttl_s: seconds until the note expires.
            epoch: of the controller that notes it.

        Raises:
            Fenced: the epoch is over; nothing was noted.
        """
        arguments = [cluster, f"{cluster} {place}", round(ttl_s * 1000), "" if epoch is None else epoch]
        found: bytes = self._database.call("cluster_claim", [self._keys.cluster, self._keys.state], arguments)
        if not found:
            raise Fenced(f"epoch {epoch} is over: another controller runs the cluster")
        holder, _, where = found.decode().partition(" ")
        return None if holder == cluster else where

    def release(self, cluster: str) -> None:
        """Remove the note of a cluster, if it is its own."""
        with reachable():
            found: bytes | None = self._database.client.get(self._keys.cluster)
            if found is not None and found.decode().partition(" ")[0] == cluster:
                self._database.client.delete(self._keys.cluster)

    def clock_ahead_s(self) -> float:
        """Return how many seconds the store's clock is ahead of this machine's, about half a round trip unsure."""
        before = time.time()
        with reachable():
            seconds, microseconds = self._database.client.time()
        store: float = seconds + microseconds / 1e6
        return store - (before + time.time()) / 2
