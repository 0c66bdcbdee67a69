"""Teaching and the learner's lease while the store fails over to its replica."""

from __future__ import annotations

from pathlib import Path

import accrete
from accrete_learner_service.runtime.lease import LeaseKeeper
from accrete_storage.config import StoreConfig
from accrete_storage.errors import StoreUnavailable
from benchmarks.waiting import until
from tests.server.world import World, pixels
from tests.support.redis_pair import fail_over, primary_and_replica


def test_teaching_goes_on_at_the_new_primary_and_the_learner_keeps_its_lease(tmp_path: Path):
    with primary_and_replica(tmp_path) as (old, new, address):
        world = World(tmp_path / "data", StoreConfig(url=address.url, timeout_s=2))
        world.data_dir.mkdir()
        lease = LeaseKeeper(world.store, owner="me", ttl_s=60)
        try:
            running = world.server()
            assert lease.acquire()
            with accrete.Client(running.server.address, timeout=300) as client:
                assert client.add_examples([("cat", pixels(seed)) for seed in range(3)]).stored == 3
                fail_over(old, new, address)
                assert client.add_examples([("cat", pixels(seed)) for seed in range(6)]).stored == 3
                assert client.status().pending == 6
            until(lambda: _renewed(lease))
            assert lease.held
        finally:
            world.close()


def _renewed(lease: LeaseKeeper) -> bool:
    try:
        lease.renew()
    except StoreUnavailable:
        return False
    return True
