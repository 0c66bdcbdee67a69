"""The commands `accrete cluster up`, `status` and `down`. Ray is imported when one of them runs, so help is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from accrete_node.commands import Hidden, NodeFlags

cluster = typer.Typer(help="Run servers and learners on the machines of a Ray cluster.")

Address = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT", help="Ray's head. [default: $RAY_ADDRESS, else the Ray that runs on this machine]"
    ),
]


@dataclass(frozen=True, kw_only=True)
class ClusterFlags(NodeFlags):
    """Those that matter to a cluster, whose servers listen at the address of their node."""

    host: Hidden = None


@cluster.command()
def up(flags: ClusterFlags, address: Address = "") -> int:
    """Start servers and learners on the nodes of a Ray cluster, or change those that run; return when all are there.

    Each node needs Accrete, a way to the store, and the data directory or the bucket with the versions; that is looked
    at before anything starts. Called again with other settings or another release, it replaces the servers one by one:
    each drains once the next one serves. Ctrl-C ends the waiting alone.
    Exit status: 0 all is there, 1 something does not start, 2 settings or nodes that cannot be used.

    Example:
        ray start --head            (with RAY_REDIS_ADDRESS=HOST:PORT set)
        accrete cluster up --config accrete.toml
    """
    from accrete_cluster.operating import up as run

    return flags.run(lambda settings: run(settings, address))


@cluster.command()
def status(
    flags: ClusterFlags,
    address: Address = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show nodes, servers and learners of a cluster.

    Exit status: 0 all is there, 1 something is missing, 2 no cluster runs.

    Example:
        accrete cluster status --config accrete.toml
    """
    from accrete_cluster.operating import status as run

    return flags.run(lambda settings: run(settings, address, as_json=as_json))


@cluster.command()
def down(flags: ClusterFlags, address: Address = "") -> int:
    """End all servers and learners of a cluster, in order. What was learned stays, and Ray runs on.

    Example:
        accrete cluster down --config accrete.toml
    """
    from accrete_cluster.operating import down as run

    return flags.run(lambda settings: run(settings, address))
