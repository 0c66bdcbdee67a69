"""What strikes came to, kept round by round."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from accrete_kit.atomic_file import write_text
from benchmarks.cluster.strikes import STRIKES
from benchmarks.report import machine


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one strike came to."""

    kind: str
    round: int
    what: str
    acknowledged: int
    """Examples while the load was on."""
    lost: int
    doubled: int
    skipped: int
    """Acknowledged, and neither learned nor pending."""
    otherwise: int
    """All else that did not fit: exemplars, versions, files."""
    predictions: int
    failed_predictions: int
    failed_teaching: int
    slowest_s: float
    """The prediction that waited longest."""
    whole_s: float
    """From the strike until all was whole."""
    lacks: str
    """What was missing to the end."""
    load: float
    """Of the machine, when it ended."""
    notes: list[str]
    """The first calls that failed, and what else did not fit."""

    @property
    def ok(self) -> bool:
        """Whether it came to what it must."""
        wrong = self.lost + self.doubled + self.skipped + self.otherwise
        return not (wrong or self.failed_predictions or self.failed_teaching or self.lacks)


class Results:
    """Rounds in a file."""

    def __init__(self, file: Path) -> None:
        """Read those that are there."""
        self._file = file
        names = {field.name for field in fields(Round)}
        kept = json.loads(file.read_text("utf-8"))["rounds"] if file.exists() else []
        self.rounds = [Round(**{name: value for name, value in one.items() if name in names}) for one in kept]

    def add(self, done: Round) -> None:
        """Keep a round, in place of an earlier one of the same kind and number."""
        self.rounds = [one for one in self.rounds if (one.kind, one.round) != (done.kind, done.round)] + [done]
        order = list(STRIKES)
        self.rounds.sort(key=lambda one: (order.index(one.kind), one.round))
        self._file.parent.mkdir(parents=True, exist_ok=True)
        body = {"machine": machine(), "rounds": [asdict(one) | {"ok": one.ok} for one in self.rounds]}
        write_text(self._file, json.dumps(body, indent=1) + "\n")

    def has(self, kind: str, number: int) -> bool:
        """Return whether a round is done."""
        return any((one.kind, one.round) == (kind, number) for one in self.rounds)

    def table(self) -> str:
        """Return it as Markdown."""
        lines = [
            "| what was struck | rounds | acknowledged | lost | doubled | predictions | failed | teaching failed "
            "| slowest answer | whole again after |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for kind in STRIKES:
            own = [one for one in self.rounds if one.kind == kind]
            if own:
                sums: Counter[str] = Counter()
                for one in own:
                    sums.update({name: value for name, value in asdict(one).items() if isinstance(value, int)})
                seconds = [one.whole_s for one in own]
                whole = f"{statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"
                lacking = sum(bool(one.lacks) for one in own)
                lines.append(
                    f"| {kind} | {len(own)} | {sums['acknowledged']} | {sums['lost']} | {sums['doubled']} "
                    f"| {sums['predictions']} | {sums['failed_predictions']} | {sums['failed_teaching']} "
                    f"| {max(one.slowest_s for one in own):.1f} s | {whole}{f', {lacking} never' if lacking else ''} |"
                )
        return "\n".join(lines)
