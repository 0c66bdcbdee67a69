"""The papers' metrics by hand on a run small enough to count, and the tables and files that they end up in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from accrete_experiments.protocols import measures, report
from accrete_experiments.protocols.results import Run, Scores, Task
from accrete_experiments.protocols.spec import Protocol
from accrete_learner.config import TrainingConfig
from accrete_learner.memory.config import MemoryConfig

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
PROTOCOL = Protocol(data="cifar100:/somewhere", digest="0", classes=4, base=2, step=1)


def task(counts: tuple[int, ...], totals: tuple[int, ...], **hits: tuple[int, ...]) -> Task:
    """Top-5 finds one more of each class than top-1, where there is one more."""
    found = {
        rule: Scores(hits=own, hits5=tuple(min(n + 1, total) for n, total in zip(own, totals, strict=True)))
        for rule, own in hits.items()
    }
    stages = {"train": 2.0, "memory": 0.5}
    return Task(
        number=len(counts), class_counts=counts, totals=totals, scores=found, exemplars=7, images=100, seconds=stages
    )


def run(method: str = "lucir", seed: int = 1, *, protocol: Protocol = PROTOCOL, lost: int = 0, **extra: Any) -> Run:
    """Three tasks of 2, 1 and 1 classes with 10, 10, 20 and 10 test images; `lost` hits fewer after the last."""
    tasks = (
        task((2,), (10, 10), head=(9, 7), nme=(8, 8)),
        task((2, 1), (10, 10, 20), head=(5, 5, 18), nme=(7, 7, 10)),
        task((2, 1, 1), (10, 10, 20, 10), head=(4 - lost, 6, 10, 10), nme=(6, 7, 10, 5)),
    )
    fields: dict[str, Any] = {"labels": ("ant", "bee", "cat", "dog"), "tasks": tasks}
    return Run(method=method, seed=seed, protocol=protocol.to_dict(), **fields | extra)


def test_accuracy_counts_images_and_not_classes():
    last = run().tasks[-1]
    assert measures.top1(last, "head") == 30 / 50
    assert measures.top5(last, "head") == (5 + 7 + 11 + 10) / 50
    assert measures.curve(run(), "nme") == (16 / 20, 24 / 40, 28 / 50)


def test_the_average_is_over_tasks_with_and_without_the_first():
    assert measures.average_incremental(run(), "head") == pytest.approx((0.8 + 0.7 + 0.6) / 3)
    assert measures.average_incremental(run(), "head", first=False) == pytest.approx((0.7 + 0.6) / 2)
    assert measures.average_incremental(run(), "nme", five=True) == pytest.approx((18 / 20 + 27 / 40 + 32 / 50) / 3)
    assert measures.last(run(), "head") == 0.6
    assert measures.last(run(), "nme", five=True) == 32 / 50


def test_forgetting_is_of_the_first_tasks_classes_or_the_best_of_each_task():
    assert measures.base_forgetting(run(), "head") == pytest.approx(16 / 20 - 10 / 20)
    # The first task's classes were best after it, the second's after the second; the last task's are not old.
    assert measures.forgetting(run(), "head") == pytest.approx(((0.8 - 0.5) + (0.9 - 0.5)) / 2)


def test_what_was_gained_is_negative_forgetting():
    first, *rest = run().tasks
    gained = run(tasks=(replace(first, scores={"head": Scores(hits=(0, 0), hits5=(0, 0))}), *rest))
    assert measures.base_forgetting(gained, "head") == -0.5


def test_accuracy_by_age_groups_classes_by_the_task_of_their_arrival():
    assert measures.by_age(run().tasks[-1], "head") == (10 / 20, 10 / 20, 10 / 10)
    assert measures.by_age(run().tasks[0], "nme") == (16 / 20,)


def test_a_single_task_has_an_accuracy_and_no_forgetting():
    joint = run(tasks=run().tasks[:1])
    assert measures.average_incremental(joint, "head") == measures.last(joint, "head") == 0.8
    assert measures.average_incremental(joint, "head", first=False) is None
    assert measures.base_forgetting(joint, "head") is measures.forgetting(joint, "head") is None


def test_nothing_measured_is_never_nought():
    nothing = run(tasks=())
    rules = ("head", "nme", "svm")
    assert {measures.last(nothing, rule) for rule in rules} == {None}
    assert {measures.average_incremental(nothing, rule) for rule in rules} == {None}
    assert measures.rules(nothing) == ()
    assert measures.average_incremental(run(), "svm") is None
    assert measures.images_a_second(nothing) is None
    assert measures.top1(task((1,), (0,), head=(0,)), "head") is None


def test_a_rule_that_is_not_measured_after_every_task_has_no_average():
    first, *rest = run().tasks
    partly = run(tasks=(task((2,), (10, 10), head=(9, 7), nme=(8, 8), svm=(9, 9)), *rest))
    assert measures.average_incremental(partly, "svm") is None
    assert measures.rules(partly) == ("head", "nme")
    whole = tuple(replace(one, scores={**one.scores, "knn": one.scores["head"]}) for one in (first, *rest))
    assert measures.rules(run(tasks=whole)) == ("head", "nme", "knn")


def test_the_deviation_is_the_samples_and_one_seed_has_none():
    assert measures.spread([1.0, 3.0]) == measures.Spread(mean=2.0, deviation=2**0.5, seeds=2)
    assert measures.spread([1.0, None]) == measures.Spread(mean=1.0, deviation=None, seeds=1)
    assert measures.spread([None]) is measures.spread([]) is None


def test_speed_is_of_training_and_time_is_of_everything():
    assert measures.images_a_second(run()) == 50.0
    assert measures.seconds(run()) == 7.5
    assert measures.exemplars(run()) == 7


def read(text: str) -> tuple[Run, ...]:
    return tuple(Run.from_dict(one) for one in json.loads(text)["runs"])


def test_runs_come_back_from_json_as_they_were():
    runs = (run(), run("icarl+herding@svm", 2))
    again = read(report.to_json(runs))
    assert again == runs
    assert report.to_markdown(again) == report.to_markdown(runs)


def test_the_json_says_mean_deviation_and_seeds_of_every_figure():
    found = json.loads(report.to_json([run(seed=1), run(seed=2, lost=2)]))["summary"][0]
    assert found["protocol"] == PROTOCOL.to_dict()
    last = found["methods"]["lucir"]["cnn_last"]
    assert last == {"mean": pytest.approx(0.58), "deviation": pytest.approx(0.02 * 2**0.5), "seeds": 2}
    assert found["methods"]["lucir"]["nme_forgetting_best"]["seeds"] == 2


def rows(markdown: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in markdown.splitlines()
        if line.startswith("|") and not line.startswith("|-")
    ]


def test_the_table_has_a_row_a_method_and_mean_and_deviation_over_its_seeds():
    table = rows(report.to_markdown([run(seed=1), run("icarl"), run(seed=2, lost=2)]))
    by_title = dict(zip(table[0], table[1], strict=True))
    assert [row[0] for row in table[1:3]] == ["lucir", "icarl"]
    assert by_title["CNN last (%)"] == "58.00 ± 2.83"
    assert by_title["Forgetting CNN"] == "35.00 ± 7.07"
    assert (by_title["Seeds"], by_title["Exemplars"]) == ("2", "7")
    assert "±" not in table[2][1]


def test_a_further_rule_has_a_column_where_a_method_has_one():
    assert "Other rule avg (%)" not in rows(report.to_markdown([run()]))[0]
    with_svm = tuple(replace(one, scores={**one.scores, "svm": one.scores["head"]}) for one in run().tasks)
    table = rows(report.to_markdown([run(), run("icarl@svm", tasks=with_svm)]))
    column = table[0].index("Other rule avg (%)")
    assert [row[column] for row in table[1:3]] == ["–", "70.00 (svm)"]


@pytest.mark.parametrize(
    "other",
    [
        {"memory": MemoryConfig(kind="total", size=20)},
        {"memory": MemoryConfig(kind="per_class", size=10)},
        {"training": TrainingConfig(augmentation="strong")},
        {"epochs": "10%"},
        {"digest": "1"},
    ],
)
def test_other_settings_make_another_table(other: dict[str, Any]):
    found = report.comparisons([run(), run("icarl", protocol=replace(PROTOCOL, **other)), run("lwf")])
    assert [list(comparison.methods) for comparison in found] == [["lucir", "lwf"], ["icarl"]]


def test_a_run_that_an_earlier_release_wrote_is_read():
    raw = run().to_dict()
    raw["phases"] = raw.pop("tasks")
    earlier = {"model": "network", "memory": "budget"}
    raw["protocol"] = {earlier.get(name, name): value for name, value in raw["protocol"].items()}
    assert Run.from_dict(raw) == run()
    assert Protocol.from_dict(raw["protocol"]) == PROTOCOL


def test_the_same_method_and_seed_twice_is_refused():
    with pytest.raises(ValueError, match="two runs of lucir with seed 1"):
        report.to_markdown([run(), run()])


def test_an_unfinished_run_is_named_and_counts_nowhere():
    partly = run(seed=2, tasks=run().tasks[:2])
    text = report.to_markdown([run(), partly])
    assert "lucir seed 2 (3 of 4 classes)" in text
    assert rows(text)[1] == rows(report.to_markdown([run()]))[1]
    alone = report.to_markdown([run(tasks=())])
    assert "lucir seed 1 (0 of 4 classes)" in alone
    assert rows(alone) == []


def test_no_runs_make_an_empty_report():
    assert report.to_markdown([]) == ""
    assert read(report.to_json([])) == ()


def test_the_caption_says_all_that_a_figure_depends_on_and_nothing_of_the_machine():
    text = report.caption(PROTOCOL.to_dict(), seeds=3)
    assert text == (
        "CIFAR-100, 4 classes: 2 first, then 1 at a time (3 tasks); order: seed 1993; memory: 20 exemplars per class; "
        "epochs: each method's own; augmentation: each method's own; network: resnet32; 3 seeds."
    )


def test_the_caption_tells_memories_orders_and_epochs_apart():
    other = replace(
        PROTOCOL,
        data="/data/birds",
        base=4,
        order="seed",
        per_class=50,
        epochs="10%",
        memory=MemoryConfig(kind="total", size=2000),
        training=TrainingConfig(augmentation="strong"),
    )
    assert report.caption(other.to_dict()) == (
        "birds, 4 classes at once, at most 50 training examples of each; order: each seed's own; "
        "memory: 2000 exemplars in total; epochs: 10% of each method's own; augmentation: strong; network: resnet32."
    )


def test_all_files_are_written_and_nothing_else_stays(tmp_path: Path):
    first, second = report.write(tmp_path / "new", [run()])
    others = [first.with_suffix(".csv"), second.with_suffix(".tex")]
    assert sorted((tmp_path / "new").iterdir()) == sorted([first, second, *others])
    assert read(first.read_text()) == (run(),)
    assert second.read_text() == report.to_markdown([run()])


@pytest.mark.parametrize("folder", sorted({path.parents[2].name for path in RESULTS.glob("*/runs/*/run.json")}))
def test_the_results_that_are_kept_can_be_read(folder: str):
    files = sorted((RESULTS / folder).glob("runs/*/run.json"))
    assert files
    for file in files:
        kept = Run.from_dict(json.loads(file.read_text(encoding="utf-8")))
        assert kept.tasks[-1].classes == len(kept.labels)
        assert Protocol.from_dict(kept.protocol).classes == len(kept.labels)


def test_the_caption_names_a_schedule_that_is_not_the_methods_own():
    other = replace(PROTOCOL, epochs="25%", training=TrainingConfig(schedule="knee"))
    assert "; augmentation: each method's own; schedule: knee; network: resnet32." in report.caption(other.to_dict())


def test_the_table_for_a_paper_is_latex_and_every_accuracy_is_in_a_csv_file(tmp_path: Path):
    report.write(tmp_path, [run(), run("wa_50%", 2)])
    latex = (tmp_path / "results.tex").read_text().splitlines()
    assert r"    \toprule" in latex
    assert any(line.startswith(r"    wa\_50\% & ") and line.endswith(r"\\") for line in latex)
    header = latex[latex.index(r"    \toprule") + 1]
    assert header.count("&") == latex[latex.index(r"    \midrule") + 1].count("&")
    rows = (tmp_path / "results.csv").read_text().splitlines()
    assert rows[0] == "method,seed,task,classes,rule,top1,top5,exemplars,images,seconds"
    assert rows[1] == "lucir,1,1,2,head,0.800000,0.900000,7,100,2.500"
    assert len(rows) == 1 + 2 * 3 * 2
