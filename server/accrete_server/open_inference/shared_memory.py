"""Shared memory of callers on the server's own machine: large inputs that need not go through a message.

A region is read, never mapped: mapped memory that its owner makes smaller ends the process that looks at it, and pixels
that its owner changes would change while they are decoded. Only POSIX shared memory of Linux can be read so.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import unquote

from accrete.inference import service_pb2
from accrete_kit.addresses import is_loopback
from accrete_server.errors import AlreadyExists, InvalidInput, LimitExceeded, NotNow, PermissionDenied, Unknown

Parameters = Mapping[str, service_pb2.InferParameter]

MAX_REGIONS = 64
"""Registered at once. Each holds a file open, and with it the memory of an object that its owner has removed."""

PREFIX = "shared_memory"
"""Of the parameters of a tensor that name a region."""

_REGION, _SIZE, _OFFSET = (f"{PREFIX}_{name}" for name in ("region", "byte_size", "offset"))
_OBJECTS = Path("/dev/shm")  # where Linux has what `shm_open` opens
_NAME_MAX = 255


class Caller(Protocol):
    """The part of a call that tells where it comes from; grpc's ServicerContext has it."""

    def peer(self) -> str:
        """Return the caller's address, such as "ipv4:127.0.0.1:40000"."""
        ...


def offers(setting: Literal["auto", "on", "off"], host: str) -> bool:
    """Return whether regions may be registered with a server that listens on `host`."""
    return _OBJECTS.is_dir() and (setting == "on" or (setting == "auto" and is_loopback(host)))


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of a shared memory object, which stays open as long as anybody has this."""

    name: str
    key: str
    offset: int
    size: int
    file: int = field(repr=False)
    """Its descriptor, read-only."""

    def __post_init__(self) -> None:
        weakref.finalize(self, os.close, self.file)

    def part(self, offset: int, size: int) -> Part:
        """Return a part of the region. Raises InvalidInput where not all of it is in the region."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise InvalidInput(f"{size} bytes from {offset} on: region {self.name!r} has {self.size}")
        return Part(region=self, offset=offset, size=size)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Bytes of a region that are still to be read. It may be forgotten meanwhile."""

    region: Region
    offset: int
    """In the region."""
    size: int

    def read(self) -> bytes:
        """Return the bytes as they are now. Raises InvalidInput when there are fewer."""
        region = self.region
        data = os.pread(region.file, self.size, region.offset + self.offset)
        if len(data) != self.size:
            was = f"its object {region.key!r} has become smaller than was registered"
            raise InvalidInput(f"region {region.name!r}: {was}")
        return data


class SharedMemory:
    """The regions that are registered, by name. Names are shared by all callers who may predict."""

    def __init__(self, *, offered: bool, max_bytes: int) -> None:
        """Start without a region.

        Args:
            offered: Whether there may be any.
            max_bytes: Bytes that one request may take from a region: what a message may carry.
        """
        self.offered = offered
        self._max_bytes = max_bytes
        self._regions: dict[str, Region] = {}
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Regions that are registered."""
        return len(self._regions)

    def register(self, caller: Caller, name: str, key: str, offset: int, size: int) -> None:
        """Open a region, and keep it by its name. One whose object was removed meanwhile is forgotten.

        Args:
            caller: The call.
            name: By which requests will name it.
            key: The object's name, as `shm_open` takes it.
            offset: Where the region begins in the object.
            size: In bytes.

        Raises:
            NotNow: shared memory is not offered.
            PermissionDenied: the caller is on another machine.
            InvalidInput: there is no such object that may be read, or it has no such region.
            AlreadyExists: the name is taken.
            LimitExceeded: too many are registered.
        """
        self._check(caller)
        if not name or len(name) > _NAME_MAX:
            raise InvalidInput(f"name: {len(name)} characters; 1 to {_NAME_MAX} are allowed")
        region = _opened(name, key, offset, size)
        with self._lock:
            self._regions = {kept: one for kept, one in self._regions.items() if os.fstat(one.file).st_nlink}
            if name in self._regions:
                raise AlreadyExists(f"region {name!r} is registered; unregister it first")
            if len(self._regions) >= MAX_REGIONS:
                raise LimitExceeded("regions", MAX_REGIONS, "too many regions of shared memory are registered", 1.0)
            self._regions[name] = region

    def unregister(self, caller: Caller, name: str) -> None:
        """Forget a region, or all where no name is given. Calls that read one now finish. Raises as `register`."""
        self._check(caller)
        with self._lock:
            if name:
                self._regions.pop(name, None)
            else:
                self._regions.clear()

    def registered(self, caller: Caller, name: str) -> list[Region]:
        """Return the region of that name, or all where none is given. Raises Unknown, and as `register`."""
        self._check(caller)
        with self._lock:
            found = [region for region in self._regions.values() if name in ("", region.name)]
        if name and not found:
            raise Unknown(_none(name))
        return found

    def find(self, caller: Caller, parameters: Parameters) -> Part:
        """Return where the bytes are that a tensor's parameters name.

        Raises:
            NotNow: shared memory is not offered.
            PermissionDenied: the caller is on another machine.
            Unknown: there is no region of that name.
            InvalidInput: the region has no such bytes, or a parameter is missing or of another kind.
            LimitExceeded: they are more than a message may carry.
        """
        self._check(caller)
        name = parameters[_REGION].string_param if _REGION in parameters else ""
        size = parameters[_SIZE].int64_param if _SIZE in parameters else 0
        offset = parameters[_OFFSET].int64_param if _OFFSET in parameters else 0
        if not name or size < 1:
            raise InvalidInput(f"a tensor in shared memory has {_REGION}, a text, and {_SIZE}, 1 or more")
        if size > self._max_bytes:
            raise LimitExceeded("max_message_bytes", self._max_bytes, f"{size} bytes of shared memory in one request")
        region = self._regions.get(name)
        if region is None:
            raise Unknown(_none(name))
        return region.part(offset, size)

    def close(self) -> None:
        """Forget all regions."""
        with self._lock:
            self._regions.clear()

    def _check(self, caller: Caller) -> None:
        if not self.offered:
            raise NotNow("shared memory is not offered (server.shared_memory); send the tensor in the message")
        if not is_local(peer := caller.peer()):
            raise PermissionDenied(f"shared memory is for callers on this machine, and this one is at {peer}")


