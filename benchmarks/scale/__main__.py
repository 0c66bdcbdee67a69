"""How far it goes: what is busy first as load grows, by unit costs that were measured and by simulation.

With nothing set it takes the costs that are beside it and prints the tables of docs/scale.md. `--measure` measures the
costs anew on this machine, best with nothing else running (half an hour), then runs three nodes, and writes both.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.report import machine
from benchmarks.scale import costs as cost_table
from benchmarks.scale.costs import Costs
from benchmarks.scale.layout import LAYOUTS
from benchmarks.scale.measuring import measure
from benchmarks.scale.reckoning import loads
from benchmarks.scale.simulation import simulate
from benchmarks.scale.three_nodes import Run, compare

THREE_NODES = Path(__file__).with_name("three_nodes.json")
_GROWN = (1.0, 3.0, 10.0)


def main() -> None:
    """Measure or predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure costs and run three nodes; writes both files")
    parser.add_argument("--three-nodes", action="store_true", help="run three nodes only, with the costs as they are")
    parser.add_argument("--short", action="store_true", help="few rounds, 1,000 classes at most; writes nothing")
    parser.add_argument("--seconds", type=float, default=300.0, help="of simulated time for each layout")
    parsed = parser.parse_args()
    if parsed.measure:
        found = _measured(short=parsed.short)
        if parsed.short:
            print(json.dumps(found, indent=1))
            return
        _write(cost_table.FILE, found)
    costs = cost_table.load()
    if parsed.measure or parsed.three_nodes:
        facts = machine()
        rows = compare(costs, Run(seconds=20.0) if parsed.short else None)
        for row in rows:
            print("  ".join(f"{name}: {value}" for name, value in row.items()))
        if not parsed.short:
            _write(THREE_NODES, {"machine": facts, "date": time.strftime("%Y-%m-%d"), "rows": rows})
        if not parsed.measure:
            return
    print("\n".join([*_cost_table(), *_nodes_table(), *_load_tables(costs), *_waiting_table(costs, parsed.seconds)]))


def _cost_table() -> list[str]:
    """Return the unit costs as a table of Markdown, as everything here."""
    body = json.loads(cost_table.FILE.read_text("utf-8"))
    facts = body["machine"]
    lines = [
        f"Measured on {body['date']}, {facts['cores']} cores, load {facts['load_before']:.1f} before and "
        f"{facts['load_after']:.1f} after.",
        "",
        "| cost | median | rounds |",
        "|---|---|---|",
    ]
    for name, one in body["costs"].items():
        if isinstance(one["value"], dict):
            value = "; ".join(f"{int(size):,}: {cost:,.4g}" for size, cost in one["value"].items())
            spread = "; ".join(f"{low:,.3g} to {high:,.3g}" for low, high in one["spread"].values())
        else:
            value, spread = f"{one['value']:,.4g}", "{:,.3g} to {:,.3g}".format(*one["spread"])
        lines.append(f"| `{name}` | {value} | {spread} |")
    return lines


def _nodes_table() -> list[str]:
    if not THREE_NODES.exists():
        return []
    *rows, facts = json.loads(THREE_NODES.read_text("utf-8"))["rows"]
    lines = [
        "",
        f"Load {facts['load_before']:.0f} before and {facts['load_after']:.0f} after.",
        "",
        f"| three nodes | predicted, quiet | predicted, {facts['crowding']:.2g} times slower | seen | seen over that |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        over = row["seen"] / row["crowded"]
        lines.append(f"| {row['what']} | {row['quiet']:.3g} | {row['crowded']:.3g} | {row['seen']:.3g} | {over:.2f}x |")
    return lines


def _load_tables(costs: Costs) -> list[str]:
    lines = []
    for layout in LAYOUTS:
        grown = [{load.resource: load for load in loads(layout.grown(times), costs)} for times in _GROWN]
        head = " | ".join(f"{times:g}x" for times in _GROWN)
        lines += ["", f"| {layout.name} | {head} | at 1x |", "|---|" + "---|" * (len(_GROWN) + 1)]
        for resource, load in grown[0].items():
            shares = " | ".join(f"{one[resource].share:.2g}" for one in grown)
            lines.append(f"| {resource} | {shares} | {load.detail} |")
    return lines


def _waiting_table(costs: Costs, seconds: float) -> list[str]:
    lines = [
        "",
        "| simulated | fresh p50 / p99 | acknowledged p50 / p99 | versions/s; live | store; syncs | learner | bucket "
        "| left |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for layout in LAYOUTS:
        for at_peak in (False, True):
            one = simulate(layout, costs, seconds=seconds, at_peak=at_peak)
            lines.append(
                f"| {layout.name}, {'busiest hour' if at_peak else 'mean'} "
                f"| {one.fresh_p50:.3g} / {one.fresh_p99:.3g} s "
                f"| {1000 * one.ack_p50:.3g} / {1000 * one.ack_p99:.3g} ms "
                f"| {one.versions_per_s:.2g}; {one.live_per_s:.2g} | {one.store_share:.2g}; {one.sync_share:.2g} "
                f"| {one.learner_share:.2g} | {one.bucket_share:.2g} | {one.pending:,} of {one.arrived:,} |"
            )
    return lines


def _measured(*, short: bool) -> dict[str, Any]:
    facts, began = machine(), time.time()
    table = measure(short=short)
    facts |= {"load_after": os.getloadavg()[0], "minutes": round((time.time() - began) / 60, 1)}
    return {"machine": facts, "date": time.strftime("%Y-%m-%d"), "costs": table}


def _write(file: Path, body: dict[str, Any]) -> None:
    file.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
