"""Every method with every way of choosing exemplars, under both budgets, through the step that the learner runs.

Three steps on small images: classes that come back, a single new class, one example of a class, very unequal classes.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from accrete_learner.config import MethodConfig, ModelConfig, Selection, TrainingConfig
from accrete_learner.memory.config import MemoryConfig
from accrete_learner.method_names import available
from accrete_learner.trainer.job import CANDIDATE_FOLDER, EXEMPLARS_FILE, INPUTS_FILE, Job
from accrete_learner.trainer.run_job import run_job
from accrete_learner_service.evaluation.measure import load_checked

pytestmark = pytest.mark.integration

MODEL = ModelConfig(backbone="resnet8", input_size=8, channels=1)
TRAINING = TrainingConfig(base_epochs=1, epochs=1, copies=1, batch_size=16, learning_rate=0.02, threads=1)
#: Examples of each class that come for a step.
STEPS = ({0: 12, 1: 1, 2: 6}, {3: 5, 0: 2}, {4: 20, 5: 2, 1: 3})
BUDGETS = (MemoryConfig(kind="per_class", size=4), MemoryConfig(kind="total", size=14))
SELECTIONS: tuple[Selection, ...] = get_args(Selection)


def cases() -> list[tuple[str, Selection | Literal[""], MemoryConfig]]:
    """Each method with its own selection and one other, under a budget each; so each selection is under both, too."""
    chosen: list[tuple[str, Selection | Literal[""], MemoryConfig]] = []
    for at, name in enumerate(available()):
        turn, which = divmod(at, len(SELECTIONS))
        budget = (at + turn) % 2
        chosen += [(name, "", BUDGETS[1 - budget]), (name, SELECTIONS[which], BUDGETS[budget])]
    return chosen


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`--every-combination`: method x selection x budget, most of an hour."""
    if "selection" not in metafunc.fixturenames:
        return
    chosen = cases()
    if metafunc.config.getoption("--every-combination", default=False):
        chosen = list(itertools.product(available(), SELECTIONS, BUDGETS))
    names = ["-".join(filter(None, (name, selection, budget.kind))) for name, selection, budget in chosen]
    metafunc.parametrize(("name", "selection", "budget"), chosen, ids=names)


def examples(counts: dict[int, int], seed: int) -> tuple[Tensor, Tensor]:
    y = torch.tensor([label for label, count in counts.items() for _ in range(count)])
    noise = torch.randint(60, (len(y), 8, 8, 1), generator=torch.Generator().manual_seed(seed))
    return (noise + 30 * y[:, None, None, None]).to(torch.uint8), y


def take_steps(folder: Path, config: MethodConfig, budget: MemoryConfig) -> list[Path]:
    """Three steps, each from the artifact and memory that the one before left; the memory's bounds hold after each."""
    memory: dict[int, Tensor] = {}
    homes: list[Path] = []
    known = 0
    for number, counts in enumerate(STEPS, start=1):
        home = folder / str(number)
        home.mkdir(parents=True)
        x, y = examples(counts, number)
        exemplar_y = torch.tensor([label for label, own in memory.items() for _ in own], dtype=torch.int64)
        held = {"exemplar_x": torch.cat(list(memory.values())), "exemplar_y": exemplar_y} if len(exemplar_y) else {}
        save_file({"new_x": x, "new_y": y, **held}, home / INPUTS_FILE)
        total = max(known, max(counts) + 1)
        job = Job(
            version=number,
            labels=tuple(f"class {index}" for index in range(total)),
            old_count=known,
            parent=str(homes[-1] / CANDIDATE_FOLDER) if known else None,
            parent_rows=tuple(range(known)),
            method=config,
            model=MODEL,
            training=TRAINING,
            memory=budget,
        )
        run_job(home, job, lambda *_: None)
        memory = remembered(home, memory, budget.per_class(total))
        assert sum(map(len, memory.values())) <= (budget.size if budget.kind == "total" else budget.size * total)
        known = total
        homes.append(home)
    return homes


def remembered(home: Path, before: dict[int, Tensor], share: int) -> dict[int, Tensor]:
    """The memory after a step, as the store keeps it."""
    made = load_file(home / EXEMPLARS_FILE)
    anew = {label: made["x"][made["y"] == label] for label in set(made["y"].tolist())}
    assert all(len(own) <= share for own in anew.values())
    return {label: anew.get(label, before.get(label, made["x"][:0]))[:share] for label in sorted({*anew, *before})}


def test_three_steps_of_any_shape_keep_the_budget_and_serve(
    name: str, selection: Selection, budget: MemoryConfig, tmp_path: Path
) -> None:
    config = replace(MethodConfig(name=name, selection=selection), synthesis_iterations=1, random_features=100)
    homes = take_steps(tmp_path, config, budget)
    loaded = load_checked(homes[-1] / CANDIDATE_FOLDER, 3)
    x, _ = examples(STEPS[-1], 9)
    probabilities = loaded.classifier()(loaded.features(x.numpy()))
    loaded.close()
    assert probabilities.shape == (len(x), 6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-4)
