"""One part of the kit as a process: `python -m benchmarks.gpu.part NAME --record FILE --work FOLDER --seconds N`."""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import signal
import sys
from pathlib import Path

from benchmarks.gpu.record import Record
from benchmarks.gpu.settings import Settings


def main() -> None:
    """Run it; what it finds goes to the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--again", action="store_true")
    parsed = parser.parse_args()
    faulthandler.enable()
    # So that what it started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
    record = Record(parsed.record, seconds=parsed.seconds, again=parsed.again)
    settings = Settings(work=parsed.work, device=parsed.device, tiny=parsed.tiny)
    importlib.import_module(f"benchmarks.gpu.parts.{parsed.name}").run(record, settings)
    record.end()


if __name__ == "__main__":
    main()
