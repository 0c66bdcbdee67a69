"""Settings of access, and the check that a server is not opened to a network by oversight."""

from __future__ import annotations

from dataclasses import dataclass

from accrete_kit.addresses import is_loopback
from accrete_server.config import ServerConfig


@dataclass(frozen=True, kw_only=True)
class AccessConfig:
    """Encryption, and who may call what. As it stands here, everybody on this machine may call everything."""

    certificate: str = ""
    """File (PEM) of the server's certificate chain. With it gRPC and `/metrics` are encrypted; both files are read
    again when they change."""

    private_key: str = ""
    """File (PEM) of the certificate's key."""

    client_ca: str = ""
    """File (PEM) of the authority that callers' certificates must come from (mutual TLS); a caller without one is not
    let in. Its common name is the principal's name."""

    tokens: str = ""
    """File of principals, one per line: name, roles with commas, and the hash of a token or the word `certificate`;
    `accrete token` adds lines. Callers who are not in it are refused. Read again when it changes."""

    insecure: bool = False
    """Listen on other addresses than this machine's own without encryption: on a network that does that itself."""

    reflection: bool = True
    """Answer gRPC's reflection, with which tools list what there is to call."""

    @property
    def names_callers(self) -> bool:
        """Whether every caller has to say who it is."""
        return bool(self.tokens or self.client_ca)


def check_exposure(server: ServerConfig, access: AccessConfig) -> None:
    """Check that settings of access fit together, and that nobody is let in by oversight.

    Raises:
        ValueError: one is set without another that it needs, or whoever can reach the address would get in.
    """
    if bool(access.certificate) != bool(access.private_key):
        raise ValueError("access.certificate and access.private_key belong together: set both or neither")
    if access.client_ca and not access.certificate:
        raise ValueError(
            "access.client_ca needs access.certificate and access.private_key: without TLS nobody shows one"
        )
    if access.certificate or access.insecure:
        return
    for name, host in (("server.host", server.host), ("server.metrics_host", server.metrics_host)):
        if not is_loopback(host):
            raise ValueError(
                f"{name} = {host!r}: others than this machine can reach it, and nothing is encrypted; set "
                "access.certificate and access.private_key for TLS, or access.insecure = true (--insecure) where the "
                "network sees to it"
            )
