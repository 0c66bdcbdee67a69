"""The methods by name, one family per file. Importing this package imports none of them, and no torch."""

import importlib
from dataclasses import replace
from typing import TYPE_CHECKING

from accrete_learner.config import MethodConfig
from accrete_learner.method_names import FAMILIES, available

if TYPE_CHECKING:
    from accrete_learner.methods.base import Method


def load(name: str) -> "Method":
    """The method of that name; this imports torch.

    Raises:
        ValueError: when there is none; the message names those there are.
    """
    for family, names in FAMILIES.items():
        if name in names:
            found: tuple[Method, ...] = importlib.import_module(f"{__name__}.{family}").METHODS
            return found[names.index(name)]
    raise ValueError(f"no method {name!r}; there are {', '.join(available())}")


def configured(config: MethodConfig) -> "Method":
    """The method that `config` names, with those of its choices replaced that `config` has one for."""
    method = load(config.name)
    return replace(
        method,
        selection=config.selection or method.selection,
        rule=config.rule or method.rule,
        weight_transfer=config.weight_transfer or method.weight_transfer,
    )
