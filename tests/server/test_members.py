"""Servers that advertise themselves: who is listed, by whom, and until when."""

from __future__ import annotations

import time

import pytest

from accrete.v1 import operation_pb2 as op
from accrete_server.operate import membership
from accrete_server.operate.membership import SERVERS_KEY, advertised
from benchmarks.waiting import until
from tests.server.world import Blocked, Running, World

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell of oneself more often than people need."""
    monkeypatch.setattr(membership, "TELL_S", 0.1)


def listed(running: Running) -> op.ListServersResponse:
    return running.operation.ListServers(op.ListServersRequest(), timeout=300)


def addresses(running: Running) -> list[str]:
    return sorted(server.address for server in listed(running).servers)


def test_members_know_each_other_until_one_leaves(world: World):
    world.publish(1)
    first, second = world.server(advertise="127.0.0.1"), world.server(advertise="localhost")
    where = sorted([first.server.address, f"localhost:{second.server.port}"])
    until(lambda: addresses(first) == addresses(second) == where)
    [mine] = [server for server in listed(first).servers if server.id == listed(first).self]
    assert (mine.address, mine.version, mine.state) == (first.server.address, 1, op.ServerInfo.SERVING)
    assert (mine.release, mine.busyness) == (first.status().release, 0.0)
    assert abs(mine.started_ms - time.time() * 1000) < 300_000
    before = listed(first).revision
    world.stop(second)
    until(lambda: addresses(first) == [first.server.address])
    assert listed(first).revision > before
    assert first.server.metrics.registry.get_sample_value("accrete_members") == 1


def test_a_server_that_does_not_advertise_is_none_and_lists_none(world: World):
    quiet = world.server()
    world.server(advertise="127.0.0.1")
    answer, call = quiet.operation.ListServers.with_call(op.ListServersRequest(), timeout=300)
    assert answer == op.ListServersResponse()
    assert SERVERS_KEY not in dict(call.trailing_metadata())
    assert len(world.store.members.roster().members) == 1


def test_one_that_drains_says_so_to_all_before_it_stops(world: World):
    world.publish(1)
    first, second = world.server(advertise="127.0.0.1"), world.server(advertise="127.0.0.1")
    second.server._membership.drain()
    states = {second.server.address: op.ServerInfo.DRAINING, first.server.address: op.ServerInfo.SERVING}
    until(lambda: {server.address: server.state for server in listed(first).servers} == states)
    _, call = second.operation.GetStatus.with_call(op.GetStatusRequest(), timeout=300)
    assert dict(call.trailing_metadata())[SERVERS_KEY] == "draining 1 0"


def test_one_that_is_not_heard_of_is_gone(world: World):
    first, second = world.server(advertise="127.0.0.1"), world.server(advertise="127.0.0.1")
    until(lambda: len(addresses(first)) == 2)
    second.server._membership._task.stop()  # as if it were killed or cut off: nothing is told any more
    until(lambda: addresses(first) == [first.server.address])


def test_busy_turns_are_told(world: World):
    world.publish(1)
    running = world.server(advertise="127.0.0.1", concurrency=2)
    blocked = Blocked(running)
    call = blocked.take_turn()
    until(lambda: 0.4 < listed(running).servers[0].busyness < 0.6)
    blocked.gate.set()
    assert call.result().version == 1
    until(lambda: listed(running).servers[0].busyness == 0)


@pytest.mark.own_store
def test_a_store_that_goes_and_comes_takes_no_member_away(world: World):
    first, second = world.server(advertise="127.0.0.1"), world.server(advertise="127.0.0.1")
    both = sorted([first.server.address, second.server.address])
    until(lambda: addresses(first) == addresses(second) == both)
    world.kill_store()
    until(lambda: first.server._membership._missed and second.server._membership._missed)
    assert addresses(first) == addresses(second) == both
    world.start_store()
    until(lambda: not first.server._membership._missed and not second.server._membership._missed)
    assert addresses(first) == addresses(second) == both
    until(lambda: len(world.store.members.roster().members) == 2)


@pytest.mark.own_store
def test_a_server_that_starts_without_the_store_becomes_a_member_once_it_is_there(world: World):
    world.kill_store()
    running = world.server(advertise="127.0.0.1")
    assert addresses(running) == [running.server.address]
    world.start_store()
    until(lambda: [one.address for one in world.store.members.roster().members] == [running.server.address])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("10.0.0.7", "10.0.0.7:50051"),
        ("10.0.0.7:0", "10.0.0.7:50051"),
        ("node-3.example.org:7000", "node-3.example.org:7000"),
        ("2001:db8::7", "[2001:db8::7]:50051"),
        ("[2001:db8::7]", "[2001:db8::7]:50051"),
        ("[2001:db8::7]:7000", "[2001:db8::7]:7000"),
    ],
)
@pytest.mark.unit
def test_what_an_advertised_address_means(given: str, meant: str):
    assert advertised(given, 50051) == meant


@pytest.mark.parametrize(
    "given", ["http://host", "host:port", "host:70000", ":50051", "a b", "[10.0.0.7]", "a|b", "ä", "0.0.0.0", "[::]:1"]
)
def test_an_advertised_address_that_is_none_is_refused_before_anything_is_opened(world: World, given: str):
    with pytest.raises(ValueError, match=r"server.advertise = .*host:port"):
        world.server(advertise=given)
