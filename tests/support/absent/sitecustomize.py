"""Python imports this by itself in a process whose path has this folder: what `ABSENT` names is as if not installed."""

import os
import sys
from importlib.machinery import PathFinder

_ABSENT = frozenset(os.environ["ABSENT"].split(","))


class _Rest(PathFinder):
    """Finds what is left."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in _ABSENT else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = _Rest
