"""A discrete-event simulation of stores, learners, servers and a bucket: how long things wait for each other.

A store does what waits in turns, as Valkey does: one command after the other, then one sync for all that was written,
then the answers. A learner looks, computes features for a while, solves, commits. The servers of a tenant are
told, fetch the version at once, and take the newest that there is when they are done.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import simpy

from benchmarks.scale.costs import Costs
from benchmarks.scale.layout import EVERY_S, POLL_S, TOGETHER, Layout
from benchmarks.scale.reckoning import features_s, learner_share, step_s

_US = 1e-6
_LOOK_S = 0.01
"""The looks of all servers at the store are done in pieces this far apart."""
_PIECES = 50
"""In which a store tells the servers of a version."""

Steps = Generator[simpy.Event, Any, Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of it, without the time until things had settled. Shares are of one core, or of the whole."""

    seconds: float
    arrived: int
    """Examples that were acknowledged, from the beginning on, as the next two."""
    learned: int
    pending: int
    ack_p50: float
    """Seconds from a call to its acknowledgement."""
    ack_p99: float
    fresh_p50: float
    """Seconds from an acknowledgement to the version that all servers answer by; nan where none came to that."""
    fresh_p99: float
    versions_per_s: float
    live_per_s: float
    """Versions that servers took up; the others were too soon followed by another."""
    events_per_s: float
    """To each server."""
    store_share: float
    """Of the busiest store's core."""
    sync_share: float
    """Of the time, that it waits for its disk."""
    learner_share: float
    """Of the time, that the busiest learner is at a step."""
    bucket_bytes_s: float
    bucket_share: float


@dataclass(kw_only=True)
class _Command:
    seconds: float
    writes: bool
    done: simpy.Event


class StoreQueue:
    """One store. Its commands wait in a line, and those that write for a sync besides."""

    def __init__(self, env: simpy.Environment, sync_s: float) -> None:
        self._env = env
        self._sync_s = sync_s
        self._line: list[_Command] = []
        self._came = env.event()
        self.busy_s = 0.0
        self.synced_s = 0.0
        env.process(self._run())

    def do(self, seconds: float, *, writes: bool) -> simpy.Event:
        """Have a command of so many seconds of its core done; the event comes with the answer."""
        command = _Command(seconds=seconds, writes=writes, done=self._env.event())
        self._line.append(command)
        if not self._came.triggered:
            self._came.succeed()
        return command.done

    def _run(self) -> Steps:
        while True:
            if not self._line:
                self._came = self._env.event()
                yield self._came
            turn, self._line = self._line, []
            syncs = self._sync_s > 0 and any(command.writes for command in turn)
            for command in turn:
                yield self._env.timeout(command.seconds)
                self.busy_s += command.seconds
                if not syncs:
                    command.done.succeed()
            if syncs:
                yield self._env.timeout(self._sync_s)
                self.synced_s += self._sync_s
                for command in turn:
                    command.done.succeed()


@dataclass(kw_only=True)
class _Tally:
    """What is counted, from the time on that `clear` was called, but for the first three."""

    arrived: int = 0
    learned: int = 0
    acks: list[float] = field(default_factory=list)
    fresh: list[float] = field(default_factory=list)
    versions: int = 0
    live: int = 0
    fetched: float = 0.0
    learner_s: list[float] = field(default_factory=list)

    def clear(self) -> None:
        self.acks, self.fresh, self.versions, self.live, self.fetched = [], [], 0, 0, 0.0
        self.learner_s = [0.0 for _ in self.learner_s]


class _Tenant:
    """A tenant's callers, learner and servers."""

    def __init__(
        self,
        env: simpy.Environment,
        layout: Layout,
        costs: Costs,
        store: StoreQueue,
        bucket: simpy.Resource,
        tally: _Tally,
        rate: float,
        generator: np.random.Generator,
    ) -> None:
        self._env, self._layout, self._costs, self._store, self._bucket = env, layout, costs, store, bucket
        self._tally, self._rate, self._generator = tally, rate, generator
        self._number = len(tally.learner_s)
        tally.learner_s.append(0.0)
        self.pending: deque[float] = deque()
        """When each was acknowledged."""
        self.in_step: list[float] = []
        """Likewise, of those that a step has taken."""
        self._committed: list[float] = []
        """Likewise, of examples in versions that no server has yet."""
        self._news = env.event()
        env.process(self._calls())
        env.process(self._learner())
        env.process(self._servers())

    def _calls(self) -> Steps:
        batch = self._layout.batch
        while True:
            yield self._env.timeout(self._generator.exponential(batch / self._rate))
            self._env.process(self._call())

    def _call(self) -> Steps:
        costs, batch, began = self._costs, self._layout.batch, self._env.now
        yield self._env.timeout((costs.server_add_call_us + batch * costs.server_add_example_us) * _US)
        yield self._store.do((costs.add_call_us + batch * costs.add_example_us) * _US, writes=True)
        self._tally.acks.append(self._env.now - began)
        self._tally.arrived += batch
        self.pending.extend([self._env.now] * batch)

    def _learner(self) -> Steps:
        costs, classes, tally = self._costs, self._layout.classes, self._tally
        began = -math.inf
        while True:
            yield self._env.timeout(POLL_S)
            if not self.pending or self._env.now - began < EVERY_S:
                continue
            began = self._env.now
            taken = self.in_step
            while self.pending and (not taken or self._env.now - began < features_s(self._layout, costs)):
                some = [self.pending.popleft() for _ in range(min(TOGETHER, len(self.pending)))]
                taken += some
                yield self._env.timeout(len(some) * costs.feature_us * _US)
            store_us = costs.step_store_us(classes) + 2 * len(taken) * costs.add_example_us
            yield self._env.timeout(step_s(self._layout, costs))
            yield self._store.do(store_us * _US, writes=True)
            tally.learned += len(taken)
            tally.versions += 1
            tally.learner_s[self._number] += self._env.now - began
            self._committed += taken
            self.in_step = []
            if not self._news.triggered:
                self._news.succeed()

    def _servers(self) -> Steps:
        costs, layout = self._costs, self._layout
        servers, classes = layout.servers_each, layout.classes
        size = costs.version_bytes(classes)
        while True:
            yield self._news
            self._news = self._env.event()
            brought, self._committed = self._committed, []
            left = servers
            while left:
                some = min(left, math.ceil(servers / _PIECES))
                left -= some
                yield self._store.do(some * costs.swap_store_us(classes) * _US, writes=False)
            with self._bucket.request() as turn:
                yield turn
                yield self._env.timeout(servers * size / layout.bucket_bytes_s)
            # A server's own line is as fast as that for all together, unless they are few.
            own = size / layout.server_bytes_s - servers * size / layout.bucket_bytes_s
            yield self._env.timeout(max(own, 0.0) + costs.swap_server_us(classes) * _US)
            self._tally.fetched += servers * size
            self._tally.live += 1
            self._tally.fresh += [self._env.now - acknowledged for acknowledged in brought]


