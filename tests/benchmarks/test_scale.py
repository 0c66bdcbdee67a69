"""The simulation of large layouts against what is known of queues, and the costs that it is fed."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import simpy

from benchmarks.scale import costs as cost_table
from benchmarks.scale.costs import BySize, Costs
from benchmarks.scale.layout import LAYOUTS, Layout
from benchmarks.scale.reckoning import days_until_full, learner_share, loads, memory_bytes, versions_per_s
from benchmarks.scale.simulation import StoreQueue, simulate

pytestmark = pytest.mark.unit

_VALUES = {
    field.name: {"100": 10_000.0, "1000": 100_000.0} if field.type == "BySize" else 100.0
    for field in dataclasses.fields(Costs)
} | {"sync_us": 1_000.0, "feature_us": 20_000.0, "step_events": 6.0, "follow_us": {"100": 500.0}}
COSTS = cost_table.of(_VALUES)
SMALL = Layout(name="small", servers=3, classes=100, examples_per_day=4 * 86_400, peak=1.0, batch=2)


def _waits(load: float, *, sync_s: float = 0.0, seconds: float = 0.01, count: int = 20_000) -> list[float]:
    """The seconds that commands of the same length wait for their turn, when they come at random times."""
    env, generator, waits = simpy.Environment(), np.random.default_rng(1993), []
    store = StoreQueue(env, sync_s)

    def one() -> Any:
        began = env.now
        yield store.do(seconds, writes=True)
        waits.append(env.now - began - seconds)

    def come() -> Any:
        for _ in range(count):
            yield env.timeout(generator.exponential(seconds / load))
            env.process(one())

    env.process(come())
    env.run()
    assert len(waits) == count
    return waits


@pytest.mark.parametrize("load", [0.3, 0.5, 0.7])
def test_commands_wait_as_long_as_in_an_m_d_1_queue(load):
    known = load * 0.01 / (2 * (1 - load))  # Pollaczek and Khinchine, for service of one length
    assert np.mean(_waits(load)) == pytest.approx(known, rel=0.1)


def test_what_waits_shares_a_sync_so_that_a_store_does_more_than_one_command_for_each():
    assert np.mean(_waits(0.001, sync_s=0.02, count=200)) == pytest.approx(0.02, rel=0.2)
    # Each alone would take 30 ms, and twice as many come; all the same none waits for long.
    assert np.mean(_waits(0.6, sync_s=0.02)) < 0.2


@pytest.mark.parametrize("layout", [SMALL, dataclasses.replace(SMALL, tenants=3), SMALL.grown(20)])
def test_every_example_that_was_acknowledged_is_learned_or_pending(layout):
    outcome = simulate(layout, COSTS, seconds=60, settle_s=10)
    assert outcome.arrived == outcome.learned + outcome.pending
    assert outcome.arrived == pytest.approx(layout.examples_per_day / 86_400 * 70, rel=0.3)


def test_what_is_within_its_means_is_learned_and_what_is_not_piles_up():
    assert learner_share(SMALL, COSTS) < 1
    assert simulate(SMALL, COSTS, seconds=60).pending < 40
    beyond = SMALL.grown(20)
    assert learner_share(beyond, COSTS) > 1
    longer, outcome = simulate(beyond, COSTS, seconds=120), simulate(beyond, COSTS, seconds=60)
    assert longer.pending > outcome.pending + 500
    assert outcome.learner_share > 0.9


def test_a_learner_that_is_full_makes_as_many_versions_as_was_reckoned():
    beyond = SMALL.grown(20)
    assert simulate(beyond, COSTS, seconds=100).versions_per_s == pytest.approx(versions_per_s(beyond, COSTS), rel=0.15)


def test_a_store_is_as_busy_in_the_simulation_as_was_reckoned():
    share = next(load.share for load in loads(SMALL, COSTS) if load.resource.startswith("the store's processor"))
    assert simulate(SMALL, COSTS, seconds=120).store_share == pytest.approx(share, rel=0.15)


def test_more_of_anything_is_no_less_busy_and_no_sooner():
    shares = [{load.resource: load.share for load in loads(SMALL.grown(times), COSTS)} for times in (1, 2, 3, 5)]
    for name in shares[0].keys() - {"a server's cores"}:
        assert shares[0][name] <= shares[-1][name] + 1e-9, name
    fresh = [
        simulate(dataclasses.replace(SMALL, classes=classes), COSTS, seconds=120).fresh_p50
        for classes in (100, 1000, 3000)
    ]
    assert fresh == sorted(fresh)


def test_a_store_of_its_own_for_each_tenant_divides_what_one_store_has():
    together = dataclasses.replace(LAYOUTS[2], tenants=100)
    apart = dataclasses.replace(together, own_stores=True)
    for name, size in memory_bytes(together, COSTS).items():
        assert memory_bytes(apart, COSTS)[name] == pytest.approx(size / 100)
    assert days_until_full(apart, COSTS) > 50 * days_until_full(together, COSTS)


def test_a_store_is_full_on_the_day_that_is_told():
    layout = LAYOUTS[0]
    day = days_until_full(layout, COSTS)
    kept = memory_bytes(dataclasses.replace(layout, days=day), COSTS)
    assert kept["features"] + kept["ids remembered"] == pytest.approx(layout.store_memory, rel=1e-6)


def test_the_costs_are_complete_and_say_where_they_are_from():
    body = json.loads(cost_table.FILE.read_text("utf-8"))
    cost_table.load()
    assert {"processor", "cores", "load_before", "load_after"} <= body["machine"].keys()
    for name, one in body["costs"].items():
        assert one["rounds"] >= 1, name
        spread = one["spread"] if isinstance(one["value"], dict) else {"": one["spread"]}
        values = one["value"] if isinstance(one["value"], dict) else {"": one["value"]}
        assert all(spread[classes][0] <= values[classes] <= spread[classes][1] for classes in values), name


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sync_us": None}, "missing or unknown: sync_us"),
        ({"colour": 1.0}, "missing or unknown: colour"),
        ({"sync_us": 0.0}, "sync_us: a positive number"),
        ({"sync_us": {"100": 1.0}}, "sync_us: one number"),
        ({"follow_us": 3.0}, "follow_us: by size"),
        ({"follow_us": {}}, "follow_us: a positive number"),
    ],
)
def test_costs_that_are_not_whole_are_refused_by_name(change, text):
    values = {name: value for name, value in (_VALUES | change).items() if value is not None}
    with pytest.raises(ValueError, match=text):
        cost_table.of(values)


def test_between_two_sizes_a_cost_is_on_a_straight_line():
    cost = BySize(at=((100, 1.0), (1_000, 10.0), (10_000, 1_000.0)))
    assert [cost(100), cost(550), cost(1_000), cost(5_500), cost(20_000)] == pytest.approx([1, 5.5, 10, 505, 2_100])
    assert cost(1) > 0
    assert BySize(at=((100, 10.0), (1_000, 9.0)))(10_000) == 9.0  # noise, and not that more classes cost less
