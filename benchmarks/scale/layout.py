"""What is to be carried, and by how much of what. All that is not measured is here, with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace

EVERY_S = 1.0
"""Between the beginnings of two steps (accrete_learner_service.loop.learner_loop.ANALYTIC_EVERY_S)."""
FEATURES_S, MOST_FEATURES_S = 1.0, 30.0
"""Of computing features, after which a step goes on with those that it has; as long as the rest of a step, within these
(accrete_learner_service.analytic.learning.features_s)."""
TOGETHER = 8
"""Photographs whose features are computed at once (analytic.arrivals.BATCH)."""
POLL_S = 0.1
"""Between two looks of the learner (preset `photographs`)."""
TELL_S, TOLD_A_SECOND = 2.0, 50
"""Between two times that a member tells of itself, and how often a store is told in a second at most
(accrete_server.operate.membership)."""
DEDUP_DAYS = 30
"""For which ids are remembered (`store.dedup_days`)."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Servers, learners and stores, and what comes in. A tenant has a prefix, a learner and servers of its own."""

    name: str
    servers: int
    """Of all tenants together, equally many each."""
    tenants: int = 1
    classes: int = 100
    """Of each tenant."""
    examples_per_day: float = 100_000
    """Of all tenants together."""
    peak: float = 3.0
    """Times the day's mean that come in the busiest hour; assumed."""
    batch: int = 8
    """Examples in a call; assumed."""
    predictions_per_s: float = 20.0
    """Of each server; assumed."""
    own_stores: bool = False
    """Whether each tenant has a store to itself, and not only a prefix."""
    new_classes_per_day: float = 0.01
    """Part of the classes; assumed."""
    days: float = 365.0
    """For which it has run, all its examples learned and their features kept; assumed."""
    server_cores: int = 4
    """Assumed."""
    store_memory: float = 256e9
    """Bytes of each store's machine; assumed."""
    server_bytes_s: float = 1.25e9
    """In and out of a machine: 10 Gbit/s; assumed."""
    bucket_bytes_s: float = 12.5e9
    """Out of the bucket to all servers: 100 Gbit/s, which AWS documents for one machine; of the whole no limit is
    published."""
    bucket_gets_s: float = 5_500.0
    """Of one prefix: published for Amazon S3 ("Best practices design patterns: optimizing Amazon S3 performance")."""

    @property
    def servers_each(self) -> int:
        """Servers of one tenant."""
        return max(1, self.servers // self.tenants)

    @property
    def told_per_s(self) -> float:
        """How often a tenant's members tell of themselves in a second, all together."""
        return min(self.servers_each / TELL_S, TOLD_A_SECOND)

    @property
    def stores(self) -> int:
        """Stores of all tenants."""
        return self.tenants if self.own_stores else 1

    @property
    def mean_per_s(self) -> float:
        """Examples of one tenant, over the day."""
        return self.examples_per_day / self.tenants / 86_400

    @property
    def peak_per_s(self) -> float:
        """Examples of one tenant in the busiest hour."""
        return self.peak * self.mean_per_s

    def grown(self, times: float) -> Layout:
        """Return it with so many times the examples and servers, and the same classes and tenants."""
        name = f"{self.name}, {times:g}x"
        servers = max(self.tenants, round(self.servers * times))
        return replace(self, name=name, servers=servers, examples_per_day=self.examples_per_day * times)


LARGE = {"servers": 1_000, "examples_per_day": 10e6}
LAYOUTS = (
    Layout(name="mid-size", servers=10, classes=1_000, examples_per_day=100_000),
    Layout(name="large, one model", classes=10_000, **LARGE),  # type: ignore[arg-type]
    Layout(name="large, 100 prefixes on one store", tenants=100, classes=100, **LARGE),  # type: ignore[arg-type]
    Layout(name="large, 100 stores", tenants=100, classes=100, own_stores=True, **LARGE),  # type: ignore[arg-type]
)
