"""Names of the methods, so that a wrong one is refused before any process starts. Standard library alone."""

ANALYTIC = "analytic"
"""The method that solves for its head and trains nothing."""

#: Methods by family, a module of `accrete_learner.methods`. Written out, because importing a family imports torch.
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
    "foster": ("foster",),
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
    "ranpac": ("ranpac", "ranpac_blocks"),
    "acil": ("acil", "ds_al", "acil_blocks"),
    "analytic": (ANALYTIC,),
}


def available() -> tuple[str, ...]:
    """Return the names of all methods, sorted."""
    return tuple(sorted(name for names in FAMILIES.values() for name in names))


def begins_anew(name: str) -> bool:
    """Return whether each step of the method trains from the beginning and keeps nothing of the version before it."""
    return name in FAMILIES["joint"]
