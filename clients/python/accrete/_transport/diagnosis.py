"""What is wrong where no server answers: nothing listens, something else does, or the two do not agree on TLS.

gRPC tells these apart late or not at all, so they are found out by a connection of one's own. It sends no token.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from .._config import Endpoint, TlsConfig

_LOOK_S = 1.0
"""Seconds that a connection and its first bytes are waited for."""
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # HTTP/2's preface and empty settings
_SETTINGS = 4
_FRAME_BYTES = 9
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")  # that gRPC reads
_HTTP_STATUS = re.compile(r"received http2 header with status: (\d+)", re.IGNORECASE)
_NO_SUCH_CALL = re.compile(r"method not found|unknown (service|method)", re.IGNORECASE)
_ELSE = "something else answers on this port"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Why a server cannot be reached."""

    text: str
    hopeless: bool
    """Whether waiting does not help: what answers is not the server, or is to be asked otherwise."""
    slow: bool = False
    """Whether it may be a server that is stuck or far away, which is worth the whole of one attempt to connect."""


def diagnose(endpoint: Endpoint, environment: Mapping[str, str] | None = None) -> Diagnosis | None:
    """Return what is wrong with all of an endpoint's addresses; None where one is sound, or nothing can be said."""
    environment = os.environ if environment is None else environment
    if not endpoint.local and any(environment.get(name) or environment.get(name.upper()) for name in _PROXIES):
        return None
    found = [_diagnose(address, endpoint.tls) for address in endpoint.addresses]
    if None in found:
        return None
    known = [one for one in found if one is not None]
    first = next((one for one in known if one.hopeless), known[0])
    if len(known) > 1 and not first.hopeless:
        text = f"{first.text} (nor is there a server at the other addresses)"
        return Diagnosis(text=text, hopeless=False, slow=any(one.slow for one in known))
    return first


def judge_answer(details: str, endpoint: Endpoint) -> str | None:
    """Return what an answer without sense says of whoever gave it; None for one that Accrete might give."""
    where = ", ".join(endpoint.addresses)
    status = _HTTP_STATUS.search(details)
    if status is not None:
        return f"{_ELSE}: {where} is a web server (HTTP status {status[1]})"
    if _NO_SUCH_CALL.search(details):
        return f"{_ELSE}: {where} is another gRPC server, or one of a release that lacks this call ({details})"
    return None


def _diagnose(address: str, tls: TlsConfig | None) -> Diagnosis | None:
    try:
        with _connect(address) as plain:
            return _of_tls(plain, address, tls) if tls is not None else _of_plain(plain, address)
    except ConnectionRefusedError:
        return Diagnosis(text=f"nothing listens at {address}; start it with accrete up", hopeless=False)
    except FileNotFoundError:
        return Diagnosis(text=f"nothing listens at {address}: there is no such socket", hopeless=False)
    except socket.gaierror as error:
        return Diagnosis(text=f"{address}: the host's name is not known ({error.strerror})", hopeless=False)
    except TimeoutError:
        text = f"{address} does not answer: no machine has this address, or a firewall drops what is sent to it"
        return Diagnosis(text=text, hopeless=False, slow=True)
    except OSError as error:
        return Diagnosis(text=f"{address} cannot be reached: {error.strerror or error}", hopeless=False)


def _connect(address: str) -> socket.socket:
    if address.startswith("unix:"):
        found = socket.socket(socket.AF_UNIX)
        found.settimeout(_LOOK_S)
        try:
            found.connect(address.removeprefix("unix:").removeprefix("//"))
        except BaseException:
            found.close()
            raise
        return found
    host, port = _host_and_port(address)
    return socket.create_connection((host, port), timeout=_LOOK_S)


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("dns:///").rpartition(":")
    return host.strip("[]"), int(port)


def _of_plain(connection: socket.socket, address: str) -> Diagnosis | None:
    """Greet as HTTP/2 does, and judge by the first bytes that come back."""
    try:
        first = _first_bytes(connection)
    except TimeoutError:
        return _silent(address)
    except OSError:
        first = b""  # hung up on
    if _is_http2(first):
        return None
    if _alerts(first) or (not first and _speaks_tls(address)):
        text = f"{address} asks for an encrypted connection: use --tls or --ca FILE (in Python: tls=...)"
        return Diagnosis(text=text, hopeless=True)
    return _something_else(first, address)


def _of_tls(connection: socket.socket, address: str, tls: TlsConfig) -> Diagnosis | None:
    """Shake hands, and judge by how that ends."""
    host = "localhost" if address.startswith("unix:") else _host_and_port(address)[0]
    try:
        with _context(tls).wrap_socket(connection, server_hostname=host) as encrypted:
            first = _first_bytes(encrypted)
    except ssl.SSLCertVerificationError as error:
        text = (
            f"the certificate of {address} is not accepted: {error.verify_message or error.reason}. "
            "--ca FILE names the certificates that it must lead to (in Python: TlsConfig(root_certificates=...))"
        )
        return Diagnosis(text=text, hopeless=True)
    except TimeoutError:
        return _silent(address)
    except ssl.SSLError as error:
        if "CERTIFICATE" in (error.reason or "") or "HANDSHAKE_FAILURE" in (error.reason or ""):
            text = f"{address} asks for a certificate of this caller that it accepts: --cert and --key ({error.reason})"
            return Diagnosis(text=text, hopeless=True)
        return _without_tls(address)
    except OSError:  # hung up on in the middle
        return _without_tls(address)
    return None if _is_http2(first) else _something_else(first, address)


def _without_tls(address: str) -> Diagnosis | None:
    """Judge what does not shake hands by what it says to an unencrypted greeting."""
    with _connect(address) as plain:
        try:
            first = _first_bytes(plain)
        except OSError:
            return None
    if _is_http2(first):
        text = f"{address} does not encrypt: leave --tls, --ca, --cert and --key out (in Python: tls)"
        return Diagnosis(text=text, hopeless=True)
    return None if _alerts(first) else _something_else(first, address)


def _context(tls: TlsConfig) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if tls.root_certificates is not None:
        context = ssl.create_default_context(cafile=os.fspath(tls.root_certificates))
    if tls.certificate is not None and tls.private_key is not None:
        context.load_cert_chain(os.fspath(tls.certificate), os.fspath(tls.private_key))
    context.set_alpn_protocols(["h2"])
    return context


def _speaks_tls(address: str) -> bool:
    """Return whether a handshake succeeds, whoever it is with."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with _connect(address) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False


def _first_bytes(connection: socket.socket) -> bytes:
    connection.sendall(_GREETING)
    found = b""
    while len(found) < _FRAME_BYTES and (more := connection.recv(256)):
        found += more
    return found


def _silent(address: str) -> Diagnosis:
    text = f"something listens at {address} and says nothing: it does not speak gRPC, or is a server that is stuck"
    return Diagnosis(text=text, hopeless=False, slow=True)


def _is_http2(first: bytes) -> bool:
    return len(first) >= _FRAME_BYTES and first[3] == _SETTINGS and first[0] == 0


def _alerts(first: bytes) -> bool:
    return first[:2] == b"\x15\x03"


def _something_else(first: bytes, address: str) -> Diagnosis:
    if first.startswith((b"HTTP/", b"<")):
        what = "is a web server (HTTP)"
    elif first.startswith((b"-", b"+")):
        what = "speaks Redis's protocol"
    elif first.startswith(b"SSH-"):
        what = "is an SSH server"
    elif first:
        what = "does not speak gRPC"
    else:
        what = "hangs up on gRPC"
    return Diagnosis(text=f"{_ELSE}: {address} {what}", hopeless=True)
