"""How busy each resource is in the busiest hour: what is asked of it over what it can do.

Nothing waits here; `simulation` says what waiting adds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.scale.costs import Costs
from benchmarks.scale.layout import DEDUP_DAYS, EVERY_S, FEATURES_S, MOST_FEATURES_S, POLL_S, TOGETHER, Layout

_US = 1e-6


@dataclass(frozen=True, kw_only=True)
class Load:
    """One resource."""

    resource: str
    share: float
    """Of what it can do; above 1 it has ended."""
    detail: str
    """What it is made of, for people."""


SYNCS_PER_STEP = 8
"""Turns of the store in which a step writes, counted in the code: phases, what is staged, commit, what is retired."""


def step_s(layout: Layout, costs: Costs) -> float:
    """Return the seconds of a step, its features aside: it computes on one core, and waits for the store's syncs."""
    return (costs.step_us(layout.classes) + SYNCS_PER_STEP * costs.sync_us) * _US


def versions_per_s(layout: Layout, costs: Costs) -> float:
    """Return how many versions a tenant's learner makes in a second of the busiest hour."""
    rate, feature_s = layout.peak_per_s, costs.feature_us * _US
    fixed_s, longest = POLL_S + step_s(layout, costs), _full_step_s(layout, costs)
    # A step takes what came while the one before it ran, until its time for features is over.
    period = min(fixed_s / (1 - rate * feature_s), longest) if rate * feature_s < 1 else longest
    return 1 / max(EVERY_S + POLL_S / 2, period, layout.batch / rate)


def learner_share(layout: Layout, costs: Costs) -> float:
    """Return what comes to a learner over what it can learn: features for a while, then the rest of a step."""
    return layout.peak_per_s * max(EVERY_S, _full_step_s(layout, costs)) / _most_of_a_step(layout, costs)


def features_s(layout: Layout, costs: Costs) -> float:
    """Return how long a step may compute features."""
    return min(max(FEATURES_S, step_s(layout, costs)), MOST_FEATURES_S)


def _most_of_a_step(layout: Layout, costs: Costs) -> int:
    """Return how many examples a step takes where more wait than it can."""
    return TOGETHER * math.ceil(features_s(layout, costs) / (TOGETHER * costs.feature_us * _US))


def _full_step_s(layout: Layout, costs: Costs) -> float:
    """Return the seconds from one step to the next where more wait than it takes."""
    return _most_of_a_step(layout, costs) * costs.feature_us * _US + step_s(layout, costs) + POLL_S


def store_us_per_s(layout: Layout, costs: Costs) -> dict[str, float]:
    """Return a store's processor time in a second of the busiest hour, by what it is for."""
    tenants = layout.tenants / layout.stores
    rate, servers, versions = layout.peak_per_s, layout.servers_each, versions_per_s(layout, costs)
    classes = layout.classes
    return {
        "examples added": tenants * rate * (costs.add_call_us / layout.batch + costs.add_example_us),
        "examples learned": tenants * rate * 2 * costs.add_example_us,
        "the store itself": costs.base_us,
        "steps": tenants * versions * costs.step_store_us(classes),
        "servers told of versions": tenants * servers * versions * costs.swap_store_us(classes),
        "servers that look": tenants * servers * costs.follow_us(classes),
        "the learner's looks": tenants * max(0.0, 1 - learner_share(layout, costs)) * costs.look_us(classes),
        "members": tenants * layout.told_per_s * costs.member_us(servers),
    }


def memory_bytes(layout: Layout, costs: Costs) -> dict[str, float]:
    """Return what a store has in memory, by what it is for."""
    a_day = layout.examples_per_day / layout.stores
    tenants, records = layout.tenants / layout.stores, max(10, min(100, 10_000 / layout.classes))
    return {
        "features": a_day * layout.days * costs.feature_bytes,
        "ids remembered": a_day * min(layout.days, DEDUP_DAYS) * costs.seen_bytes,
        "exemplars": tenants * 5_000 * costs.pending_bytes,
        "records of versions": tenants * records * costs.record_bytes(layout.classes),
    }


def days_until_full(layout: Layout, costs: Costs) -> float:
    """Return after how many days a store's memory ends."""
    a_day = layout.examples_per_day / layout.stores
    ids_bytes = costs.seen_bytes * DEDUP_DAYS
    early = layout.store_memory / (a_day * (costs.feature_bytes + costs.seen_bytes))
    return early if early < DEDUP_DAYS else (layout.store_memory / a_day - ids_bytes) / costs.feature_bytes