def simulate(
    layout: Layout, costs: Costs, *, seconds: float = 600.0, settle_s: float = 60.0, at_peak: bool = True, seed: int = 1
) -> Outcome:
    """Return what comes of a layout at a steady rate.

    Args:
        layout: what is there and what comes in. Of tenants with stores of their own, one is simulated.
        costs: what it costs.
        seconds: how long, after it has settled.
        settle_s: what is not counted at the beginning.
        at_peak: whether at the rate of the busiest hour; else at the day's mean.
        seed: of the times at which calls come.
    """
    if layout.own_stores:  # tenants share nothing but the bucket: one of them, with its part of that
        layout = replace(
            layout,
            tenants=1,
            own_stores=False,
            servers=layout.servers_each,
            examples_per_day=layout.examples_per_day / layout.tenants,
            bucket_bytes_s=layout.bucket_bytes_s / layout.tenants,
        )
    env, tally = simpy.Environment(), _Tally()
    generator = np.random.default_rng(seed)
    stores = [StoreQueue(env, costs.sync_us * _US) for _ in range(layout.stores)]
    bucket = simpy.Resource(env, capacity=1)
    rate = layout.peak_per_s if at_peak else layout.mean_per_s
    tenants = [
        _Tenant(env, layout, costs, stores[number % len(stores)], bucket, tally, rate, generator)
        for number in range(layout.tenants)
    ]
    on_each = layout.tenants // layout.stores * layout.servers_each
    for store in stores:
        env.process(_looks(env, store, on_each, layout, costs))
    env.run(settle_s)
    before = [(store.busy_s, store.synced_s) for store in stores]
    tally.clear()
    env.run(settle_s + seconds)
    shares = [
        (store.busy_s - busy, store.synced_s - synced) for store, (busy, synced) in zip(stores, before, strict=True)
    ]
    versions = tally.versions / seconds
    return Outcome(
        seconds=seconds,
        arrived=tally.arrived,
        learned=tally.learned,
        pending=sum(len(tenant.pending) + len(tenant.in_step) for tenant in tenants),
        ack_p50=_quantile(tally.acks, 0.5),
        ack_p99=_quantile(tally.acks, 0.99),
        fresh_p50=_quantile(tally.fresh, 0.5),
        fresh_p99=_quantile(tally.fresh, 0.99),
        versions_per_s=versions,
        live_per_s=tally.live / seconds,
        events_per_s=versions / len(tenants) * costs.step_events,
        store_share=max(busy for busy, _ in shares) / seconds,
        sync_share=max(synced for _, synced in shares) / seconds,
        learner_share=min(max(tally.learner_s) / seconds, 1.0),
        bucket_bytes_s=tally.fetched / seconds,
        bucket_share=tally.fetched / seconds / layout.bucket_bytes_s,
    )


def _looks(env: simpy.Environment, store: StoreQueue, servers: int, layout: Layout, costs: Costs) -> Steps:
    """The looks of servers and learners at the store, and that servers tell of themselves."""
    tenants = layout.tenants / layout.stores
    learners_us = tenants * max(0.0, 1 - learner_share(layout, costs)) * costs.look_us(layout.classes)
    look_s = (servers * costs.follow_us(layout.classes) + learners_us + costs.base_us) * _US * _LOOK_S
    members_s = tenants * layout.told_per_s * costs.member_us(layout.servers_each) * _US * _LOOK_S
    while True:
        yield env.timeout(_LOOK_S)
        yield store.do(look_s + members_s, writes=False)


def _quantile(values: list[float], share: float) -> float:
    return float(np.quantile(values, share)) if values else math.nan
