"""The methods by name, one a file. Importing this package imports none of them, and no torch."""

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accrete_learner.methods.base import Method

_NOT_METHODS = frozenset({"base"})


def available() -> tuple[str, ...]:
    """Names of the methods there are, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if name not in _NOT_METHODS))


def load(name: str) -> "Method":
    """The method of that name; this imports torch.

    Raises:
        ValueError: when there is none; the message names those there are.
    """
    if name not in available():
        raise ValueError(f"no method {name!r}; there are {', '.join(available())}")
    method: Method = importlib.import_module(f"{__name__}.{name}").METHOD
    return method
