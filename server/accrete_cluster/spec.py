"""What a cluster is to run, as `accrete cluster up` hands it to the actors."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accrete_node.cluster_config import ClusterConfig
from accrete_node.describe import render
from accrete_node.settings import Settings, load_settings
from accrete_page.config import PageConfig

SERVER, LEARNER = "server", "learner"
KINDS = (SERVER, LEARNER)


def software() -> str:
    """Return the release that is installed here."""
    return importlib.metadata.version("accrete")


def namespace(prefix: str) -> str:
    """Return Ray's namespace of the cluster on a prefix of a store."""
    return f"accrete {prefix}"


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Everything that an actor needs to know."""

    settings_text: str = dataclasses.field(repr=False)
    """All settings as TOML. Secrets may be in it: of the store's address."""
    software: str
    """Release of Accrete."""
    folder: str
    """Where `accrete cluster up` was called, to which file names in the settings are relative."""
    cluster: ClusterConfig
    mark: str = ""
    """What stands in the file `cluster/mark` of a data directory that all nodes share; empty with versions in a
    bucket."""

    @property
    def generation(self) -> str:
        """Short name of what servers and learners run with. A change of how many there are leaves it the same."""
        lines = self.settings_text.split("\n[cluster]\n")
        rest = lines[0] + lines[1].partition("\n[")[2] if len(lines) == 2 else self.settings_text
        return hashlib.sha256("\0".join((rest, self.software, self.folder)).encode()).hexdigest()[:8]

    def settings(self) -> Settings:
        """Return the settings.

        Raises:
            SettingsError: this release does not know them.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "settings.toml"
            file.touch(mode=0o600)
            file.write_text(self.settings_text, encoding="utf-8")
            return load_settings({}, file, resolved=True)


def spec_of(settings: Settings, mark: str) -> Spec:
    """Return the spec of these settings, whose data directory is made absolute."""
    whole = changed(settings, data_dir=settings.data_dir.absolute(), page=PageConfig(enabled=False))
    return Spec(
        settings_text=render(whole, explained=False),
        software=software(),
        folder=os.getcwd(),
        cluster=settings.cluster,
        mark=mark,
    )


def changed(settings: Settings, **sections: Any) -> Settings:
    """Return settings with other values of some sections."""
    return settings.model_copy(update=sections)


def on_node(settings: Settings, host: str, data_dir: Path) -> Settings:
    """Return the settings of one server or learner on a node.

    Args:
        settings: of the cluster.
        host: the node's address, at which others reach it.
        data_dir: of that process alone.
    """
    server = dataclasses.replace(
        settings.server,
        host=host,
        share_port=settings.server.port != 0,
        advertise=host,
        metrics_port=0,
        node=settings.server.node or f"cluster/{settings.store.prefix}",
    )
    return changed(
        settings,
        data_dir=data_dir,
        server=server,
        learner=dataclasses.replace(settings.learner, metrics_port=0),
    )