def is_local(peer: str) -> bool:
    """Return whether a caller is on this machine, by the address that gRPC tells of it."""
    kind, _, rest = unquote(peer).partition(":")
    if kind == "unix":
        return True
    return kind in ("ipv4", "ipv6") and is_loopback(rest.rpartition(":")[0])


def _opened(name: str, key: str, offset: int, size: int) -> Region:
    """Return a region that can be read. Raises InvalidInput."""
    plain = key[1:] if key.startswith("/") else key
    if not plain or "/" in plain or "\0" in plain or plain in (".", "..") or len(plain.encode()) > _NAME_MAX:
        raise InvalidInput(f"key: {key!r}; the name of a shared memory object is allowed, without a slash inside it")
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe of that name would be waited for
    try:
        file = os.open(_OBJECTS / plain, flags)
    except OSError as error:
        missing = error.errno == errno.ENOENT
        why = "there is no such object" if missing else f"it cannot be read: {error.strerror}"
        raise InvalidInput(f"key: {key!r}: {why}") from error
    region = Region(name=name, key=key, offset=offset, size=size, file=file)
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        raise InvalidInput(f"key: {key!r} is no shared memory object")
    if size < 1 or offset + size > found.st_size:
        raise InvalidInput(f"{size} bytes from {offset} on: the object {key!r} has {found.st_size}")
    return region


def _none(name: str) -> str:
    return f"no region {name!r} of shared memory is registered"
