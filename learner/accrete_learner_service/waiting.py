"""What pending examples wait for before a step starts, as a server can tell it from the store."""

from __future__ import annotations

import time
from dataclasses import replace

from accrete_learner_service.config import TriggerConfig
from accrete_learner_service.labels import known_labels
from accrete_learner_service.trigger import waits_for
from accrete_storage.store import Store


def pending_waits_for(store: Store, config: TriggerConfig, *, learns_all: bool) -> list[str]:
    """Return it as sentences for people; none where nothing waits.

    Args:
        store: to read from.
        config: when a step starts.
        learns_all: what is set aside to measure by is learned as well, as closed forms do.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    counts = store.pending.counts()
    if not counts:
        return []
    quarantine = store.quarantine.entries()
    unapproved = {label for label, entry in quarantine.items() if entry.awaiting}
    pending = {label: count for label, count in counts.items() if label not in unapproved}
    if learns_all:
        pending = {label: replace(count, holdout=0) for label, count in pending.items()}
    return waits_for(
        pending,
        known=known_labels(store.registry.latest_ready(), store.registry.forgotten()),
        quarantined={label: entry.count for label, entry in quarantine.items()},
        config=config,
        now_ms=int(time.time() * 1000),
    )
