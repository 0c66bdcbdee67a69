"""What the server is doing this second, put together from a few calls."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from accrete import AsyncClient, ClassInfo, PermissionDenied, Status, VersionInfo
from accrete_page.traffic import Figures

VERSIONS = 50
"""How many of the newest are told."""
_LONG_S = 15
"""Readings after which all is asked for anew, whatever has changed."""

ReadTraffic = Callable[[str], Awaitable[Figures | None]]
"""Reads the figures of the server that has a data directory."""


class Now:
    """Reads the state, and asks for the longer parts of it when something has changed alone."""

    def __init__(self, client: AsyncClient, traffic: ReadTraffic) -> None:
        self._client = client
        self._traffic = traffic
        self._seen: Status | None = None
        self._classes: list[ClassInfo] = []
        self._versions: list[VersionInfo] | None = []
        self._readings = 0
        self._stale = True

    def happened(self) -> None:
        """Note that something has changed."""
        self._stale = True

    async def read(self) -> dict[str, Any]:
        """Return the state now.

        Raises:
            AccreteError: the server cannot tell.
        """
        status = await self._client.status()
        seen = dataclasses.replace(status, oldest_pending_ms=0)
        if self._stale or seen != self._seen or self._readings % _LONG_S == 0:
            self._stale = False
            self._classes = await self._client.classes()
            self._versions = await versions_if_allowed(self._client)
        self._seen = seen
        self._readings += 1
        return told(status, self._classes, self._versions, await self._traffic(status.data_dir))


async def versions_if_allowed(client: AsyncClient) -> list[VersionInfo] | None:
    """Return all versions, newest first; None for a caller who may not see them."""
    try:
        return await client.versions()
    except PermissionDenied:
        return None


def told(
    status: Status, classes: list[ClassInfo], versions: list[VersionInfo] | None, traffic: Figures | None
) -> dict[str, Any]:
    """Return the state as the page gets it."""
    states = Counter(one.state for one in classes)
    return {
        "status": status,
        "classes": {state: states[state] for state in ("learned", "provisional", "pending", "forgotten")},
        "pending": [
            {"label": one.label, "examples": one.pending, "state": one.state} for one in classes if one.pending
        ],
        "traffic": traffic,
        "versions": None if versions is None else [version(one) for one in versions[:VERSIONS]],
    }


def version(info: VersionInfo) -> dict[str, Any]:
    """Return a version with the number of its labels in place of all of them."""
    fields = {field.name: getattr(info, field.name) for field in dataclasses.fields(info) if field.name != "labels"}
    return {**fields, "classes": len(info.labels)}
