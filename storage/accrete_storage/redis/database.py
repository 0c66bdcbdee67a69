"""The connection, as one pool with our errors and scripts, to the server that the address means now.

After a failover the address (a name, a virtual address, Sentinel's answer) leads to another server, while connections
that stand may lead to the old one, which is a replica by then. So each new connection is checked (primary, settings,
the same store as before), and whatever makes one connection suspect has all of them made anew before their next
command.
"""

import contextlib
import math
import os
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from accrete_storage import store_url
from accrete_storage.errors import StorageError, StoreMisconfigured, StoreUnavailable
from accrete_storage.redis import scripts

SETTINGS = ("maxmemory-policy", "appendonly", "appendfsync", "no-appendfsync-on-rewrite", "save")
"""Settings of the server on which our guarantees depend."""
_AWAY = (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError)
_REPLICA = (redis.ReadOnlyError, redis.exceptions.MasterDownError)
"""The server is a replica by now, one that has lost its primary perhaps."""
_REPLICAS_ROLE = "slave"
_MOVED = (redis.exceptions.MovedError, redis.exceptions.ClusterCrossSlotError)
"""The server is a node of a cluster, and not the one that has our keys."""
_MOVING = (redis.exceptions.AskError, redis.exceptions.TryAgainError, redis.exceptions.ClusterDownError)
"""It is one of a cluster that is being changed."""
_UNBLOCKED = "UNBLOCKED"
"""First word of the reply to a read that waits while the server becomes a replica."""
_PASSING = ("MISCONF", "BUSY", "NOREPLICAS", "UNKILLABLE", _UNBLOCKED)
"""First words of replies that mean "not now", and that nothing was written."""
_SUSPECT = (redis.ConnectionError, redis.TimeoutError, *_REPLICA)
"""After these, other connections may lead nowhere, or to a server that is not the right one any more."""
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE", "UNSUPPORTED_PROTOCOL")
"""What OpenSSL says of an answer that is no handshake."""
_LOOK_S = 2.0
"""Seconds after which a connection looks, before its next command, whether its server is a primary still: a replica
answers reads, and nothing else would tell whoever only reads."""
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
    except (*_AWAY, redis.InvalidResponse) as error:
        raise StoreUnavailable(wrong_server(error) or f"the store does not answer: {error}") from error
    except _REPLICA as error:
        raise StoreUnavailable(
            f"the store has become a replica ({error}); its address is resolved again with the next call"
        ) from error
    except _MOVED as error:
        raise StoreMisconfigured(
            f"the store is a node of a cluster, and another node has our keys ({error}): set store.url to that one, or "
            "to a server that is in no cluster"
        ) from error
    except _MOVING as error:
        raise StoreUnavailable(f"the store's cluster is being changed: {error}") from error
    except redis.OutOfMemoryError as error:
        raise StoreUnavailable(f"the store is out of memory (maxmemory): {error}") from error
    except redis.exceptions.NoPermissionError as error:
        raise StoreMisconfigured(f"the store's user may not do what is needed: {error}") from error
    except redis.RedisError as error:
        if str(error).startswith(_PASSING):
            raise StoreUnavailable(f"the store cannot write: {error}") from error
        raise StorageError(f"the store refuses a command: {error}") from error


