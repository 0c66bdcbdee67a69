"""Points at which a test kills or stops this process, to see what each instant of a step leaves behind.

`ACCRETE_FAILPOINTS=rename.before` makes the process kill itself (SIGKILL) just before it renames a version's folder,
`publish.after=kill@2` the second time that it gets there, and `commit.before=stop` stops it (SIGSTOP) instead. Several
are separated by commas. `ACCRETE_FAILPOINTS=@FILE` names a file that has them, or that comes to be later: so that a
process is struck that has run for a while. Unset, as it is outside tests, a point costs one look at the environment.
"""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "ACCRETE_FAILPOINTS"

WRITES = {
    "artifact": "the manifest is written into the candidate's folder",
    "fsync": "a file of the candidate is brought to disk",
    "upload": "the manifest is put into a bucket, behind the candidate's other files",
    "rename": "the candidate's folder gets its version's name",
    "fsync_folder": "that name is brought to disk",
    "stage": "a label's new exemplars or hold-out are written beside the old",
    "commit": "the script that ends a step",
    "relabel": "the script that renames or merges a class",
    "announce": "a server passes an event of the store on to its watchers",
    "load": "a server verifies and loads a candidate",
    "check": "its outputs are compared with its golden outputs",
    "warm": "it computes each batch size once",
    "publish": "it becomes the live version",
    "remember": "what is live is noted for a start without the store",
    "free": "the version before it leaves memory",
    "retire": "a version's record says that its files go",
    "remove": "they go",
    "inbox": "an image of the inbox, whose example is stored, is noted as labelled",
}
"""The writes that have a `NAME.before` and a `NAME.after`, each in one place of the code."""

_ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
_reached: Counter[str] = Counter()


@contextmanager
def around(write: str) -> Iterator[None]:
    """Mark the block as the write of that name.

    Raises:
        ValueError: when the environment names none of `WRITES`.
    """
    _reach(f"{write}.before")
    yield
    _reach(f"{write}.after")


def _reach(point: str) -> None:
    wanted = os.environ.get(VARIABLE)
    if wanted and wanted.startswith("@"):
        wanted = _read(wanted[1:])
    if not wanted:
        return
    action, times = _parse(wanted).get(point, ("", 0))
    _reached[point] += 1
    if _reached[point] == times:
        os.kill(os.getpid(), _ACTIONS[action])


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def _parse(text: str) -> dict[str, tuple[str, int]]:
    """Return the action of each point, and at which of its times it happens.

    Raises:
        ValueError: for a mistake, which must not pass for a point that is never reached.
    """
    parsed = {}
    for part in text.split(","):
        point, _, what = part.partition("=")
        action, _, times = what.partition("@")
        write, _, side = point.partition(".")
        if write not in WRITES or side not in ("before", "after") or (action or "kill") not in _ACTIONS:
            raise ValueError(
                f"{VARIABLE}: {part!r} is no NAME.before or NAME.after, with =kill, =stop and @TIMES or not"
            )
        parsed[point] = (action or "kill", int(times or 1))
    return parsed
