"""The connection: one pool, errors of one kind, scripts, and no connection to a server that lost its settings."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from accrete_storage.errors import StorageError, StoreMisconfigured, StoreUnavailable
from accrete_storage.redis import scripts

SETTINGS = ("maxmemory-policy", "appendonly", "appendfsync", "no-appendfsync-on-rewrite", "save")
"""What our promises depend on."""
_AWAY = (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError, redis.ReadOnlyError)
_PASSING = ("MISCONF", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS", "UNKILLABLE")
"""First words of answers that mean: not now, and nothing was written."""
_MAX_CONNECTIONS = 1024
"""One for each thread that is in the store at one time; redis-py's own limit of 100 is below a large thread pool."""

_REWRITE_WAIT_S = 5.0
"""How long a deletion waits for a rewrite of the append-only file that began before it."""


@contextmanager
def reachable() -> Iterator[None]:
    """Turns every error of the server into one of ours, every way in which it can be away into StoreUnavailable.

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
    except redis.exceptions.NoPermissionError as error:
        raise StoreMisconfigured(f"the store's user may not do what is needed: {error}") from error
    except redis.RedisError as error:
        if str(error).startswith(_PASSING):
            raise StoreUnavailable(f"the store cannot write: {error}") from error
        raise StorageError(f"the store refuses a command: {error}") from error


class Database:
    """A server of the Redis protocol. Safe to use from several threads."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """Connects with the first command. Raises ValueError for an address that is none."""
        self.guard: Callable[[Mapping[str, str]], None] | None = None
        """Refuses settings by raising StoreMisconfigured. A server that was checked may be restarted with others, and
        would acknowledge what it does not keep: so each new connection is checked, not the first alone."""
        # redis-py would send a command again after a lost reply; what is safe to repeat is known above, not there.
        # Any: redis-py types each answer as bytes or text, which our decode_responses decides.
        self.client: Any = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            max_connections=_MAX_CONNECTIONS,
            redis_connect_func=self._greet,
            command_packer=LargePieces(),
            decode_responses=False,
            protocol=2,
        )

    def call(self, script: str, keys: Sequence[str], arguments: Sequence[Any] = ()) -> Any:
        """Run a script; what it wrote is on disk by its answer, since the server syncs before it replies.

        Raises StoreUnavailable; whether the script ran is then unknown.
        """
        found = scripts.load(script)
        with reachable():
            try:
                return self.client.evalsha(found.sha1, len(keys), *keys, *arguments)
            except redis.exceptions.NoScriptError:
                return self.client.eval(found.text, len(keys), *keys, *arguments)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A MULTI/EXEC to fill; the caller executes it."""
        with reachable(), self.client.pipeline(transaction=True) as pipeline:
            yield pipeline

    def rewrite_log(self) -> None:
        """Have the append-only file written anew, in the background: until then it holds what was removed.

        One that runs already has read the data before, so it is waited for. A user that may not ask for it leaves it to
        the store's own growth limit.
        """
        deadline = time.monotonic() + _REWRITE_WAIT_S
        with contextlib.suppress(redis.RedisError):
            while self.client.info("persistence")["aof_rewrite_in_progress"] and time.monotonic() < deadline:
                time.sleep(0.05)
            self.client.bgrewriteaof()

    def close(self) -> None:
        """Close the pool's connections."""
        self.client.close()

    def _greet(self, connection: Any) -> None:
        connection.on_connect()
        if self.guard is None:
            return
        connection.send_command("CONFIG", "GET", *SETTINGS)
        try:
            self.guard(read_settings(connection.read_response()))
        except StoreMisconfigured as error:
            # An error of redis-py's own, so that it drops the connection: the store is away until it is set right.
            raise redis.ConnectionError(str(error)) from error


class LargePieces:
    """Makes pieces of a mebibyte of a command. redis-py makes pieces of 6 KB, each with calls to the kernel of its own
    and a store that wakes up for it: for a batch of examples, more than a hundred. Not a single piece: each has the
    whole timeout to be sent in."""

    SIZE = 1 << 20
    """Bytes from which on a piece is complete."""

    def pack(self, name: str, *words: bytes | str | float) -> list[bytes]:
        """The command's bytes; its name may be two words."""
        given = [*name.split(), *words]
        pieces, size, parts = [], 0, [b"*%d\r\n" % len(given)]
        for word in given:
            data = str(word).encode() if isinstance(word, str | int | float) else word
            parts += (b"$%d\r\n" % len(data), data, b"\r\n")
            size += len(data)
            if size >= self.SIZE:
                pieces.append(b"".join(parts))
                parts, size = [], 0
        return [*pieces, b"".join(parts)]


def read_settings(answer: Any) -> dict[str, str]:
    """What CONFIG GET answers, as text; redis-py gives a dictionary or, below its client, a flat list."""
    pairs = answer.items() if isinstance(answer, Mapping) else zip(answer[::2], answer[1::2], strict=True)
    return {_text(name): _text(value) for name, value in pairs}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
