"""Run one process with resolved settings, as the supervisor does: `python -m accrete_node serve|learn FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

from accrete_node import processes
from accrete_node.settings import load_settings


def main(arguments: list[str]) -> int:
    """Run the named process."""
    name, file = arguments
    settings = load_settings({}, Path(file), resolved=True)
    return {"serve": processes.serve, "learn": processes.learn}[name](settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
