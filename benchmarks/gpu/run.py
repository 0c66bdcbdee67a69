"""Run the kit's parts on this machine, in order of worth, each within its own minutes.

Needs nothing but the standard library itself: it sets the machine up first, and runs each part as a process, so that
neither a missing package, a crash nor a hang of one ends the others. The same command goes on where it was: parts and
cells that were finished are not run again.

    python3 -m benchmarks.gpu.run --call 1 --carried .gpu/1 --minutes 9.3 --out $OUT
    python3 -m benchmarks.gpu.run --tiny --device cpu --out FOLDER      # the rehearsal
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu import record, setup

ROOT = Path(__file__).resolve().parents[2]
HEARTBEAT_S = 4.0
GRACE_S = 3.0
"""Between a part's end and its being killed."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the kit: a module `benchmarks.gpu.parts.NAME`."""

    name: str
    minutes: float
    """At most, in one call."""
    least_s: float = 20.0
    """With less left of the call it is not begun."""


PARTS = (
    Part(name="tests", minutes=2.0),
    Part(name="serving", minutes=4.0),
    Part(name="swaps", minutes=1.0),
    Part(name="training", minutes=3.0),
    Part(name="contention", minutes=2.5, least_s=45.0),
    Part(name="protocols", minutes=60.0, least_s=60.0),
    Part(name="onnxruntime_cuda", minutes=2.0),
)
"""In order of worth; the protocols take what is left."""

TINY_S = 240.0
"""Of each part in the rehearsal, which takes a few seconds of it where nothing else computes."""


def main() -> int:
    """Return 0, or 2 when the machine cannot be used; what the parts came to is in the JSON."""
    arguments = _parser().parse_args()
    return Run(arguments).run()


