"""Streaming examples: a bounded window, connections made anew, nothing lost and nothing doubled."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import pytest

from accrete import AddReport, Client, DeadlineExceeded, InvalidInput, NoModel, NotNow, Unavailable


def _examples(count: int) -> list[tuple[str, bytes, str]]:
    return [("cat", bytes([n % 256, n // 256, 1]), str(n)) for n in range(count)]


def test_every_example_gets_its_result_in_order(client, state):
    results = list(client.stream_examples(_examples(100), batch_size=8))
    assert [result.index for result in results] == list(range(100))
    assert AddReport.of(results).stored == 100
    assert [len(request.examples) for request in state.requests("batch")] == [8] * 12 + [4]
    assert len(state.requests("StreamExamples")) == 1


def test_no_more_than_the_window_is_on_its_way(client):
    taken = 0

    def generated() -> Iterator[tuple[str, bytes, str]]:
        nonlocal taken
        for example in _examples(100):
            taken += 1
            yield example

    for answered, _ in enumerate(client.stream_examples(generated(), batch_size=5, window=3), start=1):
        assert (
            taken <= answered - 1 + 4 * 5 + 1
        )  # the window, the batch being gathered, and the one that starts the next


@pytest.mark.parametrize("answers_before", [0, 1, 5])
def test_a_broken_stream_goes_on_over_a_new_one_and_stores_nothing_twice(client, state, answers_before):
    state.batches_until_drop = answers_before
    results = list(client.stream_examples(_examples(100), batch_size=8, window=4))
    assert [result.index for result in results] == list(range(100))
    assert {result.outcome for result in results} <= {"stored", "duplicate"}
    assert sorted(state.examples, key=int) == [str(n) for n in range(100)]
    assert len(state.requests("StreamExamples")) == 2


def test_a_server_that_restarts_in_between_loses_nothing(client, server, state):
    results = []
    for result in client.stream_examples(_examples(60), batch_size=5, window=2):
        results.append(result)
        if len(results) == 20:
            server.stop()
            server.start()
    assert [result.index for result in results] == list(range(60))
    assert len(state.examples) == 60


def test_a_refused_example_does_not_end_the_stream(client, tmp_path):
    examples = [("cat", b"a"), ("cat", b"bad"), ("cat", tmp_path / "gone.png"), ("cat", b"b")]
    outcomes = [result.outcome for result in client.stream_examples(examples, batch_size=1)]
    assert outcomes == ["stored", "refused", "refused", "stored"]


def test_a_batch_that_is_too_much_for_the_server_is_sent_in_parts(client, state):
    state.max_batch = 5
    results = list(client.stream_examples(_examples(30), batch_size=8, window=2))
    assert [result.index for result in results] == list(range(30))
    assert len(state.examples) == 30


def test_a_full_server_is_waited_for(client, state):
    state.fail("StreamExamples", grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_ms=10, times=2)
    assert len(list(client.stream_examples(_examples(10)))) == 10


def test_an_outage_longer_than_the_timeout_is_raised(client, server):
    results = client.stream_examples(_examples(100), batch_size=5, window=1, timeout=0.5)
    next(results)
    server.stop()
    with pytest.raises(Unavailable):
        list(results)


def test_an_error_that_no_retry_helps_is_raised_at_once(client, state):
    state.fail("StreamExamples", grpc.StatusCode.FAILED_PRECONDITION)
    with pytest.raises(NotNow) as caught:
        list(client.stream_examples(_examples(10)))
    assert not isinstance(caught.value, NoModel)
    assert caught.value.attempts == 1


def test_a_server_that_hangs_is_noticed(server, state):
    state.hangs.add("StreamExamples")
    with Client(server.address, timeout=0.5) as client, pytest.raises(DeadlineExceeded):
        list(client.stream_examples(_examples(10)))


def test_a_slow_source_outlives_the_calls_that_carry_it(client, state):
    def generated() -> Iterator[tuple[str, bytes, str]]:
        for example in _examples(6):
            time.sleep(0.15)
            yield example

    results = list(client.stream_examples(generated(), batch_size=1, window=2, timeout=0.4))
    assert [result.index for result in results] == list(range(6))
    assert len(state.examples) == 6
    assert len(state.requests("StreamExamples")) > 1


def test_leaving_early_ends_the_call(client, state):
    for _ in client.stream_examples(_examples(100), batch_size=1, window=2):
        break
    assert len(state.examples) < 10
    assert client.status().version == 1


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"window": 0}])
def test_a_window_or_batch_of_nothing_is_refused(client, wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        list(client.stream_examples(_examples(3), **wrong))


def test_no_examples_give_no_results(client):
    assert list(client.stream_examples([])) == []
