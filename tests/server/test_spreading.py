"""A client that is told of several servers: which of them its calls reach, and whom it trusts with its token."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from accrete import AccreteError, AsyncClient, Client, DeadlineExceeded, TlsConfig, Unavailable
from accrete._config import endpoint
from accrete._transport import spreading
from accrete.v1 import operation_pb2 as op
from accrete.v1 import prediction_pb2
from accrete_server.access.config import AccessConfig
from accrete_server.operate import membership
from accrete_storage.members import Member
from benchmarks.waiting import free_port, until
from tests.server.test_access import Authority, principals
from tests.server.world import Running, World, pixels, raw

pytestmark = pytest.mark.integration

HERE = "127.0.0.1"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look and tell more often than people need."""
    monkeypatch.setattr(membership, "TELL_S", 0.1)
    monkeypatch.setattr(spreading, "ROUND_S", 0.1)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


def counted(running: Running, method: str = "Predict") -> int:
    """Calls that a server has answered."""
    found = running.server.metrics.registry.collect()
    samples = [sample for metric in found if metric.name == "accrete_requests" for sample in metric.samples]
    return int(sum(s.value for s in samples if s.name.endswith("_total") and s.labels["method"] == method))


def known(world: World, count: int) -> None:
    """Wait until all servers know of so many members."""
    until(lambda: all(running.server._membership.members == count for running in world._running))


def reaches(client: Client, *servers: Running) -> None:
    """Call until each of them has answered one more."""
    before = [counted(one) for one in servers]

    def all_have() -> bool:
        client.predict(pixels())
        return all(counted(one) > count for one, count in zip(servers, before, strict=True))

    until(all_have)


def told(world: World, address: str, member_id: str = "elsewhere") -> None:
    """A member that no server of this test is."""
    world.store.members.tell(
        Member(id=member_id, address=address, started_ms=0, release="0", version=1, state="serving", busyness=0), 300
    )


def test_calls_go_to_all_and_with_spread_off_to_the_one_that_was_given(world: World):
    world.publish(1)
    first, second, third = (world.server(advertise=HERE) for _ in range(3))
    known(world, 3)
    with Client(first.server.address, spread=False, timeout=300) as client:
        for _ in range(20):
            client.predict(pixels())
    assert [counted(one) for one in (first, second, third)] == [20, 0, 0]
    assert counted(first, "ListServers") == 0
    with Client(first.server.address, timeout=300) as client:
        reaches(client, first, second, third)
        before = [counted(one) for one in (first, second, third)]
        for _ in range(30):
            client.predict(pixels())
        assert [counted(one) - count for one, count in zip((first, second, third), before, strict=True)] == [10] * 3
        assert {one.address for one in client.servers()} == {one.server.address for one in (first, second, third)}
        assert client.status().servers == 3
        fourth = world.server(advertise=HERE)
        reaches(client, fourth)


def test_the_client_for_asyncio_does_the_same(world: World):
    world.publish(1)
    first, second = world.server(advertise=HERE), world.server(advertise=HERE)
    known(world, 2)

    async def work() -> None:
        async with AsyncClient(first.server.address, timeout=300) as client:
            while not counted(second):
                await client.predict(pixels())
                await asyncio.sleep(0.01)
            before = counted(first), counted(second)
            await asyncio.gather(*(client.predict(pixels()) for _ in range(20)))
            assert (counted(first) - before[0], counted(second) - before[1]) == (10, 10)
            world.stop(second)
            for _ in range(20):
                await client.predict(pixels())
            while len(await client.servers()) != 1:  # the first one hears of it within its next look
                await asyncio.sleep(0.01)

    asyncio.run(work())


def test_a_server_that_advertises_nothing_is_asked_nothing(world: World):
    world.publish(1)
    alone = world.server()
    with Client(alone.server.address, timeout=300) as client:
        for _ in range(3):
            client.predict(pixels())
        assert client.servers() == []
        assert "accrete-members" not in {thread.name for thread in threading.enumerate()}
    assert counted(alone, "ListServers") == 1  # by this test