class Run:
    """One call."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._began = time.monotonic()
        self._until = self._began + 60 * arguments.minutes
        self._work: Path = arguments.work or (setup.WORK if arguments.device == "cuda" else arguments.out / "work")
        self._out: Path = arguments.out
        self._records = self._work / "records"
        self._call: dict[str, Any] = {
            "number": arguments.call,
            "began": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
            "minutes": arguments.minutes,
            "device": arguments.device,
            "tiny": arguments.tiny,
            "parts": {},
        }
        self._earlier: list[dict[str, Any]] = []

    def run(self) -> int:
        """Set up, check, and run the parts until the time ends."""
        self._out.mkdir(parents=True, exist_ok=True)
        self._records.mkdir(parents=True, exist_ok=True)
        self._recall()
        self._say(f"call {self._arguments.call}: {60 * self._arguments.minutes:.0f} s, work in {self._work}")
        try:
            environment = self._set_up()
            parts = [part for part in PARTS if part.name in (self._arguments.parts or part.name)]
            for part in sorted(parts, key=self._has_begun):
                self._part(part, environment)
        except setup.UnusableError as error:
            self._call["unusable"] = str(error)
            self._say(f"this machine cannot be used: {error}")
            return 2
        finally:
            self._call["seconds"] = round(time.monotonic() - self._began, 1)
            self._keep()
            self._say(f"ended after {self._call['seconds']} s")
        return 0

    @property
    def _left_s(self) -> float:
        left: float = self._until - time.monotonic()
        return left

    def _has_begun(self, part: Part) -> bool:
        """What was never begun comes before what ended unfinished; the protocols always stay where they are."""
        before_protocols = part.name not in ("protocols", "onnxruntime_cuda")
        return before_protocols and record.read(self._record(part))["state"] != "not begun" and not self._is_done(part)

    def _recall(self) -> None:
        """Take over what an earlier call has found, from this machine or from the file that was carried along."""
        for file in (self._work / "gpu.json", self._arguments.before):
            if file is None or not file.exists():
                continue
            before = json.loads(file.read_text(encoding="utf-8"))
            self._earlier = before["calls"]
            for name, part in before["parts"].items():
                target = self._records / f"{name}.jsonl"
                if not target.exists():
                    record.restore(part, target)
            return

    def _set_up(self) -> dict[str, str]:
        arguments = self._arguments
        started = time.monotonic()
        notes = setup.prepare(self._work, arguments.carried)
        environment = setup.environment(self._work, arguments.device)
        checked = setup.check(self._work, environment, arguments.device, tiny=arguments.tiny)
        self._call |= {"setup": notes, "check": checked, "setup_s": round(time.monotonic() - started, 1)}
        self._keep()
        for note in notes:
            self._say(note)
        self._say(f"check: {json.dumps(checked)}")
        if not checked.get("device_ok"):
            raise setup.UnusableError(checked.get("reason", "the device did not answer"))
        return environment

    def _part(self, part: Part, environment: dict[str, str]) -> None:
        state: dict[str, Any] = {}
        self._call["parts"][part.name] = state
        if self._is_done(part):
            self._finish(part, state, "done before")
            return
        own = TINY_S if self._arguments.tiny else 60 * part.minutes
        seconds = min(own, self._left_s - 2 * GRACE_S)
        least = 5.0 if self._arguments.tiny else part.least_s
        if seconds < least:
            self._finish(part, state, f"not begun: {self._left_s:.0f} s were left")
            return
        self._say(f"{part.name}: begins, {seconds:.0f} s at most")
        state |= self._watch(part, seconds, environment)
        self._finish(part, state, state["ended"])

    def _watch(self, part: Part, seconds: float, environment: dict[str, str]) -> dict[str, Any]:
        """Run a part's process to its end or the end of its time, with a line of progress every few seconds."""
        arguments = self._arguments
        # A kit that is killed leaves no part that goes on. Named, for nothing of ours can be imported here.
        command = [sys.executable, "-m", "accrete_kit.parent_death", str(os.getpid())]
        command += [sys.executable, "-m", "benchmarks.gpu.part", part.name, "--record", str(self._record(part))]
        command += ["--work", str(self._work), "--device", arguments.device, "--seconds", f"{seconds:.1f}"]
        command += [f"--{flag}" for flag in ("tiny", "again") if getattr(arguments, flag)]
        log = self._work / f"{part.name}.log"
        started = time.monotonic()
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, cwd=ROOT, env=environment, start_new_session=True
            )
        try:
            told, ended = started, ""
            while process.poll() is None:
                taken = time.monotonic() - started
                if taken > seconds + GRACE_S:
                    ended = f"stopped after {taken:.0f} s"
                    break
                if time.monotonic() - told >= HEARTBEAT_S:
                    told = time.monotonic()
                    self._say(f"{part.name}: {taken:.0f} s of {seconds:.0f}: {_last_line(log)}")
                    self._keep()
                time.sleep(0.1)
        finally:
            _stop(process)
        status = process.returncode
        ended = ended or ("came to its end" if status == 0 else f"its process ended with {_meaning(status)}")
        return {"ended": ended, "seconds": round(time.monotonic() - started, 1), "log": _tail(log, 4000)}

    def _finish(self, part: Part, state: dict[str, Any], how: str) -> None:
        state["ended"] = how
        self._say(f"{part.name}: {how}")
        self._keep()

    def _is_done(self, part: Part) -> bool:
        """Whether each of its cells has come to an end, so that another call has nothing to add."""
        found = record.read(self._record(part))
        settled = ("done",) if self._arguments.again else record.SETTLED
        return found["state"] == "ended" and all(cell["state"] in settled for cell in found["cells"].values())

    def _record(self, part: Part) -> Path:
        return self._records / f"{part.name}.jsonl"

    def _keep(self) -> None:
        """Write what there is so far, here and where it is fetched from."""
        parts = {part.name: record.read(self._record(part)) for part in PARTS}
        found = {"calls": [*self._earlier, self._call], "parts": parts}
        for folder in {self._work, self._out}:
            record.write_whole(folder / "gpu.json", found)

    def _say(self, text: str) -> None:
        line = f"[{time.monotonic() - self._began:6.1f}] {text}"
        print(line, flush=True)
        with (self._out / "gpu.log").open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a part's process and all that it started, which may have sessions of their own."""
    started = [process.pid, *descendants(process.pid)]
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def descendants(pid: int) -> list[int]:
    """Return the processes below one."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, wave = [], [pid]
    while wave := [child for child, parent in parents.items() if parent in wave]:
        found += wave
    return found


def _meaning(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def _last_line(file: Path) -> str:
    lines = _tail(file, 600).splitlines()
    return next((line.strip()[:160] for line in reversed(lines) if line.strip()), "")


def _tail(file: Path, count: int) -> str:
    with file.open("rb") as source:
        source.seek(max(0, file.stat().st_size - count))
        return source.read().decode(errors="replace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where gpu.json and gpu.log go")
    parser.add_argument("--carried", type=Path, metavar="FOLDER", help="what was brought along: wheels, data, pieces")
    parser.add_argument("--before", type=Path, metavar="FILE", help="the gpu.json of an earlier call")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help=f"kept between calls (on a GPU: {setup.WORK})")
    parser.add_argument("--minutes", type=float, default=9.3, help="of this call in all")
    parser.add_argument("--call", type=int, default=1, metavar="N", help="for the log")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: a rehearsal")
    parser.add_argument("--again", action="store_true", help="also what failed before, once the code is mended")
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS], help="only these")
    return parser


if __name__ == "__main__":
    sys.exit(main())
