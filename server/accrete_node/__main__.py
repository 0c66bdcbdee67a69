"""Run one process with resolved settings, as the supervisor does: `python -m accrete_node serve|learn|page FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

from accrete_node import processes
from accrete_node.exit_status import CANNOT_START
from accrete_node.settings import Settings, SettingsError, load_settings


def main(arguments: list[str]) -> int:
    """Run the named process."""
    name, file = arguments
    try:
        settings = load_settings({}, Path(file), resolved=True)
        if settings.model_fields_set != set(Settings.model_fields):  # defaults would let in whom the settings do not
            raise SettingsError([f"{file}: it is not whole; start `accrete up` again, which writes it anew"])
    except SettingsError as error:
        print(f"accrete: {name}: {error}", file=sys.stderr)
        return CANNOT_START
    return {"serve": processes.serve, "learn": processes.learn, "page": processes.page}[name](settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
