"""What a client makes of a server that names others, where it is of another release; see also tests/server."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from accrete import AsyncClient, Client
from accrete._transport import spreading
from accrete.v1 import operation_pb2 as op
from benchmarks.waiting import until

pytestmark = pytest.mark.integration

MEMBER = (("accrete-servers", "serving 1 0"),)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreading, "ROUND_S", 0.05)


def test_a_server_that_lacks_the_call_is_gone_on_with(server, state):
    state.trailers = MEMBER
    state.fail("ListServers", grpc.StatusCode.UNIMPLEMENTED, times=1000)
    with Client(server.address, retry=None, timeout=20) as client:
        until(lambda: client.predict(b"x").version == 1 and len(state.requests("ListServers")) > 2)


@pytest.mark.parametrize("told", ["serving", "serving x y", "", "asleep 1 0 and more"])
def test_what_a_later_release_says_besides_is_passed_over(server, state, told):
    state.trailers = (("accrete-servers", told),)
    state.servers = [op.ServerInfo(id="a", address=server.address, state=7)]  # type: ignore[arg-type]
    with Client(server.address, retry=None, timeout=20) as client:
        until(lambda: client.predict(b"x").version == 1 and state.requests("ListServers"))
        assert client.servers()[0].address == server.address


def test_the_client_for_asyncio_is_closed_while_it_asks(server, state):
    state.trailers = MEMBER
    state.hangs.add("ListServers")

    async def work() -> None:
        async with AsyncClient(server.address, retry=None, timeout=20) as client:
            await client.predict(b"x")
            while not state.requests("ListServers"):
                await asyncio.sleep(0.01)

    asyncio.run(work())
    state.hangs.clear()
    with state.changed:
        state.changed.notify_all()
