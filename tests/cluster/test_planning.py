"""What is started and ended next, and how many servers there are to be."""

from __future__ import annotations

import dataclasses

import pytest

from accrete_cluster.planning import DOWN_AFTER_S, UP_AFTER_S, Plan, Scaler, Seen, plan
from accrete_cluster.replica import DRAINING, ENDED, FAILING, READY, STARTING
from accrete_cluster.spec import LEARNER, SERVER
from accrete_node.cluster_config import ClusterConfig

TWO = ClusterConfig()
ROOM = {"a": 4.0, "b": 4.0}


def one(name: str, kind: str, node: str, state: str = READY, *, current: bool = True, leads: bool = False) -> Seen:
    return Seen(name=name, kind=kind, current=current, node=node, state=state, leads=leads)


def running(*, current: bool = True) -> list[Seen]:
    pairs = [("s1", SERVER, "a"), ("s2", SERVER, "b"), ("l1", LEARNER, "a"), ("l2", LEARNER, "b")]
    return [one(*pair, current=current, leads=pair[0] == "l1") for pair in pairs]


def carry_out(seen: list[Seen], todo: Plan) -> list[Seen]:
    """Return what there is once all that was begun is done."""
    left = [item for item in seen if item.name not in todo.end]
    return left + [one(f"new{len(seen)}{i}", kind, node) for i, (kind, node) in enumerate(todo.start)]


def test_an_empty_cluster_gets_servers_spread_over_nodes_and_learners_on_nodes_of_their_own():
    todo = plan([], ROOM, 2, TWO)
    assert sorted(todo.start) == [(LEARNER, "a"), (LEARNER, "b"), (SERVER, "a"), (SERVER, "b")]
    assert (todo.end, todo.lacks) == ([], [])


def test_what_is_whole_stays_as_it_is():
    assert plan(running(), ROOM, 2, TWO) == Plan()


def test_servers_that_came_to_one_node_are_spread_again_once_it_is_calm():
    seen = [
        one("s1", SERVER, "a"),
        one("s2", SERVER, "a"),
        one("l1", LEARNER, "a", leads=True),
        one("l2", LEARNER, "b"),
    ]
    assert plan(seen, ROOM, 2, TWO) == Plan(), "not at once: the node may just have come"
    assert plan(seen, {"a": 4.0, "b": 1.0}, 2, TWO, calm=True) == Plan(), "there is no room"
    assert plan(running(), ROOM | {"c": 4.0}, 2, TWO, calm=True) == Plan(), "nobody has two"
    todo = plan(seen, ROOM, 2, TWO, calm=True)
    assert (todo.start, todo.end) == ([(SERVER, "b")], [])
    starting = [*seen, one("s3", SERVER, "b", STARTING)]
    assert plan(starting, ROOM, 2, TWO) == Plan(), "until it serves, none goes"
    assert plan([*seen, one("s3", SERVER, "b", FAILING)], ROOM, 2, TWO).end == ["s3"]
    todo = plan([*seen, one("s3", SERVER, "b")], ROOM, 2, TWO, calm=True)
    assert (todo.start, todo.end) == ([], ["s1"])
    left = carry_out([*seen, one("s3", SERVER, "b")], todo)
    assert plan(left, ROOM, 2, TWO, calm=True) == Plan()


def test_a_second_learner_waits_for_a_second_node_and_says_so():
    todo = plan([], {"a": 8.0}, 2, TWO)
    assert sorted(todo.start) == [(LEARNER, "a"), (SERVER, "a"), (SERVER, "a")]
    assert "1 of 2 learners" not in "".join(todo.lacks)  # not known before the first one is there
    seen = [one("s1", SERVER, "a"), one("s2", SERVER, "a"), one("l1", LEARNER, "a")]
    assert "1 of 2 learners run: each takes a node of its own" in plan(seen, {"a": 8.0}, 2, TWO).lacks[0]


def test_without_cpus_left_nothing_starts_and_the_setting_is_named():
    seen = [item for item in running() if item.name != "s2"]
    todo = plan(seen, {"a": 2.0, "b": 1.0}, 2, TWO)
    assert todo.start == []
    assert "cluster.server_cpus" in todo.lacks[0]


