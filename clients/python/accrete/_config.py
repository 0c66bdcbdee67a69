"""Address, encryption and retries of a client. No other module of the client reads the environment."""

from __future__ import annotations

import ipaddress
import json
import os
import pathlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from ._errors import AccreteError, InvalidInput, LimitExceeded, Unavailable

DEFAULT_ADDRESS = "127.0.0.1:50051"
ADDRESS_VARIABLE = "ACCRETE_ADDRESS"
TOKEN_VARIABLE = "ACCRETE_TOKEN"
NODE_VARIABLE = "ACCRETE_NODE"
NODE_KEY = "accrete-node-bin"
DEFAULT_TIMEOUT_S = 30.0  # a server that is restarted is back well within it
_TOKEN_KEY = "authorization"
MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # the server's own default limit
CONNECT_S = 5.0  # that an attempt to connect may take, with all that is exchanged before the first call

Options = list[tuple[str, int | str]]


@dataclass(frozen=True, kw_only=True)
class Retry:
    """When a failed call is made again, which is within its deadline and never does anything twice."""

    initial_s: float = 0.1
    """Seconds before the second attempt. Most outages are one connection that has to be made anew."""

    multiplier: float = 2.0
    """Factor between one pause and the next."""

    max_s: float = 2.0
    """Longest pause, in seconds. A server that is back is found soon; jitter spreads those who wait for it."""

    attempts: int = 0
    """How often a call is made at most; 0 for as often as its deadline allows."""

    first_s: float = 1.0
    """Seconds that a server which has never answered this client is tried while nothing listens at its address. One
    that has answered is waited for as long as the deadline allows."""

    def pause_s(self, error: AccreteError, attempt: int, generator: random.Random) -> float | None:
        """Return the seconds to wait after failed attempt number `attempt` (1, 2, ...); None to give up."""
        if self.attempts and attempt >= self.attempts:
            return None
        if isinstance(error, LimitExceeded | Unavailable) and error.retry_after is not None:
            return error.retry_after * generator.uniform(1.0, 1.25)
        if not isinstance(error, Unavailable):
            return None
        longest = min(self.max_s, self.initial_s * self.multiplier ** min(attempt - 1, 64))
        return longest * generator.uniform(0.5, 1.0)


NO_RETRY = Retry(attempts=1)


@dataclass(frozen=True, kw_only=True)
class TlsConfig:
    """Files (PEM) for an encrypted connection. Without any, the server is checked against gRPC's root certificates."""

    root_certificates: str | os.PathLike[str] | None = None
    """Certificates that the chain of the server's certificate must end in."""

    certificate: str | os.PathLike[str] | None = None
    """This client's own certificate chain, where the server asks for one."""

    private_key: str | os.PathLike[str] | None = None
    """The key of `certificate`."""

    server_name: str = ""
    """The name that the server's certificate is for, where that is not the one of the address: behind a tunnel, say."""

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files. Raises InvalidInput that names the one that cannot be read."""
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.root_certificates),
            private_key=_read(self.private_key),
            certificate_chain=_read(self.certificate),
        )


def _read(path: str | os.PathLike[str] | None) -> bytes | None:
    if path is None:
        return None
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{os.fspath(path)}: {error.strerror}") from error


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where to connect and how."""

    target: str
    addresses: tuple[str, ...]
    """The target's parts as they were given."""
    local: bool
    """Whether all of them are on this machine."""
    options: Options
    tls: TlsConfig | None
    credentials: grpc.ChannelCredentials | None
    metadata: tuple[tuple[str, str | bytes], ...] = field(default=(), repr=False)
    """Sent with every call: the token, which no representation shows, and the node that it is meant for."""

    def admits(self, address: str) -> bool:
        """Return whether a server's address that another server tells of can be used, and the token be sent there."""
        odd = not address.isascii() or not address.isprintable() or "," in address
        if odd or address.startswith(("unix:", "dns:")) or not _is_address(address):
            return False
        secret = any(key == _TOKEN_KEY for key, _ in self.metadata)
        return self.tls is not None or not secret or _is_local(address)

    def at(self, address: str) -> Endpoint:
        """Return the endpoint of one server at another address, with the same credentials."""
        options = _options(spread=False, local=_is_local(address)) + _named(self.tls)
        return replace(
            self,
            target=address,
            addresses=(address,),
            local=_is_local(address),
            # A connection of its own: one that is stuck is not to be shared with what takes its place.
            options=[*options, ("grpc.use_local_subchannel_pool", 1)],
        )

    def channel(self, interface: Any) -> Any:
        """Open a channel of gRPC's blocking or asyncio interface, the module `grpc` or `grpc.aio`."""
        if self.credentials is None:
            return interface.insecure_channel(self.target, self.options)
        return interface.secure_channel(self.target, self.credentials, self.options)