def test_members_that_cannot_be_reached_or_are_others_are_passed_over(world: World):
    world.publish(1)
    first, second, stranger = world.server(advertise=HERE), world.server(advertise=HERE), world.server()
    told(world, f"{HERE}:1", "nothing-listens")
    told(world, "192.0.2.1:50051", "no-way-there")
    told(world, "no-such-host.invalid:50051", "no-name")
    told(world, stranger.server.address, "somebody-else")
    told(world, "unix:/etc", "no-address")
    until(lambda: first.server._membership.members == 7)
    with Client(first.server.address, timeout=300) as client:
        reaches(client, first, second)
        for _ in range(20):
            client.predict(pixels())
    assert counted(stranger) == 0


@pytest.mark.parametrize("where", [f"{HERE}:1", "192.0.2.1"])
def test_the_address_that_was_given_stays_in_use_where_its_own_cannot_be_reached(world: World, where: str):
    world.publish(1)
    hidden, open_one = world.server(advertise=where), world.server(advertise=HERE)
    known(world, 2)
    with Client(hidden.server.address, timeout=300) as client:
        reaches(client, hidden, open_one)
        reaches(client, hidden, open_one)


def test_several_addresses_are_given(world: World):
    world.publish(1)
    first, second, third = (world.server(advertise=HERE) for _ in range(3))
    known(world, 3)
    with Client(f"{first.server.address},{second.server.address}", timeout=300) as client:
        reaches(client, first, second, third)
        world.stop(first)
        reaches(client, second, third)


def test_one_that_was_no_member_for_a_while_is_found_when_no_other_is_left(world: World):
    world.publish(1)
    first, second = world.server(advertise=HERE), world.server(advertise=HERE)
    known(world, 2)
    with Client(first.server.address, timeout=60) as client:
        reaches(client, first, second)
        second.server._membership._task.stop(60)  # it cannot tell the store of itself
        world.store.members.remove(second.server._membership._id)
        transport: Any = client._caller.transport
        until(lambda: not transport._spread._members, "the client hears of the first alone")
        world.stop(first)
        before = counted(second)
        for _ in range(5):
            client.predict(pixels())
        assert counted(second) == before + 5


def test_members_that_share_a_port_have_one_of_their_own_and_the_shared_one_stays_good(world: World):
    world.publish(1)
    port = free_port()
    shared = f"{HERE}:{port}"
    first, second = (world.server(advertise=HERE, share_port=True, port=port) for _ in range(2))
    known(world, 2)
    own = {one.server.address for one in (first, second)}
    assert len(own | {shared}) == 3
    with Client(shared, timeout=60) as client:
        assert {one.address for one in client.servers()} == own
        reaches(client, first, second)
        world.stop(first)
        world.stop(second)
        third = world.server(advertise=HERE, share_port=True, port=port)
        reaches(client, third)
        assert [one.address for one in client.servers()] == [third.server.address]
    with pytest.raises(OSError, match=rf"cannot listen on {HERE}:{port}"):
        world.server(port=port)


@pytest.mark.unit
def test_the_address_that_was_given_is_not_gone_back_to_while_the_server_there_is_lost_under_its_own():
    spread = spreading.Spread(endpoint("127.0.0.1:1", False), grpc, wanted=True)
    home = spread.take("/call")
    servers = [op.ServerInfo(id=name, address=f"127.0.0.1:{number}") for number, name in enumerate("ab", 2)]
    spread.heard(home, op.ListServersResponse(servers=servers, self="a", revision=1))
    first, second = sorted(spread.new(), key=lambda target: target.address)
    for target, name in ((first, "a"), (second, "b")):
        spread.heard(target, op.ListServersResponse(servers=servers, self=name, revision=1))
    assert {spread.take("/call") for _ in range(4)} == {first, second}
    spread.missed(first, DeadlineExceeded("it hangs"))
    assert {spread.take("/call") for _ in range(4)} == {second}
    spread.heard(home, op.ListServersResponse(servers=servers[1:], self="c", revision=2))
    assert home in {spread.take("/call") for _ in range(4)}, "another one answers there now"


