"""The connection: one pool, errors of one kind, scripts, and writes that return when they are durable as promised."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from accrete_storage import scripts
from accrete_storage.errors import StoreMisconfigured, StoreUnavailable

_AWAY = (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError, redis.ReadOnlyError)


@contextmanager
def reachable() -> Iterator[None]:
    """Turns every way in which a server can be away into StoreUnavailable.

    Out of memory counts as one of them: nothing was written, and it passes when room is made.
    """
    try:
        yield
    except redis.AuthenticationError as error:
        raise StoreMisconfigured(f"the store refuses the credentials of its url: {error}") from error
    except _AWAY as error:
        raise StoreUnavailable(f"the store does not answer: {error}") from error
    except redis.OutOfMemoryError as error:
        raise StoreUnavailable(f"the store is out of memory (maxmemory): {error}") from error
    except redis.ResponseError as error:
        if str(error).startswith(("MISCONF", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN")):
            raise StoreUnavailable(f"the store cannot write: {error}") from error
        raise


class Database:
    """A server of the Redis protocol. Safe to use from several threads."""

    def __init__(self, url: str, *, timeout_s: float, wait_for_fsync: bool = False) -> None:
        """`wait_for_fsync`: follow every durable write with WAITAOF, for a server that does not fsync each write."""
        self._timeout_s = timeout_s
        self.wait_for_fsync = wait_for_fsync
        # redis-py would send a command again after a lost reply; what is safe to repeat is known above, not there.
        # Any: redis-py types each answer as bytes or text, which our decode_responses decides.
        self.client: Any = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            decode_responses=False,
            protocol=2,
        )

    def call(self, script: str, keys: Sequence[str], arguments: Sequence[Any] = ()) -> Any:
        """Run a script that only reads or whose loss is harmless."""
        with reachable():
            return self._evaluate(self.client, script, keys, arguments)

    def write(self, script: str, keys: Sequence[str], arguments: Sequence[Any] = ()) -> Any:
        """Run a script and return its answer once what it wrote is as durable as promised.

        Raises StoreUnavailable; whether the script ran is then unknown.
        """
        with reachable(), self.client.client() as connection:
            answer = self._evaluate(connection, script, keys, arguments)
            self._wait(connection)
            return answer

    @contextmanager
    def pipeline(self, *, durable: bool = False) -> Iterator[Any]:
        """A transaction (MULTI/EXEC) to fill; the caller executes it. With `durable` the promise holds afterwards."""
        with reachable(), self.client.client() as connection:
            yield connection.pipeline(transaction=True)
            if durable:
                self._wait(connection)

    def _wait(self, connection: Any) -> None:
        """WAITAOF speaks of its own connection's writes, so it goes over the one that wrote."""
        if not self.wait_for_fsync:
            return
        local, _ = connection.execute_command("WAITAOF", 1, 0, int(self._timeout_s * 800))
        if local < 1:
            raise StoreUnavailable("the store did not reach the disk in time")

    def _evaluate(self, connection: Any, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        text = scripts.source(script)
        digest = hashlib.sha1(text.encode()).hexdigest()
        try:
            return connection.evalsha(digest, len(keys), *keys, *arguments)
        except redis.exceptions.NoScriptError:
            return connection.eval(text, len(keys), *keys, *arguments)

    def close(self) -> None:
        """Close the pool's connections."""
        self.client.close()
