"""Faults of a cluster on real Ray nodes, a real store and a real bucket, under a steady load, held against a ledger.

Each machine is made of the kernel's namespaces, so this takes root on Linux. Results are kept round by round: called
again, it goes on where it was.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import traceback
from dataclasses import asdict
from pathlib import Path

from accrete import AccreteError
from benchmarks.cluster.machines import can_be_made
from benchmarks.cluster.place import place
from benchmarks.cluster.rounds import Results
from benchmarks.cluster.run import Run
from benchmarks.cluster.strikes import POINTS, RANKS, STRIKES
from benchmarks.report import arguments

RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    """Run the benchmark. The exit status is 1 when a round did not come to what it must."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", nargs="+", choices=list(STRIKES), metavar="KIND", help=f"of {', '.join(STRIKES)}")
    parser.add_argument("--rounds", type=int, default=3, help="of each kind; at least all moments of a commit")
    parser.add_argument("--seed", type=int, default=1, help="of what is struck and taught")
    parser.add_argument("--away", type=float, default=20.0, metavar="SECONDS", help="how long what comes back is away")
    parser.add_argument("--again", action="store_true", help="also what is in the file")
    parsed = parser.parse_args()
    if not can_be_made():
        parser.error(
            "machines are made of the kernel's namespaces: that takes root on Linux, with ip, unshare, nsenter"
        )
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # what was started is ended
    results = Results(parsed.json or RESULTS)
    rounds = 1 if parsed.short else parsed.rounds
    wanted = [
        (kind, number)
        for kind in parsed.only or STRIKES
        for number in range(
            rounds if kind != "learner's node in a commit" or parsed.short else max(rounds, len(POINTS))
        )
        if parsed.again or not results.has(kind, number)
    ]
    while wanted:
        with tempfile.TemporaryDirectory(prefix="accrete-cluster-") as name:
            _strike_all(Path(name), wanted, results, seed=parsed.seed, away_s=5.0 if parsed.short else parsed.away)
    print(results.table())
    raise SystemExit(not all(one.ok for one in results.rounds))


def _strike_all(folder: Path, wanted: list[tuple[str, int]], results: Results, *, seed: int, away_s: float) -> None:
    """Take from `wanted` what is done. It ends early where a cluster does not become whole again."""
    ranks = RANKS.get(wanted[0][0], 1)
    with place(folder, ranks=ranks) as where:
        run = Run(where, seed, folder)
        while wanted and RANKS.get(wanted[0][0], 1) == ranks:
            kind, number = wanted.pop(0)
            print(f"{kind}, {number + 1}:", end=" ", flush=True)
            try:
                done = run.strike(kind, number, away_s)
            except (TimeoutError, RuntimeError, AccreteError):
                print(where.log())
                traceback.print_exc()
                raise
            results.add(done)
            verdict = "ok" if done.ok else f"NOT OK {asdict(done)}"
            print(f"{done.what}: whole after {done.whole_s:.1f} s, {verdict}", flush=True)
            if done.lacks:
                return


if __name__ == "__main__":
    main()
