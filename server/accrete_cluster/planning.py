"""What to start and what to end next, decided from what is there."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from accrete_cluster.replica import DRAINING, ENDED, READY, STARTING
from accrete_cluster.spec import LEARNER, SERVER
from accrete_node.cluster_config import ClusterConfig

CALM_S = 30.0
"""Seconds without a start after which a server moves to a node that has none, if another node has two."""
UP_AFTER_S = 10.0
"""Seconds for which more servers must be wanted before one is added."""
DOWN_AFTER_S = 300.0
"""Seconds for which fewer must do before one goes: to load a version again costs more than to keep a server."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A server or learner as it was last seen."""

    name: str
    kind: str
    current: bool
    """Of the settings and the release that the cluster is to run with."""
    node: str
    state: str
    leads: bool = False
    """A learner that has the lease."""


@dataclass(kw_only=True)
class Plan:
    """What to do now."""

    start: list[tuple[str, str]] = field(default_factory=list)
    """Kind and node of each actor to start."""
    end: list[str] = field(default_factory=list)
    """Names of those to end in order."""
    lacks: list[str] = field(default_factory=list)
    """For people, why the cluster is not whole."""


def plan(
    seen: Sequence[Seen], room: Mapping[str, float], servers: int, config: ClusterConfig, *, calm: bool = False
) -> Plan:
    """Return what to do now.

    Servers are replaced one by one: a new one starts, and once it is ready an old one drains. Learners are replaced the
    other way around, since two on one node are one too many, and the one with the lease comes last.

    Args:
        seen: all that is there.
        room: CPUs of each node that may be used, by its id, those in use by what is `seen` included.
        servers: how many there are to be.
        config: of the cluster.
        calm: whether nothing has been started for `CALM_S`.
    """
    left = dict(room)
    for one in seen:
        if one.node in left:
            left[one.node] -= config.server_cpus if one.kind == SERVER else config.learner_cpus
    result = Plan()
    _plan_learners([one for one in seen if one.kind == LEARNER], left, config, result)
    _plan_servers([one for one in seen if one.kind == SERVER], left, servers, config, result)
    if calm and result == Plan():
        _spread([one for one in seen if one.kind == SERVER], left, servers, config, result)
    return result


def _spread(seen: Sequence[Seen], left: dict[str, float], servers: int, config: ClusterConfig, result: Plan) -> None:
    """Start a server beside those that there are to be, on a node that has two less than another.

    After a node was lost, servers are where there was room. Once another is there, one too many is, and goes.
    """
    if len(seen) != servers or any(not one.current or one.state != READY for one in seen):
        return
    count = Counter(one.node for one in seen)
    fitting = [node for node, cpus in left.items() if cpus >= config.server_cpus]
    node = min(fitting, key=lambda one: (count[one], -left[one], one), default=None)
    if node is not None and count[node] + 2 <= max(count.values(), default=0):
        result.start.append((SERVER, node))


def _plan_servers(
    seen: Sequence[Seen], left: dict[str, float], servers: int, config: ClusterConfig, result: Plan
) -> None:
    staying = [one for one in seen if one.state not in (DRAINING, ENDED)]
    new = sorted((one for one in staying if one.current), key=lambda one: one.state != READY)
    old = sorted((one for one in staying if not one.current), key=lambda one: one.state != READY)
    ready = sum(one.state == READY for one in new)
    result.end += _too_many(new, servers)
    result.end += [one.name for one in old[max(0, servers - ready) :]]
    wanted = servers - len(new)
    if old:  # one at a time, so that what cannot start leaves the old ones in place
        wanted = min(wanted, 1 - (len(new) - ready))
    count = Counter(one.node for one in staying)
    for _ in range(wanted):
        fitting = [node for node, cpus in left.items() if cpus >= config.server_cpus]
        if not fitting:
            _make_room(seen, old, config, result)
            return
        node = min(fitting, key=lambda one: (count[one], -left[one], one))
        count[node] += 1
        left[node] -= config.server_cpus
        result.start.append((SERVER, node))


def _too_many(new: list[Seen], servers: int) -> list[str]:
    """Return which of the servers are to end: those that are not ready, then those of a node that has most.

    One more than there are to be may start, and is waited for.
    """
    staying, ending = list(new), []
    while len(staying) > servers:
        count = Counter(one.node for one in staying)
        last = max(staying, key=lambda one: (one.state != READY, count[one.node]))
        if last.state == STARTING and len(staying) == servers + 1 and count[last.node] < max(count.values()):
            break
        staying.remove(last)
        ending.append(last.name)
    return ending


def _make_room(seen: Sequence[Seen], old: list[Seen], config: ClusterConfig, result: Plan) -> None:
    if any(one.state in (DRAINING, ENDED) or one.name in result.end for one in seen):
        return  # it makes room
    if old:
        result.end.append(old[-1].name)
        return
    result.lacks.append(
        f"no node has {config.server_cpus:g} CPUs for another server: add a node, or lower cluster.server_cpus"
    )


def _plan_learners(seen: Sequence[Seen], left: dict[str, float], config: ClusterConfig, result: Plan) -> None:
    staying = [one for one in seen if one.state not in (DRAINING, ENDED)]
    new = [one for one in staying if one.current]
    old = sorted((one for one in staying if not one.current), key=lambda one: one.leads)
    busy = {one.node for one in seen}
    result.end += [one.name for one in sorted(new, key=lambda one: not one.leads)[config.learners :]]
    # The next one is replaced when the last has come.
    if old and all(one.state == READY for one in new) and len(staying) == len(seen):
        result.end.append(old[0].name)
    for _ in range(config.learners - len(staying)):
        free = [node for node, cpus in left.items() if node not in busy and cpus >= config.learner_cpus]
        if not free:
            if len(staying) == len(seen):
                result.lacks.append(
                    f"{len(staying)} of {config.learners} learners run: each takes a node of its own with "
                    f"{config.learner_cpus:g} CPUs left; add a node, or lower cluster.learners or cluster.learner_cpus"
                )
            return
        node = max(free, key=lambda one: (left[one], one))
        busy.add(node)
        left[node] -= config.learner_cpus
        result.start.append((LEARNER, node))


class Scaler:
    """How many servers there are to be, from how busy they are."""

    def __init__(self, config: ClusterConfig, servers: int) -> None:
        """Begin with a number of servers, within the limits of `config`."""
        self._config = config
        self._wanted: deque[tuple[float, int]] = deque()
        self.servers = min(max(servers, config.servers), config.at_most)

    def observe(self, now_s: float, busyness: Sequence[float]) -> int:
        """Take the share of busy turns of each ready server, and return how many servers there are to be.

        More are wanted once they were wanted for ten seconds, fewer once fewer would have done for five minutes.
        """
        if not busyness:
            return self.servers
        wanted = math.ceil(sum(busyness) / self._config.busyness - 1e-9)
        self._wanted.append((now_s, min(max(wanted, self._config.servers), self._config.at_most)))
        while self._wanted[0][0] < now_s - DOWN_AFTER_S:
            self._wanted.popleft()
        began = self._wanted[0][0]
        lately = [count for when, count in self._wanted if when >= now_s - UP_AFTER_S]
        if now_s - began >= UP_AFTER_S and min(lately) > self.servers:
            self.servers = min(lately)
        most = max(count for _, count in self._wanted)
        if now_s - began >= DOWN_AFTER_S - 2 and most < self.servers:
            self.servers = most
        return self.servers
