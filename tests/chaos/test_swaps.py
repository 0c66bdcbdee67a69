"""Swaps and candidates that cannot serve, under load: the benchmark's own bounds, on a short run."""

from __future__ import annotations

from pathlib import Path

from benchmarks import swaps


def test_swaps_and_broken_candidates_fail_no_prediction_and_mix_no_answer(tmp_path: Path) -> None:
    rows, load = swaps.run(tmp_path, {}, swaps=30, broken=len(swaps.BROKEN))
    assert load.failed == load.mixed == []
    assert len(load.answers) == 2, "both versions answered"
    assert [row.name for row in rows if row.ok is False] == []
