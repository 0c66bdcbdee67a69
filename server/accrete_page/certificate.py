"""What a certificate is for."""

from __future__ import annotations

import ssl
from typing import Any


def names_in(certificate: str, private_key: str) -> list[str]:
    """Return the names that a certificate is for, by having it shown once, within this process.

    Args:
        certificate: file (PEM) of its chain.
        private_key: file (PEM) of its key.

    Raises:
        OSError: the files cannot be read, or do not belong together.
        ValueError: it is for no name.
    """
    shows = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shows.load_cert_chain(certificate, private_key)
    asks = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asks.load_verify_locations(certificate)
    asks.check_hostname = False
    asks.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = shows.wrap_bio(there, back, server_side=True)
    client = asks.wrap_bio(back, there)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    found: Any = client.getpeercert() or {}
    common = [value for part in found.get("subject", ()) for name, value in part if name == "commonName"]
    names = [str(value) for _, value in found.get("subjectAltName", ())] or common
    if not names:
        raise ValueError(f"{certificate} is for no name")
    return names
