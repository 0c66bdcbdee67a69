"""Which cluster has a prefix, and which of its controllers may still speak for it."""

from __future__ import annotations

import pytest

from accrete_storage.errors import Fenced
from accrete_storage.store import Store

pytestmark = pytest.mark.integration


def test_a_prefix_is_one_clusters_and_its_newest_controllers(store: Store):
    first = store.clusters.begin()
    assert store.clusters.claim("mine", "here", 60, first) is None
    second = store.clusters.begin()
    assert (store.clusters.is_over(first), store.clusters.is_over(second)) == (True, False)
    with pytest.raises(Fenced, match=f"epoch {first} is over: another controller runs the cluster"):
        store.clusters.claim("mine", "from where it is cut off", 60, first)
    assert store.clusters.claim("another", "elsewhere", 60) == "here", "what is over has changed nothing"
    assert store.clusters.claim("mine", "there", 60, second) is None
    assert store.clusters.claim("another", "elsewhere", 60, second) == "there"