def loads(layout: Layout, costs: Costs) -> list[Load]:
    """Return how busy each resource is, the busiest first."""
    rate, classes, each = layout.peak_per_s, layout.classes, layout.servers_each
    tenants = layout.tenants / layout.stores
    versions = versions_per_s(layout, costs)
    size, files = costs.version_bytes(classes), costs.version_files(classes)
    store, memory = store_us_per_s(layout, costs), memory_bytes(layout, costs)
    store_bytes = tenants * each * (
        costs.follow_bytes(classes) + versions * costs.swap_store_bytes(classes)
    ) + tenants * (versions * costs.step_store_bytes(classes) + layout.told_per_s * costs.member_bytes(each))
    writes = tenants * (rate / layout.batch + layout.told_per_s + versions * SYNCS_PER_STEP)
    served = (
        layout.predictions_per_s * costs.predict_us
        + rate / each * (costs.server_add_call_us / layout.batch + costs.server_add_example_us)
        + versions * costs.swap_server_us(classes)
    )
    full = days_until_full(layout, costs)
    found = [
        Load(
            resource="the learner's turn (features, solving, judging, committing)",
            share=learner_share(layout, costs),
            detail=f"{rate:.3g} examples/s come to a learner, {rate / learner_share(layout, costs):.3g}/s is its most",
        ),
        Load(
            resource="of that, the solving and judging of the head (gate)",
            share=versions * costs.solve_us(classes) * _US,
            detail=f"{costs.solve_us(classes) * _US:.3g} s a step, {versions:.3g} steps/s",
        ),
        Load(
            resource="bytes out of the bucket",
            share=layout.tenants * versions * each * size / layout.bucket_bytes_s,
            detail=f"{size / 1e6:.3g} MB a version, {layout.tenants * versions * each:.3g} fetched/s",
        ),
        Load(
            resource="bytes into a server",
            share=versions * size / layout.server_bytes_s,
            detail=f"{versions * size / 1e6:.3g} MB/s",
        ),
        Load(
            resource="GETs of the bucket, one prefix",
            share=versions * each * files / layout.bucket_gets_s,
            detail=f"{versions * each * files:.3g}/s",
        ),
        Load(
            resource="the store's processor (one core)",
            share=sum(store.values()) * _US,
            detail=", ".join(
                f"{name} {value * _US:.2g}" for name, value in sorted(store.items(), key=lambda one: -one[1])[:3]
            ),
        ),
        Load(
            resource="of that, events and versions to servers",
            share=store["servers told of versions"] * _US,
            detail=f"{each:,} servers a tenant, {versions:.3g} versions/s",
        ),
        Load(
            resource="of that, servers that look for news",
            share=store["servers that look"] * _US,
            detail=f"{tenants * each:,.0f} servers on a store",
        ),
        Load(
            resource="of that, members (ListServers)",
            share=store["members"] * _US,
            detail=f"told {tenants * layout.told_per_s:.3g} times a second",
        ),
        Load(
            resource="bytes out of the store",
            share=store_bytes / layout.server_bytes_s,
            detail=f"{store_bytes / 1e6:.3g} MB/s",
        ),
        Load(
            resource="the store's syncs, each write alone",
            share=writes * costs.sync_us * _US,
            detail=f"{writes:.3g} writes/s; those that wait share one",
        ),
        Load(
            resource="the store's memory",
            share=sum(memory.values()) / layout.store_memory,
            detail=f"after {layout.days:g} days "
            + ", ".join(f"{name} {value / 1e9:.3g} GB" for name, value in memory.items() if value > 1e8)
            + f"; full after {full:.3g} days",
        ),
        Load(
            resource="a server's cores",
            share=served * _US / layout.server_cores,
            detail=f"predictions {layout.predictions_per_s * costs.predict_us * _US:.2g}, "
            f"versions {versions * costs.swap_server_us(classes) * _US:.2g} cores",
        ),
        Load(
            resource="prototypes of new classes",
            share=layout.peak * layout.new_classes_per_day * classes / 86_400
            * (costs.prototype_us + 20 * costs.feature_us) * _US,
            detail=f"{layout.new_classes_per_day * classes:.3g} new classes a day and tenant",
        ),
    ]  # fmt: skip
    return sorted(found, key=lambda load: -load.share)
