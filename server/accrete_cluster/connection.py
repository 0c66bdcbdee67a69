"""The way to Ray, and what is asked of it before Accrete runs on it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import accrete_kit  # noqa: F401  before Ray: it keeps libraries from reporting what they are used for

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTROLLER = "controller"
"""Name of the controller's actor in the namespace of its cluster."""
_KNOCK_S = 10.0
_LOOK_S = 180.0
"""Seconds for a look at a node, for which Ray has to start a worker: on a busy machine that takes."""
_STARVED = "Ray has not begun what it was asked for: its nodes are too busy, or its logs on them (/tmp/ray) say why"
_ADDRESS = "RAY_ADDRESS"
EVERYWHERE = {"num_cpus": 0, "max_retries": 0}


class NoRay(Exception):
    """Ray cannot be used; the message says what to set."""


@contextlib.contextmanager
def connected(address: str, namespace: str) -> Iterator[Any]:
    """Yield the module `ray`, connected to a cluster for the time of the block.

    Args:
        address: of Ray's head, "HOST:PORT", or "auto" for what runs on this machine; empty: RAY_ADDRESS, else that.
        namespace: for the names of actors.

    Raises:
        NoRay: none runs there, it lets this machine not in, or it does not begin what the block asks for.
    """
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise NoRay('Ray is not installed here: pip install "accrete[cluster]"') from error
    chosen = address or os.environ.get(_ADDRESS) or "auto"
    told: list[str] = []
    try:
        _knock(chosen)
        with _errors_into(told), _chosen_alone():
            _ask_in(ray, chosen)
            ray.init(address=chosen, namespace=namespace, log_to_driver=False, logging_level=logging.CRITICAL)
    except ray.exceptions.AuthenticationError as error:
        raise NoRay(_no_token(error)) from error
    except (ConnectionError, TimeoutError, RuntimeError, ValueError, ray.exceptions.RpcError) as error:
        if "unauthenticated" in "".join(told).lower() or "token" in str(error).lower():
            raise NoRay(_no_token(error)) from error
        raise NoRay(_not_running(chosen, error)) from error
    try:
        yield ray
    except ray.exceptions.GetTimeoutError as error:
        raise NoRay(_STARVED) from error
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Connect to Ray's head, for which Ray itself would try for minutes.

    Raises:
        ConnectionError: it does not take up connections.
        ValueError: it is no address of a head.
    """
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        raise ValueError("HOST:PORT of Ray's head is expected")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    except OSError as error:
        raise ConnectionError(error.strerror or str(error)) from error


def _ask_in(ray: Any, address: str) -> None:
    """Have Ray's head look at the token, for which `ray.init` would try for two minutes.

    Raises:
        AuthenticationError: of Ray: it is missing or wrong.
        RpcError: of Ray: no head answers.
        ConnectionError: no Ray runs on this machine.
    """
    from ray._private.authentication import authentication_token_setup as tokens  # no public name for any of it
    from ray._private.services import canonicalize_bootstrap_address_or_die

    if address == "auto":  # as `ray.init` does: on this machine a token that was saved counts without a mode
        address = canonicalize_bootstrap_address_or_die(address)
        tokens.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    tokens.ensure_token_if_auth_enabled(create_token_if_missing=False)  # without one, the client would end the process
    ray._raylet.GcsClient(address=address)


@contextlib.contextmanager
def _chosen_alone() -> Iterator[None]:
    """Have the environment say nothing of an address, which for Ray counts for more than "auto"."""
    given = os.environ.pop(_ADDRESS, None)
    try:
        yield
    finally:
        if given is not None:
            os.environ[_ADDRESS] = given


@contextlib.contextmanager
def _errors_into(told: list[str]) -> Iterator[None]:
    """Take what is written to standard error: Ray tells there alone why a head does not let it in."""
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            told.append(file.read().decode(errors="replace"))


def _no_token(error: Exception) -> str:
    first = str(error).strip().splitlines()[0].partition(". ")[0] if str(error).strip() else "it refuses"
    return (
        f"Ray does not let this machine in ({first}): set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
        "RAY_AUTH_TOKEN_PATH to the token that the head was started with, here and on every node"
    )


def _not_running(chosen: str, error: Exception) -> str:
    where = "on this machine" if chosen == "auto" else f"at {chosen}"
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"no Ray answers {where} ({first}): `ray start --head` on one machine with RAY_REDIS_ADDRESS set, `ray start "
        "--address HEAD:6379` on each other one, this one as well; --address or RAY_ADDRESS say where the head is"
    )


def cluster_id() -> str:
    """Return the id of the Ray cluster that this process is connected to, which outlives a new head."""
    from ray._private.worker import global_worker  # no public name for it

    worker: Any = global_worker
    return str(worker.gcs_client.cluster_id.hex())


def check_state_outside(ray: Any) -> str:
    """Check that Ray keeps its state outside its head, without which the loss of the head ends the whole cluster.

    Returns:
        What to warn of, empty as a rule.

    Raises:
        NoRay: it keeps it in the head's memory.
    """
    from ray._private.worker import global_worker  # no public name for the session
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    heads = [node for node in ray.nodes() if node["Alive"] and "node:__internal_head__" in node["Resources"]]
    if not heads:
        return "Ray's head is away, so it is not known whether its state is kept (RAY_REDIS_ADDRESS)"
    strategy = NodeAffinitySchedulingStrategy(heads[0]["NodeID"], soft=False)
    look = ray.remote(**EVERYWHERE)(redis_of).options(scheduling_strategy=strategy)
    worker: Any = global_worker
    found = ray.get(look.remote(worker.node.session_name), timeout=_LOOK_S)
    if found is None:
        return "it cannot be seen whether Ray keeps its state outside its head: set RAY_REDIS_ADDRESS for `ray start`"
    if not found:
        raise NoRay(
            "Ray keeps its state in its head alone, with which the whole cluster would end: start the head anew with "
            "RAY_REDIS_ADDRESS=HOST:PORT (and --redis-password) of a Redis or Valkey; `ray stop` on every node first"
        )
    return ""


def redis_of(session: str, processes: Path = Path("/proc")) -> bool | None:
    """Return whether the head of a session of Ray has an address of a Redis, None where it is not found.

    Args:
        session: its name.
        processes: folder with one folder per process.
    """
    for folder in processes.iterdir():
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if Path(command[0]).name == "gcs_server" and f"--session-name={session}" in command:
            return any(part.startswith("--redis_address=") and part != "--redis_address=" for part in command)
    return None
