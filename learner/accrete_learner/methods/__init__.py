"""The methods by name, one family per file. Importing this package imports neither the families nor torch."""

import importlib
from typing import TYPE_CHECKING

from accrete_learner.config import MethodConfig, TrainingConfig
from accrete_learner.method_names import FAMILIES, available

if TYPE_CHECKING:
    from accrete_learner.methods.base import Method


def load(name: str) -> "Method":
    """Return the method called `name` as its source describes it. This imports torch.

    Raises:
        ValueError: when there is none. The message names those there are.
    """
    for family, names in FAMILIES.items():
        if name in names:
            found: tuple[Method, ...] = importlib.import_module(f"{__name__}.{family}").METHODS
            return found[names.index(name)]
    raise ValueError(f"no method {name!r}; there are {', '.join(available())}")


def configured(config: MethodConfig, training: TrainingConfig) -> "Method":
    """Return the method that `config` names, with the choices of `config` and the numbers of `training`.

    Raises:
        ValueError: when there is none of that name.
    """
    return load(config.name).configured(config, training)
