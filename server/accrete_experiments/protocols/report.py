"""What a comparison found, as JSON, Markdown, CSV and LaTeX. Standard library alone.

Figures stand in one table only where all their settings are the same: another kind or size of memory, other data, other
epochs or another augmentation make another table.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accrete_experiments.protocols import measures
from accrete_experiments.protocols.measures import HEAD, NME, Spread, spread
from accrete_experiments.protocols.results import Run
from accrete_kit.atomic_file import write_text

FORMAT = 1
_NOTHING = "–"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs under one protocol."""

    protocol: Mapping[str, Any]
    runs: tuple[Run, ...]

    @property
    def methods(self) -> dict[str, tuple[Run, ...]]:
        """Finished runs by method, both in the order in which they came; a method without one is left out."""
        found: dict[str, tuple[Run, ...]] = {}
        for run in self.runs:
            if measures.is_finished(run):
                found[run.method] = (*found.get(run.method, ()), run)
        return found

    @property
    def unfinished(self) -> tuple[Run, ...]:
        """Runs that count nowhere, because an average over fewer tasks is a higher one."""
        return tuple(run for run in self.runs if not measures.is_finished(run))


def comparisons(runs: Iterable[Run]) -> tuple[Comparison, ...]:
    """Return the runs by protocol, in the order in which protocols came.

    Raises:
        ValueError: when a method has two runs with one seed under one protocol.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        group = groups.setdefault(json.dumps(run.protocol, sort_keys=True), [])
        if any((other.method, other.seed) == (run.method, run.seed) for other in group):
            raise ValueError(f"two runs of {run.method} with seed {run.seed} under one protocol")
        group.append(run)
    return tuple(Comparison(protocol=group[0].protocol, runs=tuple(group)) for group in groups.values())


def summary(runs: Sequence[Run]) -> dict[str, Spread | None]:
    """Return one method's figures over its seeds; accuracies and forgetting as shares of 1.

    Keys: `exemplars` (after the last task), `images_per_second`, `seconds`, and for each rule measured (the head's is
    called `cnn`) `<rule>_average`, `_average_without_first`, `_last`, `_forgetting` (of the first task's classes),
    `_forgetting_best` (best earlier minus last) and `_top5_average`.
    """
    columns: dict[str, Callable[[Run], float | None]] = {}
    for rule in dict.fromkeys([HEAD, NME, *(rule for run in runs for rule in measures.rules(run))]):
        name = "cnn" if rule == HEAD else rule
        columns[f"{name}_average"] = partial(measures.average_incremental, rule=rule)
        columns[f"{name}_average_without_first"] = partial(measures.average_incremental, rule=rule, first=False)
        columns[f"{name}_last"] = partial(measures.last, rule=rule)
        columns[f"{name}_forgetting"] = partial(measures.base_forgetting, rule=rule)
        columns[f"{name}_forgetting_best"] = partial(measures.forgetting, rule=rule)
        columns[f"{name}_top5_average"] = partial(measures.average_incremental, rule=rule, five=True)
    columns |= {
        "exemplars": measures.exemplars,
        "images_per_second": measures.images_a_second,
        "seconds": measures.seconds,
    }
    return {name: spread(map(column, runs)) for name, column in columns.items()}


def to_json(runs: Iterable[Run]) -> str:
    """Every run with all its counts, and each protocol's summary."""
    kept = tuple(runs)
    found = [
        {
            "protocol": comparison.protocol,
            "methods": {name: _plain(summary(of_method)) for name, of_method in comparison.methods.items()},
            "unfinished": [{"method": run.method, "seed": run.seed} for run in comparison.unfinished],
        }
        for comparison in comparisons(kept)
    ]
    whole = {"format": FORMAT, "summary": found, "runs": [run.to_dict() for run in kept]}
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"


def write(folder: Path, runs: Sequence[Run], *, name: str = "results") -> tuple[Path, Path]:
    """Write `<name>.json` and `<name>.md` into a folder, which is made, and return their paths.

    Beside them stand `<name>.csv`, a row for each accuracy, and `<name>.tex`, the tables for a paper.

    Raises:
        OSError: when that fails; a file that stood there is then still whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"json": to_json(runs), "md": to_markdown(runs), "csv": to_csv(runs), "tex": to_latex(runs)}
    for suffix, text in texts.items():
        write_text(folder / f"{name}.{suffix}", text)
    return folder / f"{name}.json", folder / f"{name}.md"


def to_csv(runs: Iterable[Run]) -> str:
    """A row for each run, task and rule, with shares of 1; nothing where nothing was measured."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["method", "seed", "task", "classes", "rule", "top1", "top5", "exemplars", "images", "seconds"])
    for run in runs:
        for task in run.tasks:
            for rule in task.scores:
                figures = [measures.top1(task, rule), measures.top5(task, rule)]
                shares = ["" if value is None else f"{value:.6f}" for value in figures]
                seconds = f"{sum(task.seconds.values()):.3f}"
                rows.writerow(
                    [
                        run.method,
                        run.seed,
                        task.number,
                        task.classes,
                        rule,
                        *shares,
                        task.exemplars,
                        task.images,
                        seconds,
                    ]
                )
    return text.getvalue()


def to_latex(runs: Iterable[Run]) -> str:
    """For each protocol a table of the summary, for LaTeX with the package booktabs."""
    return "\n".join(_latex(comparison) for comparison in comparisons(runs) if comparison.methods)


def _latex(comparison: Comparison) -> str:
    columns = _summary_columns(comparison)
    lines = [
        " & ".join(map(_escaped, columns)),
        *(" & ".join(map(_escaped, row)) for row in zip(*columns.values(), strict=True)),
    ]
    header, *rows = (f"    {line} \\\\" for line in lines)
    return "\n".join(
        [
            "\\begin{table}",
            "  \\centering",
            f"  \\caption{{{_escaped(caption(comparison.protocol))}}}",
            f"  \\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
            "    \\toprule",
            header,
            "    \\midrule",
            *rows,
            "    \\bottomrule",
            "  \\end{tabular}",
            "\\end{table}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    """Return a text as LaTeX prints it."""
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        _NOTHING: "--",
    }
    return "".join(special.get(one, f"\\{one}" if one in "&%$#_{}" else one) for one in text)


def to_markdown(runs: Iterable[Run]) -> str:
    """For each protocol: what it is, the summary, and the accuracy after each task by `head` and by `nme`."""
    sections = [_section(comparison) for comparison in comparisons(runs)]
    return "\n".join([*sections, _NOTES + "\n"]) if sections else ""


def caption(protocol: Mapping[str, Any], seeds: int | None = None) -> str:
    """Return one line that says what every figure under this protocol depends on."""
    parts = [_stream(protocol), _order(protocol), f"memory: {memory(protocol)}", _training(protocol)]
    if seeds is not None:
        parts.append(f"{seeds} seed{'s' if seeds != 1 else ''}")
    return "; ".join(parts) + "."


def memory(protocol: Mapping[str, Any]) -> str:
    """Return the kind and size of the exemplar memory in words."""
    size, kind = protocol["memory"]["size"], protocol["memory"]["kind"]
    return f"{size} exemplars per class" if kind == "per_class" else f"{size} exemplars in total"


def _stream(protocol: Mapping[str, Any]) -> str:
    classes, base, step = protocol["classes"], protocol["base"], protocol["step"]
    tasks = 1 + -(-(classes - base) // step)
    text = f"{_data_name(protocol['data'])}, {classes} classes"
    text += f": {base} first, then {step} at a time ({tasks} tasks)" if tasks > 1 else " at once"
    each = protocol.get("per_class")
    return text + (f", at most {each} training examples of each" if each else "")


def _data_name(source: str) -> str:
    """Without the folder, which says nothing about the data and much about a machine."""
    kind, _, _ = source.partition(":")
    return "CIFAR-100" if kind == "cifar100" else Path(source).name


def _order(protocol: Mapping[str, Any]) -> str:
    return "order: each seed's own" if protocol["order"] == "seed" else f"order: seed {protocol['order']}"


def _training(protocol: Mapping[str, Any]) -> str:
    epochs, training = protocol.get("epochs", ""), protocol.get("training", {})
    amount = f"{epochs} of each method's own" if epochs.endswith("%") else epochs or "each method's own"
    augmentation = training.get("augmentation", "auto")
    own = "each method's own"
    text = f"epochs: {amount}; augmentation: {own if augmentation == 'auto' else augmentation}"
    if training.get("schedule", "own") != "own":
        text += f"; schedule: {training['schedule']}"
    network = protocol.get("model", {}).get("backbone")
    return text + (f"; network: {network}" if network else "")


def _section(comparison: Comparison) -> str:
    blocks = [caption(comparison.protocol)]
    if comparison.methods:
        blocks.append(_summary_table(comparison))
        for rule, title in ((HEAD, "CNN"), (NME, "NME")):
            table = _task_table(comparison, rule)
            blocks += [f"{title} (%) on all classes seen, after each task:", table] if table else []
            table = _age_table(comparison, rule)
            blocks += [f"{title} (%) after the last task, on the classes that came in each:", table] if table else []
    if comparison.unfinished:
        blocks.append(f"Not finished, and in no figure above: {', '.join(map(_where, comparison.unfinished))}.")
    return "\n\n".join(blocks) + "\n"


_NOTES = (
    "CNN: the head's answer; NME: nearest mean of exemplars, or of all images where a method keeps none. Averages are "
    "over the tasks, the first included. "
    "Forgetting: accuracy of the first task's classes after it, minus after the last. Top-5 is the CNN's, averaged "
    "likewise. Exemplars: kept after the last task. Images/s: what training took, over its own time. Seconds: all "
    "stages of all tasks, measuring left out. ±: sample standard deviation over the seeds."
)


def _where(run: Run) -> str:
    seen = run.tasks[-1].classes if run.tasks else 0
    return f"{run.method} seed {run.seed} ({seen} of {len(run.labels)} classes)"


def _summary_table(comparison: Comparison) -> str:
    return _table(_summary_columns(comparison))


def _summary_columns(comparison: Comparison) -> dict[str, list[str]]:
    rows = [(name, len(runs), summary(runs)) for name, runs in comparison.methods.items()]
    titles: dict[str, Callable[[Mapping[str, Spread | None]], str]] = {
        "CNN avg (%)": lambda found: _percent(found["cnn_average"]),
        "NME avg (%)": lambda found: _percent(found["nme_average"]),
        "Other rule avg (%)": _others,
        "CNN last (%)": lambda found: _percent(found["cnn_last"]),
        "NME last (%)": lambda found: _percent(found["nme_last"]),
        "Forgetting CNN": lambda found: _percent(found["cnn_forgetting"]),
        "Forgetting NME": lambda found: _percent(found["nme_forgetting"]),
        "Top-5 avg (%)": lambda found: _percent(found["cnn_top5_average"]),
        "Exemplars": lambda found: _shown(found["exemplars"], 1.0, ",.0f", deviation=False),
        "Images/s": lambda found: _whole(found["images_per_second"]),
        "Seconds": lambda found: _whole(found["seconds"]),
    }
    cells = {title: [show(found) for _, _, found in rows] for title, show in titles.items()}
    cells = {title: column for title, column in cells.items() if set(column) != {_NOTHING}}
    return {"Method": [name for name, _, _ in rows], **cells, "Seeds": [str(seeds) for _, seeds, _ in rows]}


def _task_table(comparison: Comparison, rule: str) -> str:
    tasks = next(iter(comparison.methods.values()))[0].tasks
    return _values_table(
        comparison, lambda run: measures.curve(run, rule), [f"{task.classes} classes" for task in tasks]
    )


def _age_table(comparison: Comparison, rule: str) -> str:
    tasks = next(iter(comparison.methods.values()))[0].tasks
    return _values_table(
        comparison,
        lambda run: measures.by_age(run.tasks[-1], rule),
        [f"came in task {task.number}" for task in tasks],
    )


def _values_table(
    comparison: Comparison, values: Callable[[Run], Sequence[float | None]], titles: Sequence[str]
) -> str:
    """Return a table with one row per method and one column per value, as means over seeds.

    A method that lacks a value has no row. Without any row the table is empty.
    """
    of_methods = {
        name: [spread(column) for column in zip(*map(values, runs), strict=True)]
        for name, runs in comparison.methods.items()
    }
    measured = {name: found for name, found in of_methods.items() if None not in found}
    if not measured:
        return ""
    columns = {"Method": list(measured)}
    for index, title in enumerate(titles):
        columns[title] = [_percent(found[index], deviation=False) for found in measured.values()]
    return _table(columns)


def _table(columns: Mapping[str, Sequence[str]]) -> str:
    """Markdown, padded so that it reads as text too; figures to the right."""
    width = {title: max(len(title), *map(len, cells)) for title, cells in columns.items()}
    left = next(iter(columns))

    def line(cells: Iterable[str]) -> str:
        padded = (
            cell.ljust(width[title]) if title == left else cell.rjust(width[title])
            for title, cell in zip(columns, cells, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (width[title] + 2) if title == left else "-" * (width[title] + 1) + ":" for title in columns)
    rows = zip(*columns.values(), strict=True)
    return "\n".join([line(columns), f"|{rule}|", *map(line, rows)])


def _others(found: Mapping[str, Spread | None]) -> str:
    known = {"cnn", "nme"}
    names = [key.removesuffix("_average") for key in found if key.endswith("_average") and "top5" not in key]
    shown = [f"{_percent(found[f'{name}_average'])} ({name})" for name in names if name not in known]
    return ", ".join(shown) or _NOTHING


def _percent(value: Spread | None, *, deviation: bool = True) -> str:
    return _shown(value, 100.0, ".2f", deviation=deviation)


def _whole(value: Spread | None) -> str:
    return _shown(value, 1.0, ".2f" if value is not None and 0 < value.mean < 10 else ",.0f")


def _shown(value: Spread | None, scale: float, form: str, *, deviation: bool = True) -> str:
    if value is None:
        return _NOTHING
    mean = format(scale * value.mean, form)
    return mean if value.deviation is None or not deviation else f"{mean} ± {format(scale * value.deviation, form)}"


def _plain(found: Mapping[str, Spread | None]) -> dict[str, dict[str, float | int | None] | None]:
    return {name: None if value is None else value.to_dict() for name, value in found.items()}
