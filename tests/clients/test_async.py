"""The asyncio client: the same methods with the same outcome."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

import accrete
from accrete import AsyncClient, Client
from accrete.v1 import teaching_pb2 as te
from tests.clients.conftest import FAST


def _public(kind: type) -> dict[str, object]:
    return {name: value for name, value in vars(kind).items() if not name.startswith("_") and callable(value)}


def test_both_clients_have_the_same_methods():
    assert list(_public(Client)) == list(_public(AsyncClient))


@pytest.mark.parametrize("name", [*_public(Client), "__init__"])
def test_both_have_the_same_parameters(name):
    def shape(kind: type) -> list[tuple[object, ...]]:
        parameters = inspect.signature(getattr(kind, name)).parameters.values()
        return [(one.name, one.kind, one.default) for one in parameters]

    assert shape(Client) == shape(AsyncClient)


@pytest.fixture
def run(server):
    """Runs a function of an AsyncClient to its end."""

    def run(work):
        async def main() -> Any:
            async with AsyncClient(server.address, timeout=20, retry=FAST) as client:
                return await work(client)

        return asyncio.run(main())

    return run


def test_calls_of_many_images_are_under_way_together_and_end_with_the_first_that_fails(run, server):
    server.state.hangs.add("Predict")
    server.state.max_images = 63

    async def work(client):
        asked = asyncio.ensure_future(client.predict([bytes(n + 1) for n in range(512)], features=True, window=3))
        while len(server.state.calls) < 3:
            await asyncio.sleep(0.01)
        server.state.release("Predict")
        return await asked, await client.predict([b"a"] * 200, window=2)

    many, few = run(work)
    assert [one.features[0] for one in many] == list(range(1, 513))
    assert len(few) == 200
    server.state.calls.clear()
    server.state.fail("Predict", grpc.StatusCode.INTERNAL)
    with pytest.raises(accrete.InternalError):
        run(lambda client: client.predict([b"a"] * 6400, window=2))
    assert len(server.state.calls) < 100


def test_predict(run, image, tmp_path):
    (tmp_path / "a.png").write_bytes(b"12345")

    async def work(client):
        return await client.predict(image), await client.predict([image, tmp_path / "a.png"], features=True)

    one, several = run(work)
    assert one.label == "cat"
    assert several[1].features.tolist() == [5.0, 2.0]


def test_retries(run, state):
    state.fail("GetStatus", grpc.StatusCode.UNAVAILABLE, times=2)
    assert run(lambda client: client.status()).version == 1
    assert len(state.requests("GetStatus")) == 3


def test_errors(run, state):
    state.fail("GetStatus", grpc.StatusCode.RESOURCE_EXHAUSTED, details="full", retry_after_ms=60_000)
    with pytest.raises(accrete.LimitExceeded, match="full") as caught:
        run(lambda client: client.status(timeout=1))
    assert caught.value.retry_after == 60


def test_a_server_that_hangs_costs_the_timeout(run, state):
    state.hangs.add("GetStatus")
    with pytest.raises(accrete.DeadlineExceeded):
        run(lambda client: client.status(timeout=0.2))


def test_examples_from_either_kind_of_iterable(run, state):
    async def generated() -> AsyncIterator[tuple[str, bytes]]:
        for n in range(70):
            yield ("cat", bytes([n]))

    async def work(client):
        first = await client.add_examples(generated())
        return first, await client.add_examples([("cat", bytes([n])) for n in range(71)])

    first, second = run(work)
    assert first.stored == 70
    assert (second.stored, second.duplicates) == (1, 70)


def test_a_folder_and_waiting(run, state, tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(b"a")

    async def work(client):
        report = await client.add_folder(tmp_path)
        with pytest.raises(accrete.NotLearned):
            await client.wait_learned(report.ids, timeout=0.1)
        state.learn(report.ids)
        return await client.wait_learned(report.ids)

    assert run(work) == 2


@pytest.mark.parametrize("answers_before", [0, 3])
def test_a_broken_stream_goes_on_over_a_new_one(run, state, answers_before):
    state.batches_until_drop = answers_before

    async def work(client):
        examples = [("cat", bytes([n]), str(n)) for n in range(100)]
        return [result.index async for result in client.stream_examples(examples, batch_size=8)]

    assert run(work) == list(range(100))
    assert len(state.examples) == 100
    assert len(state.requests("StreamExamples")) == 2


def test_a_watch_goes_on_after_a_broken_connection(run, state):
    state.emit(forgotten=te.ClassForgotten(label="0"))

    async def work(client):
        labels = []
        async for event in client.watch(after="0"):
            labels.append(event.label)
            if len(labels) == 2:
                break
            await asyncio.to_thread(state.drop_watchers)
            state.emit(forgotten=te.ClassForgotten(label="1"))
        return labels

    assert run(work) == ["0", "1"]


def test_all_the_rest(run, state):
    async def work(client):
        await client.wait_ready()
        ids = (await client.add_examples([("cat", b"a")])).ids
        assert len(await client.classes()) == len(await client.versions()) == 2
        assert (await client.activate(1)).pinned
        assert not (await client.unpin()).pinned
        assert (await client.discard(3)).base == 2
        await client.pause()
        with pytest.raises(accrete.NotNow):
            await client.trigger_step()
        await client.resume()
        assert await client.trigger_step() == 7
        assert [one.label for one in await client.held()] == ["moth", "owl"]
        assert await client.approve("owl") == 2
        assert [one.examples for one in await client.review()] == [3]
        assert await client.release_review("owl") == await client.drop_review(principal="ann") == 3
        assert await client.retry_held("moth") == await client.drop_held("moth") == 7
        assert (await client.delete_examples(ids)).deleted == 1
        assert (await client.forget_class("cat")).holdout == 3

    run(work)


def test_other_tasks_run_while_a_call_waits(run, state):
    state.hangs.add("GetStatus")

    async def work(client):
        hanging = asyncio.create_task(client.status())
        version = (await client.predict(b"a")).version
        assert not hanging.done()
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        return version

    assert run(work) == 1


def test_closing_ends_the_calls_of_other_tasks_with_an_error(run, state):
    state.hangs.add("GetStatus")

    async def work(client):
        hanging = asyncio.create_task(client.status())
        while not state.requests("GetStatus"):
            await asyncio.sleep(0.01)
        await client.close()
        with pytest.raises(accrete.Cancelled):
            await hanging
        with pytest.raises(accrete.Cancelled, match="closed"):
            await client.status()

    run(work)


def test_a_server_that_comes_up_late_is_found(run, server):
    server.stop()
    threading.Timer(0.3, server.start).start()
    assert run(lambda client: client.status()).version == 1


def test_the_blocking_client_works_on_a_thread_with_a_running_loop(client):
    async def work() -> tuple[int, list[str]]:
        return client.status().version, [r.outcome for r in client.stream_examples([("cat", b"a")])]

    assert asyncio.run(work()) == (1, ["stored"])
