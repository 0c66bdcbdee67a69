"""The connection, as one pool with our errors and scripts, and none to a server that has lost its settings."""

import contextlib
import os
import sys
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
"""Settings of the server on which our guarantees depend."""
_AWAY = (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError, redis.ReadOnlyError)
_PASSING = ("MISCONF", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS", "UNKILLABLE")
"""First words of replies that mean "not now", and that nothing was written."""
_MAX_CONNECTIONS = 1024
"""One per thread that uses the store at a time; redis-py's own limit of 100 is below a large thread pool."""

_SOCKET_PATH_MAX = 108
"""Bytes of an address of a unix socket with its final zero, by sys/un.h."""

_REWRITE_WAIT_S = 5.0
"""How long a deletion waits for a rewrite of the append-only file that began before it."""


@contextmanager
def reachable() -> Iterator[None]:
    """Turn every error of the server into one of ours.

    Raises:
        StoreUnavailable: it is away in any way, or out of memory, in which case nothing was written.
        StoreMisconfigured: it refuses the credentials, or a command to the user.
        StorageError: for any other error.
    """
    try:
        yield
    except redis.AuthenticationError as error:
        raise StoreMisconfigured(f"the store refuses the credentials of its url: {error}") from error
    except redis.BusyLoadingError as error:
        raise StoreUnavailable("the store is loading its data") from error
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
        """Connect with the first command.

        Args:
            url: address of the server.
            timeout_s: seconds to wait for a connection or a reply.

        Raises:
            ValueError: when `url` is no address.
        """
        self.guard: Callable[[Mapping[str, str]], None] | None = None
        """Raises StoreMisconfigured for settings with which the server would acknowledge what it does not keep.

        Each new connection is checked, since a server may be restarted with other settings.
        """
        # redis-py would send a command again after a lost reply; which are safe to repeat is known by our callers.
        # Any, since redis-py types each reply as bytes or text, which our decode_responses decides.
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
        pool = self.client.connection_pool
        if pool.connection_class is redis.UnixDomainSocketConnection:
            pool.connection_class = _SocketConnection

    def call(self, script: str, keys: Sequence[str], arguments: Sequence[Any] = ()) -> Any:
        """Run a script and return its reply; what it wrote is then on disk, since the server syncs before it replies.

        Args:
            script: its name in `scripts`.
            keys: KEYS of it.
            arguments: ARGV of it.

        Raises:
            StoreUnavailable: whether the script ran is unknown.
        """
        found = scripts.load(script)
        with reachable():
            try:
                return self.client.evalsha(found.sha1, len(keys), *keys, *arguments)
            except redis.exceptions.NoScriptError:
                return self.client.eval(found.text, len(keys), *keys, *arguments)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """Open a MULTI/EXEC transaction, which the caller fills and executes."""
        with reachable(), self.client.pipeline(transaction=True) as pipeline:
            yield pipeline

    def rewrite_log(self) -> None:
        """Start to write the append-only file anew in the background, since until then it has what was removed.

        A rewrite that runs already may have read the data before, so it is waited for. Where the store's user may not
        ask for a rewrite, the store's own growth limit brings one.
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


class _SocketConnection(redis.UnixDomainSocketConnection):
    """A connection to a unix socket whose path may be longer than the 107 bytes that an address of one holds."""

    def _connect(self) -> Any:
        if len(os.fsencode(self.path)) < _SOCKET_PATH_MAX or sys.platform != "linux":
            return super()._connect()  # type: ignore[no-untyped-call]
        path = self.path
        folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.path = f"/proc/self/fd/{folder}/{os.path.basename(path)}"
            return super()._connect()  # type: ignore[no-untyped-call]
        finally:
            self.path = path
            os.close(folder)


class LargePieces:
    """Packs a command into pieces of a mebibyte.

    redis-py makes pieces of 6 KB, each with system calls of its own and a wake-up of the store, more than a hundred for
    a batch of examples. A single piece would have to be sent within one timeout.
    """

    SIZE = 1 << 20
    """Bytes at which a piece is complete."""

    def pack(self, name: str, *words: bytes | str | float) -> list[bytes]:
        """Return the command's bytes; its name may be two words."""
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


def read_settings(reply: Any) -> dict[str, str]:
    """Return a reply to CONFIG GET as text; redis-py gives a dictionary or, below its client, a flat list."""
    pairs = reply.items() if isinstance(reply, Mapping) else zip(reply[::2], reply[1::2], strict=True)
    return {_text(name): _text(value) for name, value in pairs}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