@pytest.mark.unit
def test_while_nobody_is_reached_everybody_is_asked_again_in_each_round():
    spread = spreading.Spread(endpoint("127.0.0.1:1", False), grpc, wanted=True)
    home = spread.take("/call")
    servers = [op.ServerInfo(id=name, address=f"127.0.0.1:{number}") for number, name in enumerate("abc", 2)]
    spread.heard(home, op.ListServersResponse(servers=servers, self="a", revision=1))
    first, second, third = sorted(spread.new(), key=lambda target: target.address)
    spread.heard(first, op.ListServersResponse(servers=servers, self="a", revision=1))
    for _ in range(20):
        spread.missed(second, Unavailable("it listens nowhere"))
    spread.heard(home, op.ListServersResponse(servers=servers[:2], self="a", revision=2))
    assert not {second, third} & set(spread.due()), "one has gone that was never reached, the other is tried seldom"
    spread.heard(home, op.ListServersResponse(servers=servers[1:2], self="a", revision=3))
    assert first not in spread.due()
    spread.missed(home, Unavailable("it has ended"))
    assert {home, first, second} == set(spread.due())


@pytest.mark.unit
def test_a_call_that_hangs_at_one_of_several_addresses_is_made_elsewhere_though_another_there_answers_the_question():
    spread = spreading.Spread(endpoint("127.0.0.1:1,127.0.0.1:2", False), grpc, wanted=True)
    home = spread.take("/call")
    lane = spread.lane(home)
    servers = [op.ServerInfo(id=name, address=f"127.0.0.1:{number}") for number, name in enumerate("ab", 3)]
    answer = op.ListServersResponse(servers=servers, self="a", revision=1)
    for _ in range(4):
        assert home in spread.due()
        spread.heard(home, answer)
    assert spread.dropped() == [], "nobody else is known to answer"
    for target, name in zip(sorted(spread.new(), key=lambda target: target.address), "ab", strict=True):
        spread.heard(target, op.ListServersResponse(servers=servers, self=name, revision=1))
    spread.answer(home, "/call", 0, [(spreading.SERVERS_KEY, "serving 1 1")])
    spread.due()  # a round in which a call was answered there
    for _ in range(2):
        assert home in spread.due()
        spread.heard(home, answer)
    assert spread.dropped() == []
    spread.due()
    assert spread.dropped() == [lane]
    assert lane.closed


def test_one_that_is_no_member_keeps_its_share_beside_one_that_is(world: World):
    world.publish(1)
    before, after = world.server(), world.server(advertise=HERE)  # in the middle of a rolling upgrade, say
    with Client(f"{before.server.address},{after.server.address}", timeout=300) as client:
        until(lambda: client.predict(pixels()).version == 1 and counted(before, "ListServers") > 0)
        for _ in range(3):
            polled = counted(after, "ListServers")
            reaches(client, before, after)
            until(lambda polled=polled: counted(after, "ListServers") > polled + 2)  # type: ignore[misc]
            reaches(client, before, after)


def test_a_server_that_drains_gets_no_more_calls_and_none_fails(world: World):
    world.publish(1)
    first, second = world.server(advertise=HERE, drain_s=1.0), world.server(advertise=HERE)
    known(world, 2)
    with Client(first.server.address, retry=None, timeout=300) as client:
        reaches(client, first, second)
        world.forget(first)
        ending = threading.Thread(target=first.server.stop)
        ending.start()
        until(lambda: first.server._membership._state == "draining")
        client.predict(pixels())  # it may be the draining one that answers, and says so
        client.predict(pixels())
        before = counted(first)
        while ending.is_alive():
            client.predict(pixels())
        assert counted(first) == before


def streaming(world: World) -> list[Running]:
    """The servers that have a long-lived call."""
    return [running for running in world._running if running.server.stream_limit.open]


def test_streams_go_on_at_another_server(world: World):
    world.publish(1)
    servers = [world.server(advertise=HERE) for _ in range(3)]
    known(world, 3)
    with Client(servers[0].server.address, timeout=300) as client:
        reaches(client, *servers)
        kinds: list[str] = []
        watching = threading.Thread(target=lambda: kinds.append(next(client.watch()).kind))
        watching.start()
        until(lambda: streaming(world))
        world.stop(*streaming(world))
        until(lambda: streaming(world))
        world.publish(2)
        watching.join()
        assert kinds == ["committed"]
        until(lambda: not streaming(world))

        results = client.stream_examples((("cat", pixels(seed)) for seed in range(30)), batch_size=1, window=1)
        assert next(results).outcome == "stored"
        world.stop(*streaming(world))
        assert {result.outcome for result in results} <= {"stored", "duplicate"}
        assert world.store.pending.total().examples == 30