def wrong_server(error: BaseException | None) -> str:
    """Return why waiting for what answers at the store's address would be in vain; "" where it is away, or may be."""
    if isinstance(error, redis.InvalidResponse):
        return f"something else than Redis answers at the store's address ({error})"
    below = error.__cause__ or error.__context__ if error is not None else None
    if isinstance(below, ssl.SSLCertVerificationError):
        return (
            f"the store's certificate is not accepted ({below.verify_message}): ?ssl_ca_certs=FILE in store.url names "
            "those that it must lead to"
        )
    if isinstance(below, ssl.SSLError) and below.reason in _NO_TLS:
        return "the store does not encrypt, or something else answers at its address: write redis:// for rediss://"
    return ""


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
        self.identity: Callable[[Any], None] | None = None
        """Raises StoreMisconfigured where a connection leads to another store than before."""
        self.generation = 0
        """Counts how often all connections became suspect."""
        self._run_id = ""
        # redis-py would send a command again after a lost reply; which are safe to repeat is known by our callers.
        options: dict[str, Any] = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "max_connections": _MAX_CONNECTIONS,
            "redis_connect_func": self._greet,
            "command_packer": LargePieces(),
            "decode_responses": False,
            "protocol": 2,
        }
        # Any, since redis-py types each reply as bytes or text, which our decode_responses decides.
        self.client: Any = _sentinel_client(url, options) or redis.Redis.from_url(url, **options)
        pool = self.client.connection_pool
        kind = pool.connection_class
        if kind is redis.UnixDomainSocketConnection:
            kind = _SocketConnection
        pool.connection_class = type("RenewedConnection", (_RenewedConnection, kind), {"database": self})

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
        """Check a new connection, before it is used.

        Raises:
            redis.ConnectionError: it leads to a server that must not be used. An error of redis-py's own, so that it
                drops the connection: the store is away until the address leads to the right one, or it is set right.
        """
        connection.looked_s, connection.generation = math.inf, self.generation
        connection.on_connect()
        if self.guard is None:
            connection.looked_s = time.monotonic()
            return
        connection.send_command("INFO", "server", "replication")
        info = _read_info(connection.read_response())
        if info.get("role") == _REPLICAS_ROLE:
            raise redis.ConnectionError(f"it is a replica of {info.get('master_host')}:{info.get('master_port')} now")
        connection.send_command("CONFIG", "GET", *SETTINGS)
        try:
            self.guard(read_settings(connection.read_response()))
            if self.identity is not None and info.get("run_id") != self._run_id:
                self.identity(connection)
        except StoreMisconfigured as error:
            raise redis.ConnectionError(str(error)) from error
        run_id = info.get("run_id", "")
        if self._run_id not in ("", run_id):  # the address leads elsewhere: what was connected before may lead there
            self.generation += 1
            connection.generation = self.generation
        self._run_id = run_id
        connection.looked_s = time.monotonic()


class _RenewedConnection:
    """Mixed into a connection of redis-py: it is made anew before its next command once all are suspect."""

    database: Database
    generation = 0
    looked_s = math.inf
    """When it looked whether its server is a primary (time.monotonic()); infinity while it is being made."""
    _sock: Any

    def send_packed_command(self, *arguments: Any, **named: Any) -> Any:
        """Send a command, to where the address leads now."""
        if self._sock is not None and time.monotonic() > self.looked_s + _LOOK_S:
            self._look()
        if self._sock is not None and self.generation != self.database.generation:
            self.disconnect()  # type: ignore[attr-defined]
        return super().send_packed_command(*arguments, **named)  # type: ignore[misc]

    def _look(self) -> None:
        """Make all connections suspect where the server is a replica by now."""
        self.looked_s = math.inf
        self.send_command("INFO", "replication")  # type: ignore[attr-defined]
        if _read_info(self.read_response()).get("role") == _REPLICAS_ROLE:
            self._suspect()
        self.looked_s = time.monotonic()

    def read_response(self, *arguments: Any, **named: Any) -> Any:
        """Read a reply; one that shows that the server is not the right one any more makes all connections suspect."""
        try:
            return super().read_response(*arguments, **named)  # type: ignore[misc]
        except _SUSPECT:
            self._suspect()
            raise
        except redis.ResponseError as error:
            if str(error).startswith(_UNBLOCKED):
                self._suspect()
            raise

    def _suspect(self) -> None:
        if self.generation == self.database.generation:  # else another has found the same
            self.database.generation += 1


def _sentinel_client(url: str, options: dict[str, Any]) -> Any:
    """Return a client of whichever server Sentinel names, or None for an address of another kind."""
    address = store_url.sentinels(url)
    if address is None:
        return None
    asking = {name: value for name, value in options.items() if name.startswith("socket_")}
    own = {"username": address.sentinel_username, "password": address.sentinel_password}
    tls: dict[str, Any] = {} if address.tls is None else {"ssl": True, **address.tls}
    if "ssl_check_hostname" in tls:  # redis-py reads the words of addresses of other kinds alone
        tls["ssl_check_hostname"] = tls["ssl_check_hostname"].lower() in ("true", "yes", "1")
    kind: Any = Sentinel  # redis-py leaves its types out
    known = kind(address.sentinels, sentinel_kwargs={**asking, **own, **tls, "retry": options["retry"]})
    account = {"username": address.username, "password": address.password}
    return known.master_for(address.service, db=address.database, **account, **tls, **options)


def _read_info(reply: bytes) -> dict[str, str]:
    """Return the lines "name:value" of a reply to INFO."""
    lines = (line.partition(":") for line in _text(reply).splitlines() if ":" in line)
    return {name: value for name, _, value in lines}


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
