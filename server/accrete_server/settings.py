"""Everything that one server is started with."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from accrete_model.config import ArtifactsConfig, EngineConfig
from accrete_model.input_spec import InputSpec
from accrete_server.access.config import AccessConfig
from accrete_server.config import ServerConfig
from accrete_server.inbox.config import InboxConfig
from accrete_storage.config import HoldoutConfig, StoreConfig, TeachingConfig
from accrete_storage.store import Store


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """The sections of the settings that a server reads, and what it reports of the learner's."""

    data_dir: Path
    """Folder of the versions (or the cache of those in a bucket), `server.json` and the embedded store's socket."""
    spec: InputSpec
    """What one input of the model is."""
    method: str
    """Name of the method that the learner uses, for GetStatus to report."""
    deep_refusal: str = ""
    """Why the learner makes no deep step, for who asks for one; "" where it does."""
    exemplar_budget: Callable[[int], int] | None = None
    """Exemplars allowed for a number of classes, for GetStatus to report; None: not known here."""
    waits_for: Callable[[Store], list[str]] | None = None
    """What pending examples wait for before a step starts, for GetStatus to report; None: not known here."""
    warnings: Callable[[int], list[str]] | None = None
    """What of the settings comes to nothing with a number of classes, for GetStatus to report."""
    server: ServerConfig = field(default_factory=ServerConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    holdout: HoldoutConfig = field(default_factory=HoldoutConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    artifacts: ArtifactsConfig = field(default_factory=ArtifactsConfig)
    access: AccessConfig = field(default_factory=AccessConfig)
    teaching: TeachingConfig = field(default_factory=TeachingConfig)
    inbox: InboxConfig = field(default_factory=InboxConfig)

    @property
    def node(self) -> str:
        """The node's name."""
        return self.server.node or f"{socket.gethostname()}/{self.data_dir.resolve().name}"