def test_a_rolling_upgrade_never_has_fewer_ready_servers_or_two_learners_on_a_node():
    seen = running(current=False)
    rounds = []
    while (todo := plan(seen, ROOM, 2, TWO)) != Plan():
        rounds.append(todo)
        assert len(rounds) < 20
        started = [kind for kind, _ in todo.start]
        assert started.count(SERVER) <= 1
        during = [dataclasses.replace(item, state=DRAINING) if item.name in todo.end else item for item in seen]
        assert sum(item.kind == SERVER and item.state == READY for item in during) >= 2
        learners = [item.node for item in seen if item.kind == LEARNER]
        learners += [node for kind, node in todo.start if kind == LEARNER]
        assert len(learners) == len(set(learners))
        seen = carry_out(seen, todo)
    assert all(item.current for item in seen)
    assert len(seen) == 4
    order = [name for todo in rounds for name in todo.end if name.startswith("l")]
    assert order == ["l2", "l1"], "the one with the lease comes last"


def test_new_settings_that_do_not_start_leave_the_old_servers_in_place():
    seen = [*running(current=False), one("n", SERVER, "a", FAILING)]
    todo = plan(seen, ROOM, 2, TWO)
    assert [name for name in todo.end if name.startswith("s")] == []
    assert all(kind == LEARNER for kind, _ in todo.start)


def test_an_upgrade_without_room_for_one_more_ends_an_old_server_first_and_waits_for_it():
    tight = {"a": 2.0, "b": 2.0}
    seen = running(current=False)
    todo = plan(seen, tight, 2, TWO)
    assert [name for name in todo.end if name.startswith("s")] == ["s2"]
    draining = [dataclasses.replace(item, state=DRAINING) if item.name == "s2" else item for item in seen]
    again = plan(draining, tight, 2, TWO)
    assert [name for name in again.end if name.startswith("s")] == []
    gone = [item for item in seen if item.name != "s2"]
    assert (SERVER, "b") in plan(gone, tight, 2, TWO).start


@pytest.mark.parametrize("state", [DRAINING, ENDED])
def test_what_ends_counts_for_room_and_not_for_servers(state: str):
    seen = [*running()[1:], one("s1", SERVER, "a", state)]
    assert plan(seen, ROOM, 2, TWO).start == [(SERVER, "a")]


def test_fewer_servers_end_those_that_are_not_ready_first():
    seen = [*running(), one("s3", SERVER, "a", STARTING)]
    assert plan(seen, ROOM, 2, TWO).end == ["s3"]


def test_more_servers_come_after_a_while_of_load_and_go_after_a_longer_one_of_quiet():
    config = ClusterConfig(servers=2, most_servers=5, busyness=0.5)
    scaler = Scaler(config, 0)
    now = 0.0
    assert scaler.observe(now, [1.0, 1.0]) == 2  # a burst alone
    while now < UP_AFTER_S:
        now += 1
        found = scaler.observe(now, [1.0, 1.0])
    assert found == 4
    for _ in range(int(DOWN_AFTER_S) - 20):
        now += 1
        assert scaler.observe(now, [0.1] * 4) == 4
    for _ in range(40):
        now += 1
        found = scaler.observe(now, [0.1] * 4)
    assert found == 2


def test_the_number_stays_within_its_limits_and_where_nothing_is_known():
    config = ClusterConfig(servers=2, most_servers=3, busyness=0.5)
    scaler = Scaler(config, 9)
    assert scaler.servers == 3
    assert scaler.observe(0.0, []) == 3
    for second in range(2 * int(DOWN_AFTER_S)):
        assert scaler.observe(float(second), [1.0, 1.0, 1.0]) == 3
    fixed = Scaler(TWO, 0)
    for second in range(30):
        assert fixed.observe(float(second), [1.0, 1.0]) == 2


def test_more_servers_at_most_than_always_is_refused_the_other_way_around():
    with pytest.raises(ValueError, match="most_servers = 1: at least servers = 2"):
        ClusterConfig(most_servers=1)
