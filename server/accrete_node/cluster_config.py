"""The settings of `accrete cluster`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """How many servers and learners `accrete cluster` keeps on the machines of a Ray cluster."""

    servers: Annotated[int, Ge(1), Le(10_000)] = 2
    """Servers that always run. 2: one goes on answering while the other is replaced."""

    most_servers: Annotated[int, Ge(0), Le(10_000)] = 0
    """Servers that run at most, as many as it takes for `busyness`; 0: never more than `servers`."""

    learners: Annotated[int, Ge(1), Le(10)] = 2
    """Learners, each on a node of its own. One has the lease and learns, the others take over from it."""

    server_cpus: Annotated[float, Ge(0), Le(1024)] = 1.0
    """Of a node's CPUs, as Ray counts them, those that a server counts for when servers are placed."""

    learner_cpus: Annotated[float, Ge(0), Le(1024)] = 1.0
    """The same of a learner. None of both is held to it: where a limit is needed, the machine sets it."""

    busyness: Annotated[float, Gt(0), Le(1)] = 0.6
    """Share of a server's turns that are to be taken on average, to which the number of servers is led. 0.6: room for
    a burst, and for the load of a server that is lost."""

    def __post_init__(self) -> None:
        if self.most_servers and self.most_servers < self.servers:
            raise ValueError(
                f"most_servers = {self.most_servers}: at least servers = {self.servers}, or 0 for as many as these"
            )

    @property
    def at_most(self) -> int:
        """Servers that run at most."""
        return self.most_servers or self.servers
