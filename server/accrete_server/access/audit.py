"""The audit log of who taught or operated what, one line per call.

It never has images, tokens or addresses of files.
"""

from __future__ import annotations

import logging
from typing import Any

from accrete_server.access.tokens import Principal

_LABELS = 20
"""Labels named in one line; `label_count` is the number of all."""

_log = logging.getLogger("accrete.audit")


def record(principal: Principal | None, method: str, code: str, request: Any) -> None:
    """Write a line for a call.

    Args:
        principal: who calls; None: it is not known.
        method: the RPC's name.
        code: how it ended.
        request: the message; None: of a stream, whose batches have had lines of their own.
    """
    _log.info(
        "called",
        extra={"principal": None if principal is None else principal.name, "method": method, "code": code}
        | facts(request),
    )


def facts(request: Any) -> dict[str, object]:
    """Return what a request is about, as far as the log may have it."""
    found: dict[str, object] = {}
    for name in ("version", "label", "new_label", "into"):
        if value := getattr(request, name, None):
            found[name] = value
    if ids := getattr(request, "ids", None):
        found["ids"] = len(ids)
    # Examples, and what images of the inbox are said to show.
    if examples := getattr(request, "examples", None) or getattr(request, "items", None):
        labels = sorted({example.label for example in examples})
        found["examples"] = len(examples)
        found["labels"] = labels[:_LABELS]
        found["label_count"] = len(labels)
    return found