def test_what_one_server_has_done_for_a_caller_holds_at_all(world: World):
    world.publish(1)
    world.publish(2)
    first, second, third = (world.server(advertise=HERE) for _ in range(3))
    known(world, 3)
    with Client(first.server.address, timeout=300) as client:
        reaches(client, first, second, third)
        for version in (1, 2) * 5:
            client.activate(version)
            assert {client.predict(pixels()).version for _ in range(6)} == {version}
        gone = client.predict(pixels()).label
        client.forget_class(gone)
        assert gone not in {ranked.label for _ in range(6) for ranked in client.predict(pixels(), top_k=1000).ranked}


def test_a_server_waits_for_what_its_caller_has_seen(world: World):
    world.publish(1)
    running = world.server(advertise=HERE)
    running.server._store_sync.stop()  # it hears nothing by itself any more
    world.publish(2)
    call = running.prediction.Predict.future
    request = prediction_pb2.PredictRequest(images=[raw(pixels())])
    late = call(request, metadata=(("accrete-after", "2 0"),), timeout=300)
    odd = [
        call(request, metadata=(("accrete-after", text),), timeout=300)
        for text in ("x", "2", "2 0 0", "-1 2", "9" * 5000 + " 0")
    ]
    assert {one.result().version for one in odd} == {1}
    assert not late.done()
    running.server._store_sync.sync()
    assert late.result().version == 2


@pytest.mark.own_store
def test_no_call_fails_while_the_store_is_away(world: World):
    world.publish(1)
    first, second = world.server(advertise=HERE), world.server(advertise=HERE)
    known(world, 2)
    with Client(first.server.address, retry=None, timeout=300) as client:
        reaches(client, first, second)
        world.kill_store()
        until(lambda: first.server._membership._missed and second.server._membership._missed)
        with pytest.raises(AccreteError):
            client.add_examples([("cat", pixels())])  # the store's failure is no server's
        reaches(client, first, second)
        world.start_store()
        reaches(client, first, second)


def test_certificates_and_tokens_are_the_members_as_well(world: World, authority: Authority, tmp_path: Path):
    world.publish(1)
    token = principals(tmp_path, app="predict")["app"]
    certificate, key = authority.issue("server")
    access = AccessConfig(certificate=certificate, private_key=key, tokens=str(tmp_path / "tokens"))
    first, second = (
        world.server(advertise="localhost", access=access),
        world.server(advertise="localhost", access=access),
    )
    misnamed = world.server(advertise=HERE, access=access)  # the certificate is not for this address
    plain = world.server(advertise="localhost")
    known(world, 4)
    address = f"localhost:{first.server.port}"
    with Client(address, tls=TlsConfig(root_certificates=authority.root), token=token, timeout=300) as client:
        reaches(client, first, second)
        for _ in range(20):
            client.predict(pixels())
    assert counted(misnamed) == counted(misnamed, "ListServers") == 0
    assert counted(plain) == counted(plain, "ListServers") == 0
    named = TlsConfig(root_certificates=authority.root, server_name="localhost")
    with Client(address, tls=named, token=token, timeout=300) as client:
        reaches(client, first, second, misnamed)
    assert counted(plain) == counted(plain, "ListServers") == 0


@pytest.mark.unit
def test_a_token_goes_to_other_machines_encrypted_alone():
    local = endpoint("localhost:1", False, "secret")
    assert local.admits("127.0.0.1:2")
    assert not local.admits("10.0.0.1:2")
    assert endpoint("localhost:1", True, "secret").admits("10.0.0.1:2")
    assert endpoint("localhost:1", False, "", {}).admits("10.0.0.1:2")
    assert not any(
        map(local.admits, ["unix:/s", "dns:///127.0.0.1:2", "127.0.0.1:2,127.0.0.1:3", "127.0.0.1", "", "h\u00e4:1"])
    )


def test_a_client_that_insists_on_a_node_stays_with_it(world: World):
    world.publish(1)
    shop, other = world.server(advertise=HERE, node="shop"), world.server(advertise=HERE, node="other")
    also = world.server(advertise=HERE, node="shop")
    known(world, 3)
    with Client(shop.server.address, node="shop", timeout=300) as client:
        reaches(client, shop, also)
        for _ in range(20):
            client.predict(pixels())
    assert counted(other) == 0
