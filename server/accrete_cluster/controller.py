"""The actor that keeps a cluster as it is to be: it looks every second, and starts and ends servers and learners.

It holds no state that must last. What is to run stands in its constructor's arguments, with which Ray starts it again
wherever there is a node; what runs, it sees. One that Ray takes for lost may still be there, cut off, and what it asked
Ray for may arrive long after. So each has an epoch of the store, and what it asks for is refused once that is over.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import ray as library
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from accrete_cluster.connection import CONTROLLER, EVERYWHERE
from accrete_cluster.node_check import NodeCheck, check_node
from accrete_cluster.planning import CALM_S, Scaler, Seen, plan
from accrete_cluster.priority import as_the_raylet
from accrete_cluster.replica import DRAINING, ENDED, READY, STARTING, Replica
from accrete_cluster.spec import KINDS, LEARNER, SERVER, Spec, namespace
from accrete_storage.errors import Fenced, StorageError
from accrete_storage.store import Store

ray: Any = library  # its types leave out much
CLAIM_S = 60.0
"""Seconds after which a prefix is free of a cluster whose controller is gone."""
_LOOK_EVERY_S = 1.0
_ANSWER_S = 2.0
_SILENT_S = 20.0
"""Seconds without an answer after which an actor that has answered is taken for lost."""
_BEGIN_S = 180.0
"""The same of one that has not answered yet: a worker must start, and on a busy machine that takes."""
_CHECK_AGAIN_S, _CHECK_LAST_S = 1.0, 60.0
"""Seconds until a node that was found unfit is looked at again: at first, and at most."""
_MUTE = (exceptions.ActorUnavailableError, exceptions.GetTimeoutError)

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class _Known:
    """An actor of a server or a learner."""

    handle: Any
    kind: str
    generation: str
    node: str
    since: float = field(default_factory=time.monotonic)
    answered: bool = False
    """Whether it has ever answered."""
    asked: Any = None
    waits_since: float | None = None
    """Since when it has been asked and not answered. Of a look that took long itself, the actor is not to blame."""
    ending: Any = None
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def silent(self) -> bool:
        """Whether it has not answered for so long that it is taken for lost."""
        limit_s = _SILENT_S if self.answered else _BEGIN_S
        return self.waits_since is not None and time.monotonic() - self.waits_since > limit_s

    def excuse(self) -> None:
        """Begin to count its silence anew."""
        self.waits_since = None if self.waits_since is None else time.monotonic()

    @property
    def state(self) -> str:
        """Its state, as it said it last."""
        state = str(self.last.get("state", STARTING))
        return DRAINING if self.ending is not None and state != ENDED else state


@dataclass(kw_only=True)
class _Node:
    host: str
    name: str
    cpus: float
    check: NodeCheck | None = None
    checked: float = 0.0
    refused: int = 0
    """Times in a row that something was found there that hinders."""
    asked: Any = None

    @property
    def fit(self) -> bool:
        """Whether something may start there."""
        return self.check is not None and not self.check.problems

    @property
    def due(self) -> bool:
        """Whether it is to be looked at."""
        again_s = min(_CHECK_LAST_S, _CHECK_AGAIN_S * 2.0 ** min(self.refused, 16))
        return self.check is None or (not self.fit and time.monotonic() > self.checked + again_s)

    def take(self, check: NodeCheck) -> None:
        """Take notice of what was found there."""
        self.check, self.checked = check, time.monotonic()
        self.refused = self.refused + 1 if check.problems else 0


class Controller:
    """Keeps the servers and learners of one cluster. Made into an actor by `launch`."""

    def __init__(self, spec: Spec, cluster: str, place: str) -> None:
        """Begin to look after the cluster.

        Args:
            spec: what is to run.
            cluster: id of this Ray cluster.
            place: where it is, for people.
        """
        as_the_raylet()
        self._spec = spec
        self._settings = spec.settings()
        self._cluster = cluster
        self._place = place
        self._nodes: dict[str, _Node] = {}
        self._known: dict[str, _Known] = {}
        self._lacks: list[str] = []
        self._leader: str | None = None
        self._busyness: dict[str, float] = {}
        self._store: Store | None = None
        self._epoch: int | None = None
        self._store_problem = ""
        self._other = ""
        self._down = False
        self._looked = 0
        self._began = time.monotonic()
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._find()
        here = sum(one.kind == SERVER and one.generation == spec.generation for one in self._known.values())
        self._scaler = Scaler(spec.cluster, here)
        threading.Thread(target=self._run, name="look", daemon=True).start()

    def runs(self, spec: Spec) -> bool:
        """Return whether this is what it keeps running."""
        return spec == self._spec and not self._down

    def retire(self) -> None:
        """Stop looking, and leave everything as it is to a successor."""
        self._stopping.set()
        self._stopped.wait(30)

    def down(self) -> None:
        """Begin to end everything in order; `status` tells when nothing is left."""
        self._down = True

    def status(self) -> dict[str, Any]:
        """Return what there is, as plain values."""
        members = []
        for name, one in sorted(self._known.items(), key=lambda item: (item[1].kind != SERVER, item[1].since)):
            node = self._nodes.get(one.node)
            members.append(
                {
                    "name": name,
                    "kind": one.kind,
                    "node": node.name if node else one.node[:8],
                    "host": node.host if node else "",
                    "state": one.state,
                    "current": one.generation == self._spec.generation,
                    "busyness": self._busyness.get(str(one.last.get("address"))),
                    "leads": self._leads(one),
                    **{
                        key: one.last.get(key) for key in ("address", "metrics", "pid", "actor_pid", "starts", "folder")
                    },
                    "reason": one.last.get("reason", ""),
                }
            )
        nodes = [
            {
                "id": key,
                "name": node.name,
                "host": node.host,
                "cpus": node.cpus,
                "state": "checking" if node.check is None else "fit" if node.fit else "refused",
                "problems": node.check.problems if node.check else [],
                "warnings": node.check.warnings if node.check else [],
            }
            for key, node in sorted(self._nodes.items())
        ]
        return {
            "prefix": self._settings.store.prefix,
            "software": self._spec.software,
            "generation": self._spec.generation,
            "epoch": self._epoch,
            "servers_wanted": self._scaler.servers,
            "learners_wanted": self._spec.cluster.learners,
            "whole": self._whole(),
            "ending": self._down,
            "looked": self._looked,
            "lacks": [*self._lacks, *([self._store_problem] if self._store_problem else [])],
            "taken": self._other,
            "addresses": self._addresses(),
            "nodes": nodes,
            "members": members,
        }

    def _whole(self) -> bool:
        """Return whether all that is wanted runs and nothing else does. A learner without a node does not count."""
        places = sum(node.fit for node in self._nodes.values())
        counts = {SERVER: self._scaler.servers, LEARNER: min(self._spec.cluster.learners, max(1, places))}
        for kind in KINDS:
            here = [one for one in self._known.values() if one.kind == kind]
            good = [one for one in here if one.state == READY and one.generation == self._spec.generation]
            if len(good) != counts[kind] or len(here) != len(good):
                return False
        return True

    def _addresses(self) -> list[str]:
        """Return where clients reach the servers of each node, whichever run there."""
        port = self._settings.server.port
        serving = {one.node for one in self._known.values() if one.kind == SERVER and one.state == READY}
        hosts = {self._nodes[node].host for node in serving & self._nodes.keys()}
        return sorted(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts) if port else []

    def _leads(self, one: _Known) -> bool:
        return one.kind == LEARNER and self._leader is not None and one.last.get("owner") == self._leader

    def _find(self) -> None:
        """Take over the actors that a predecessor made."""
        mine = namespace(self._settings.store.prefix)
        for found in ray.util.list_named_actors(all_namespaces=True):
            kind, _, rest = found["name"].partition("-")
            if found["namespace"] != mine or kind not in KINDS or found["name"] in self._known:
                continue
            try:
                handle = ray.get_actor(found["name"], namespace=mine)
            except ValueError:  # it ended meanwhile
                continue
            generation, _, rest = rest.partition("-")
            node = rest.partition("-")[0]
            self._known[found["name"]] = _Known(handle=handle, kind=kind, generation=generation, node=node)

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S if self._looked else 0):
            try:
                self._look()
            except Exception:
                _log.exception("cluster.look_failed")  # the next look may go better, and nobody else looks
        self._stopped.set()

    def _look(self) -> None:
        try:
            self._look_at_store()
        except Fenced as error:
            _log.error("cluster.controller_superseded", extra={"reason": str(error)})
            os._exit(1)  # were it not so, Ray would start this one again
        except StorageError as error:  # what is lost meanwhile is replaced all the same
            self._store_problem = f"store.url: {error}"
            self._busyness = {}
            for one in self._known.values():  # it may be this node that is cut off, and not they
                one.excuse()
        self._ask()
        self._look_at_nodes()
        if self._down:
            for name in list(self._known):
                self._end(name)
        elif not self._other and self._epoch is not None:
            self._act()
        self._looked += 1

    def _ask(self) -> None:
        """Ask every actor how it is, and drop those that are lost."""
        for one in self._known.values():
            if one.asked is None:
                one.asked = one.handle.state.remote()
                one.waits_since = one.waits_since or time.monotonic()
        asked = [one.asked for one in self._known.values()]
        answered = set(ray.wait(asked, num_returns=len(asked), timeout=_ANSWER_S)[0]) if asked else set()
        for name, one in list(self._known.items()):
            if one.asked in answered:
                try:
                    one.last = ray.get(one.asked, timeout=_ANSWER_S)
                    one.answered, one.waits_since = True, None
                except _MUTE:
                    pass
                except (exceptions.RayActorError, exceptions.RayTaskError) as error:
                    self._drop(name, str(error).strip().splitlines()[-1] if not one.answered else "")
                    continue
                one.asked = None
            ended = one.ending is not None and bool(ray.wait([one.ending], timeout=0)[0])
            if ended or one.last.get("state") == ENDED or (one.silent and self._may_kill()):
                self._drop(name)

    def _may_kill(self) -> bool:
        """Return whether this is the last controller that began. Nothing but this keeps it from killing an actor."""
        try:
            return self._store is not None and self._epoch is not None and not self._store.clusters.is_over(self._epoch)
        except StorageError:
            return False

    def _drop(self, name: str, reason: str = "") -> None:
        one = self._known[name]
        ray.kill(one.handle)  # it stays known where Ray's head is away, and this is tried again
        del self._known[name]
        _log.info("cluster.member_gone", extra={"member": name, "reason": reason})
        if reason and one.node in self._nodes:  # it could not begin there: look at the node again before the next
            self._nodes[one.node].take(NodeCheck(host=self._nodes[one.node].host, problems=[reason]))

    def _look_at_nodes(self) -> None:
        alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        for gone in self._nodes.keys() - alive.keys():
            del self._nodes[gone]
        for key, found in alive.items():
            cpus = float(found["Resources"].get("CPU", 0))
            node = self._nodes.setdefault(
                key, _Node(host=found["NodeManagerAddress"], name=found["NodeManagerHostname"], cpus=cpus)
            )
            if node.asked is not None:
                self._take_check(node)
            elif node.due:
                node.asked = ask_node(self._spec, key, node.host)

    def _take_check(self, node: _Node) -> None:
        if not ray.wait([node.asked], timeout=0)[0]:
            return
        try:
            node.take(ray.get(node.asked))
        except exceptions.RayError as error:
            node.take(NodeCheck(host=node.host, problems=[cannot_check(error)]))
        node.asked = None

    def _look_at_store(self) -> None:
        if self._store is None:
            config = self._settings
            self._store = Store.connect(config.store, config.holdout, data_dir=config.data_dir)
        clusters = self._store.clusters
        if self._epoch is None:
            epoch = clusters.begin()
            self._find()  # again: from here on a predecessor can start nothing
            self._epoch = epoch
        self._other = (not self._down and clusters.claim(self._cluster, self._place, CLAIM_S, self._epoch)) or ""
        self._leader = self._store.lease_holder()
        self._busyness = busyness(self._store)
        self._store_problem = ""

    def _act(self) -> None:
        by_address = {str(one.last.get("address")) for one in self._known.values() if one.state == READY}
        busy = [share for address, share in self._busyness.items() if address in by_address]
        servers = self._scaler.observe(time.monotonic(), busy)
        seen = [
            Seen(
                name=name,
                kind=one.kind,
                current=one.generation == self._spec.generation,
                node=one.node,
                state=one.state,
                leads=self._leads(one),
            )
            for name, one in self._known.items()
        ]
        room = {key: node.cpus for key, node in self._nodes.items() if node.fit}
        if any(node.check is None for node in self._nodes.values()) and not self._looked:
            return  # a moment later there are all nodes to choose from
        todo = plan(seen, room, servers, self._spec.cluster, calm=time.monotonic() > self._began + CALM_S)
        self._lacks = todo.lacks
        for name in todo.end:
            self._end(name)
        for kind, node in todo.start:
            self._start(kind, node)

    def _start(self, kind: str, node: str) -> None:
        self._began = time.monotonic()
        name = f"{kind}-{self._spec.generation}-{node}-{uuid.uuid4().hex[:6]}"
        config = self._spec.cluster
        actor = ray.remote(Replica).options(
            name=name,
            namespace=namespace(self._settings.store.prefix),
            lifetime="detached",
            num_cpus=config.server_cpus if kind == SERVER else config.learner_cpus,
            max_concurrency=4,
            max_restarts=0,  # the controller starts another, where there is room by then
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        handle = actor.remote(self._spec, kind, self._nodes[node].host, self._epoch)
        self._known[name] = _Known(handle=handle, kind=kind, generation=self._spec.generation, node=node)
        _log.info("cluster.member_started", extra={"member": name})

    def _end(self, name: str) -> None:
        one = self._known[name]
        if one.ending is not None:
            return
        if one.answered:
            one.ending = one.handle.end.remote(self._epoch)
        elif self._down or self._may_kill():
            self._drop(name)


def busyness(store: Store) -> dict[str, float]:
    """Return the share of busy turns of each server that is a member, by its address."""
    return {one.address: one.busyness for one in store.members.roster().members}


def ask_node(spec: Spec, node: str, host: str) -> Any:
    """Begin `check_node` on a node, and return what its result can be had by."""
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(**EVERYWHERE)(check_node).options(scheduling_strategy=strategy).remote(spec, host)


def cannot_check(error: Exception) -> str:
    """Return for people why a node could not be looked at."""
    text = str(error).strip().splitlines()
    if "ModuleNotFoundError" in str(error):
        return 'Accrete is not installed there, or another release is: pip install "accrete[server,cluster]"'
    return f"it could not be looked at: {text[-1] if text else type(error).__name__}"


def launch(spec: Spec, cluster: str, place: str) -> Any:
    """Start the controller's actor, which Ray starts again wherever it can, and return its handle."""
    prefix = spec.settings().store.prefix
    actor = ray.remote(Controller).options(
        name=CONTROLLER,
        namespace=namespace(prefix),
        lifetime="detached",
        num_cpus=0,
        max_concurrency=8,
        max_restarts=-1,
    )
    return actor.remote(spec, cluster, place)
