"""The methods by name, a family a file. Importing this package imports none of them, and no torch."""

import importlib
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accrete_learner.config import MethodConfig
    from accrete_learner.methods.base import Method

#: Family (a module here) to the methods in it. Written out, so that a name can be checked without importing torch.
FAMILIES: dict[str, tuple[str, ...]] = {
    "finetune": ("finetune", "replay"),
    "joint": ("joint",),
    "feature_extraction": ("feature_extraction",),
    "lwf": ("lwf", "lwf_mc", "lwf_exemplars"),
    "loss_pairs": ("ce_mse", "bce_mse", "mse_mse", "ce_bce"),
    "icarl": ("icarl",),
    "eeil": ("eeil", "eeil_base", "eeil_da", "eeil_bf"),
    "bic": ("bic",),
    "wa": ("wa",),
    "lucir": (
        "lucir",
        "lucir_linear",
        "lucir_cosine",
        "lucir_less_forget",
        "lucir_fixed_weight",
        "lucir_no_separation",
        "lucir_no_balance",
    ),
    "mnemonics": ("mnemonics_lwf", "mnemonics_icarl", "mnemonics_bic", "mnemonics_lucir"),
    "ranpac": ("ranpac",),
}


def available() -> tuple[str, ...]:
    """Names of the methods there are, sorted."""
    return tuple(sorted(name for names in FAMILIES.values() for name in names))


def begins_anew(name: str) -> bool:
    """Whether each step of the method trains from the beginning, so that nothing of the version before it is kept."""
    return name in FAMILIES["joint"]


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


def configured(config: "MethodConfig") -> "Method":
    """The method that `config` names, with those of its choices replaced that `config` has one for."""
    method = load(config.name)
    return replace(
        method,
        selection=config.selection or method.selection,
        rule=config.rule or method.rule,
        weight_transfer=config.weight_transfer or method.weight_transfer,
    )