def endpoint(
    address: str | None,
    tls: bool | TlsConfig,
    token: str | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    node: str | None = None,
) -> Endpoint:
    """Return the endpoint for what a caller gave.

    Args:
        address: "host:port", "unix:path", or several "ip:port,ip:port" among which the calls are spread. None for the
            environment's ACCRETE_ADDRESS, else 127.0.0.1:50051.
        tls: whether and how to encrypt.
        token: who calls. None for the environment's ACCRETE_TOKEN, if set.
        environment: None for the process's own.
        node: the name of the node that calls are meant for. None for the environment's ACCRETE_NODE, if set.

    Raises:
        InvalidInput: one of them cannot be used.
    """
    environment = os.environ if environment is None else environment
    given = address or environment.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS
    parts = [part.strip() for part in given.split(",")]
    if not all(map(_is_address, parts)):
        raise InvalidInput(f'address "{given}": host:port, unix:path, or several ip:port with commas are allowed')
    config = TlsConfig() if tls is True else tls or None
    local = all(map(_is_local, parts))
    metadata = _metadata(token if token is not None else environment.get(TOKEN_VARIABLE, ""))
    if metadata and not config and not local:
        raise InvalidInput(f'address "{given}": a token goes to other machines encrypted alone; set tls')
    meant_for = node if node is not None else environment.get(NODE_VARIABLE, "")
    return Endpoint(
        target=parts[0] if len(parts) == 1 else _several(parts),
        addresses=tuple(parts),
        local=local,
        options=_options(spread=len(parts) > 1 or parts[0].startswith("dns:"), local=local) + _named(config),
        tls=config,
        credentials=config.credentials() if config else None,
        metadata=(*metadata, *([(NODE_KEY, meant_for.encode(errors="replace"))] if meant_for else [])),
    )


def _named(config: TlsConfig | None) -> Options:
    return [("grpc.ssl_target_name_override", config.server_name)] if config and config.server_name else []


def _metadata(token: str) -> tuple[tuple[str, str | bytes], ...]:
    token = token.strip()
    if not token:
        return ()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidInput("token: printable ASCII without spaces is allowed")
    return ((_TOKEN_KEY, f"Bearer {token}"),)


def _is_address(part: str) -> bool:
    if part.startswith("unix:"):
        return len(part) > len("unix:")
    host, _, port = part.removeprefix("dns:///").rpartition(":")
    url = "//" in host and not host.startswith("dns:")  # gRPC would take http://host for a name and look it up for ever
    return bool(host) and not url and port.isdecimal() and 0 < int(port) < 65_536


def _is_local(part: str) -> bool:
    return part.startswith("unix:") or part.rpartition(":")[0] in ("localhost", "127.0.0.1", "[::1]")


def _several(parts: list[str]) -> str:
    """Return the target for several addresses; gRPC takes no list of names."""
    try:
        versions = {ipaddress.ip_address(part.rpartition(":")[0].strip("[]")).version for part in parts}
    except ValueError:
        versions = set()
    if len(versions) != 1:
        raise InvalidInput(
            f'address "{",".join(parts)}": several must all be IPv4 or all IPv6 addresses; '
            "for a name that stands for several, give dns:///name:port"
        )
    return f"ipv{versions.pop()}:{','.join(parts)}"


def _options(*, spread: bool, local: bool) -> Options:
    policy = "round_robin" if spread else "pick_first"
    return [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", -1),  # the server judges, and says which limit
        # Finds connections that died without a word, also while a watch is silent. Servers allow one ping in 10 s.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        # gRPC's own pauses between connection attempts grow to 2 minutes, far beyond the deadlines here.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", round(1000 * CONNECT_S)),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.enable_http_proxy", int(not local)),
        ("grpc.service_config", json.dumps({"loadBalancingConfig": [{policy: {}}]})),
    ]
