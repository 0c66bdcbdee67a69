"""What `accrete cluster up`, `status` and `down` do."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from accrete_cluster.connection import CONTROLLER, NoRay, check_state_outside, cluster_id, connected
from accrete_cluster.display import progress, shown_status
from accrete_cluster.node_check import MARK, NodeCheck
from accrete_cluster.spec import KINDS, Spec, namespace, spec_of
from accrete_kit.atomic_file import write_text
from accrete_kit.plain import plain
from accrete_node.exit_status import CANNOT_START
from accrete_node.processes import begin_data_dir
from accrete_node.settings import Settings, SettingsError
from accrete_storage.errors import StorageError
from accrete_storage.store import Store

NOT_WHOLE = 1
_CHECK_S = 180.0
_ANSWER_S = 60.0
_POLL_S = 0.5
_FAILING_S = 15.0
"""Seconds for which something of the new settings must fail to start before it is told."""


def up(settings: Settings, address: str) -> int:
    """Bring a cluster to these settings, and return the exit status."""
    return _guarded(lambda: _up(settings, address))


def status(settings: Settings, address: str, *, as_json: bool) -> int:
    """Print the state of a cluster, and return the exit status."""

    def show() -> int:
        with connected(address, namespace(settings.store.prefix)) as ray:
            found = _status(ray, _controller(ray, settings))
        print(json.dumps(found, indent=2) if as_json else shown_status(found))
        return 0 if found["whole"] else NOT_WHOLE

    return _guarded(show)


def down(settings: Settings, address: str) -> int:
    """End a cluster, and return the exit status."""

    def end() -> int:
        with connected(address, namespace(settings.store.prefix)) as ray:
            controller = _controller(ray, settings, needed=False)
            if controller is not None:
                ray.get(controller.down.remote(), timeout=_ANSWER_S)
                while _status(ray, controller)["members"]:
                    time.sleep(_POLL_S)
                ray.get(controller.retire.remote(), timeout=_ANSWER_S)
                ray.kill(controller)
            left = _end_the_rest(ray, settings)
            if controller is None and not left:
                raise NoRay(_no_cluster(settings))
            with contextlib.suppress(StorageError), _store(settings) as store:
                store.clusters.release(cluster_id())
        print("Accrete has ended on this Ray cluster; what was learned is in the store.")
        return 0

    return _guarded(end)


def _guarded(work: Callable[[], int]) -> int:
    try:
        return work()
    except SettingsError as error:
        for problem in error.problems:
            print(f"accrete: {problem}", file=sys.stderr)
    except (NoRay, StorageError, OSError) as error:
        print(f"accrete: {plain(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print("accrete: the cluster goes on; `accrete cluster status` shows it", file=sys.stderr)
        return NOT_WHOLE
    return CANNOT_START


def _up(settings: Settings, address: str) -> int:
    if not settings.store.url:
        raise SettingsError(
            [
                "store.url = '': a cluster needs a Redis or Valkey that every node reaches; the embedded one is of one "
                "machine"
            ]
        )
    with connected(address, namespace(settings.store.prefix)) as ray:
        if warning := check_state_outside(ray):
            print(f"accrete: warning: {warning}", file=sys.stderr)
        spec = spec_of(settings, _mark(settings))
        _check_nodes(ray, spec)
        me = cluster_id()
        place = f"Ray at {ray.get_runtime_context().gcs_address}"
        with _store(settings) as store:
            _claim(store, settings, me, place)
        controller = _succeed(ray, settings, spec, me, place)
        return _wait(ray, controller)


def _mark(settings: Settings) -> str:
    """Return what marks a data directory that all nodes share, and write it if it is not there yet."""
    if settings.artifacts.url:
        return ""
    begin_data_dir(settings)
    file = settings.data_dir / MARK
    file.parent.mkdir(exist_ok=True)
    if not file.is_file() or not file.read_text("utf-8", "replace").strip("\0"):  # a loss of power leaves such
        write_text(file, uuid.uuid4().hex)
    return file.read_text("utf-8")


def _check_nodes(ray: Any, spec: Spec) -> None:
    """Look at every node, and tell what is wrong.

    Raises:
        SettingsError: something may not start on one of them.
    """
    from accrete_cluster.controller import ask_node, cannot_check

    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = {node["NodeID"]: ask_node(spec, node["NodeID"], node["NodeManagerAddress"]) for node in nodes}
    problems: list[str] = []
    for node in nodes:
        name = f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        try:
            found: NodeCheck = ray.get(asked[node["NodeID"]], timeout=_CHECK_S)
        except ray.exceptions.RayError as error:
            problems.append(f"{name}: {cannot_check(error)}")
            continue
        problems += [f"{name}: {problem}" for problem in found.problems]
        for warning in found.warnings:
            print(f"accrete: warning: {name}: {warning}", file=sys.stderr)
    if problems:
        raise SettingsError(list(dict.fromkeys(problems)))


def _claim(store: Store, settings: Settings, me: str, place: str) -> None:
    from accrete_cluster.controller import CLAIM_S

    if other := store.clusters.claim(me, place, CLAIM_S):
        raise SettingsError(
            [
                f"store.prefix = {settings.store.prefix!r}: another cluster ({other}) runs on it in this store; set "
                f"another store.prefix, or end that one (one that was lost is forgotten after {CLAIM_S:.0f} s)"
            ]
        )


def _succeed(ray: Any, settings: Settings, spec: Spec, me: str, place: str) -> Any:
    """Return the controller of this spec: the one that runs, or a new one in its place."""
    from accrete_cluster.controller import launch

    predecessor = _controller(ray, settings, needed=False)
    if predecessor is not None:
        if ray.get(predecessor.runs.remote(spec), timeout=_ANSWER_S):
            return predecessor
        ray.get(predecessor.retire.remote(), timeout=_ANSWER_S)
        ray.kill(predecessor)
    until = time.monotonic() + _ANSWER_S
    while True:
        try:
            return launch(spec, me, place)
        except ValueError:  # the name is its predecessor's for a moment more
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _wait(ray: Any, controller: Any) -> int:
    """Return once the cluster is whole, or once it is clear that it will not be."""
    said = ""
    failing_since: float | None = None
    while True:
        found = _status(ray, controller)
        if found["looked"]:
            if found["whole"]:
                print(shown_status(found))
                return 0
            if (line := progress(found)) != said:
                print(line, file=sys.stderr, flush=True)
                said = line
            failing = [one for one in found["members"] if one["current"] and one["state"] == "failing"]
            failing_since = (failing_since or time.monotonic()) if failing or found["lacks"] else None
            if failing_since is not None and time.monotonic() > failing_since + _FAILING_S:
                print(shown_status(found))
                return NOT_WHOLE
        time.sleep(_POLL_S)


def _controller(ray: Any, settings: Settings, *, needed: bool = True) -> Any:
    try:
        return ray.get_actor(CONTROLLER, namespace=namespace(settings.store.prefix))
    except ValueError:
        if needed:
            raise NoRay(_no_cluster(settings)) from None
        return None


def _no_cluster(settings: Settings) -> str:
    return f"no cluster of store.prefix = {settings.store.prefix!r} runs on this Ray; `accrete cluster up` starts one"


def _status(ray: Any, controller: Any) -> dict[str, Any]:
    while True:
        try:
            found: dict[str, Any] = ray.get(controller.status.remote(), timeout=_ANSWER_S)
            return found
        except ray.exceptions.ActorUnavailableError:  # it is being started again
            time.sleep(_POLL_S)
        except ray.exceptions.RayActorError as error:
            raise NoRay(f"the cluster's controller cannot run: {str(error).strip().splitlines()[-1]}") from error


def _end_the_rest(ray: Any, settings: Settings) -> int:
    """End what a controller that is gone left behind, and return how many these were."""
    mine = namespace(settings.store.prefix)
    handles = []
    for found in ray.util.list_named_actors(all_namespaces=True):
        if found["namespace"] == mine and found["name"].partition("-")[0] in KINDS:
            with contextlib.suppress(ValueError):
                handles.append(ray.get_actor(found["name"], namespace=mine))
    ending = [handle.end.remote() for handle in handles]
    if ending:
        ray.wait(ending, num_returns=len(ending), timeout=_ANSWER_S)
    for handle in handles:
        ray.kill(handle)
    return len(handles)


@contextlib.contextmanager
def _store(settings: Settings) -> Iterator[Store]:
    store = Store.connect(settings.store, settings.holdout, data_dir=settings.data_dir)
    try:
        yield store
    finally:
        store.close()
