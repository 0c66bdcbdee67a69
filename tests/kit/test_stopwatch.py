"""Stages add up, also those that fail."""

import time

import pytest

from accrete_kit.stopwatch import Stopwatch


def test_a_stage_adds_up_over_its_blocks() -> None:
    watch = Stopwatch()
    for _ in range(2):
        with watch.stage("sleep"):
            time.sleep(0.02)
    with watch.stage("nothing"):
        pass
    assert watch.seconds["nothing"] < 0.02 <= 0.04 <= watch.seconds["sleep"] <= watch.total


def test_a_stage_that_raises_is_timed() -> None:
    watch = Stopwatch()
    with pytest.raises(KeyError), watch.stage("failing"):
        raise KeyError
    assert list(watch.seconds) == ["failing"]
