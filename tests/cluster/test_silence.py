"""Which actors the controller takes for lost, and which nodes it looks at again."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

pytest.importorskip("ray")

from accrete_cluster import controller
from accrete_cluster.controller import _Known, _Node
from accrete_cluster.node_check import NodeCheck


def test_an_actor_that_does_not_answer_is_lost_unless_it_may_be_this_node_that_is_cut_off():
    known = _Known(handle=None, kind="server", generation="", node="", answered=True)
    assert not known.silent, "it was not asked"
    known.waits_since = time.monotonic() - controller._SILENT_S - 1
    assert known.silent
    known.excuse()
    assert not known.silent
    known.waits_since = time.monotonic() - controller._SILENT_S - 1
    known.answered = False
    assert not known.silent, "its worker may still be starting"


def test_a_node_that_is_unfit_is_looked_at_again_soon_and_less_often_the_longer_it_is(monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr(controller, "time", SimpleNamespace(monotonic=lambda: now))
    node = _Node(host="", name="", cpus=1.0)
    assert node.due
    waits = []
    for _ in range(9):
        node.take(NodeCheck(host="", problems=["it has no room"]))
        began = now
        while not node.due:
            now += 0.5
        waits.append(now - began)
    assert waits == sorted(waits)
    assert waits[0] < 3 < 50 < waits[-1] < 62
    node.take(NodeCheck(host=""))
    now += 1000
    assert node.fit
    assert not node.due
