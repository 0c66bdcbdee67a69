"""A principal's quota as callers meet it: refused with its name and when to try again, in its own share alone."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import accrete
from accrete_server.access import tokens
from accrete_server.access.config import AccessConfig
from accrete_storage.config import TeachingConfig

from .world import Running, World, example, failure, pixels

MINUTE = TeachingConfig(examples_per_minute=3)


def client(server: Running, token: str | None = None) -> accrete.Client:
    return accrete.Client(server.server.address, retry=None, token=token)


def taught(label: str, *seeds: int) -> list[tuple[str, NDArray[np.uint8]]]:
    return [(label, pixels(seed)) for seed in seeds]


@pytest.fixture
def access(tmp_path: Path) -> tuple[AccessConfig, dict[str, str]]:
    made = {name: tokens.new_token() for name in ("ann", "bob")}
    for name, token in made.items():
        tokens.add(tmp_path / "tokens", tokens.line(name, ["teach"], token))
    return AccessConfig(tokens=str(tmp_path / "tokens")), made


def test_two_servers_share_a_principals_quota_and_another_has_its_own(
    world: World, access: tuple[AccessConfig, dict[str, str]]
) -> None:
    config, made = access
    one, other = (world.server(access=config, teaching=MINUTE) for _ in range(2))
    with client(one, made["ann"]) as ann, client(other, made["ann"]) as ann_too, client(other, made["bob"]) as bob:
        assert ann.add_examples(taught("cat", 1, 2)).stored == 2
        with pytest.raises(accrete.LimitExceeded, match="examples_per_minute is 3; retry in") as refused:
            ann_too.add_examples(taught("cat", 3, 4))
        assert refused.value.retry_after is not None
        assert 0 < refused.value.retry_after <= 60
        assert ann_too.add_examples(taught("cat", 1, 2)).duplicates == 2
        assert bob.add_examples(taught("cat", 5, 6, 7)).stored == 3
        results = list(ann.stream_examples(taught("owl", 8)))
        assert [result.outcome for result in results] == ["stored"]
    assert {entry.example.principal for entry in world.store.pending.read("owl")} == {"ann"}
    assert {entry.example.principal for entry in world.store.pending.read("cat")} == {"ann", "bob"}


def test_callers_of_a_server_that_asks_no_names_are_one_principal(world: World) -> None:
    running = world.server(teaching=MINUTE)
    running.add(example(seed=1), example(seed=2))
    with client(running) as other:
        other.add_examples(taught("owl", 3))
    failed = failure(lambda: running.add(example(seed=4)))
    assert failed.code.name == "RESOURCE_EXHAUSTED"
    assert 0 < int(failed.trailers["retry-after-ms"]) <= 60_000
    page = f"http://127.0.0.1:{running.server.metrics_port}/metrics"
    with urllib.request.urlopen(page, timeout=300) as answer:
        assert 'accrete_quota_refusals_total{limit="examples_per_minute"} 1.0' in answer.read().decode()


def test_more_at_once_than_ever_fits_is_sent_in_parts_by_the_sdk(world: World) -> None:
    running = world.server(teaching=TeachingConfig(pending_bytes=500))
    with client(running) as someone, pytest.raises(accrete.LimitExceeded, match="pending_bytes is 500"):
        someone.add_examples(taught("cat", *range(20)))
    stored = world.store.pending.total()
    assert stored.examples > 1
    assert stored.bytes <= 500
