"""Exemplars that are made and not only chosen, with one algorithm per file. `recipes` names the choices."""
