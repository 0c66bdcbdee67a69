"""The figures are drawn, say what they show, and refuse what they cannot show. What they look like is looked at."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib", reason="figures need matplotlib")

from accrete_experiments.protocols import exemplar_figures, figure_style, figures, published
from accrete_experiments.protocols.exemplar_figures import FeatureMap
from accrete_experiments.protocols.results import Run, Scores, Task
from accrete_experiments.protocols.spec import Protocol
from accrete_learner.memory.config import MemoryConfig

PROTOCOL = Protocol(data="cifar100", digest="0", classes=6, base=2, step=2)


def run(method: str, seed: int = 1, *, level: float = 0.5, tasks: int = 3, protocol: Protocol = PROTOCOL) -> Run:
    found = []
    for number in range(1, tasks + 1):
        classes = 2 * number
        hits = tuple(round(100 * level / number) + seed for _ in range(classes))
        scores = {rule: Scores(hits=hits, hits5=hits) for rule in ("head", "nme")}
        found.append(
            Task(
                number=number,
                class_counts=(2,) * number,
                totals=(100,) * classes,
                scores=scores,
                exemplars=0,
                images=1,
                seconds={},
            )
        )
    labels = tuple(map(str, range(6)))
    return Run(method=method, seed=seed, protocol=protocol.to_dict(), labels=labels, tasks=tuple(found))


def words(path: Path) -> str:
    """Of an .svg: matplotlib draws letters as outlines and notes each text beside them."""
    return "\n".join(re.findall(r"<!--(.*?)-->", path.read_text(), re.DOTALL))


def test_curves_name_every_method_its_last_accuracy_and_the_protocol(tmp_path: Path):
    runs = [run("lucir", 1), run("lucir", 3), run("icarl", level=0.3), run("icarl", 3, level=0.3)]
    found = words(figures.accuracy_curves(runs, tmp_path / "curves.svg"))
    for text in (
        "lucir  19.0",
        "icarl  12.0",
        "CNN (head)",
        "NME",
        "Classes seen",
        "per class",
        "2 seeds",
        "deviation",
    ):
        assert text in found


def test_curves_have_a_line_for_chance_and_one_for_joint_training(tmp_path: Path):
    found = words(figures.accuracy_curves([run("lucir")], tmp_path / "curves.svg"))
    assert "chance  16.7" in found
    assert "No joint line: joint was not run." in found.replace("\n", " ")
    found = words(figures.accuracy_curves([run("lucir"), run("joint", level=0.9)], tmp_path / "both.svg"))
    assert "joint  31.0" in found
    assert "No joint line" not in found


def test_the_caption_is_broken_between_its_parts(tmp_path: Path):
    narrow = figure_style.figure(3.6, 3)
    figure_style.footnote(
        narrow, "CIFAR-100, 100 classes; order: seed 1993; memory: 20 exemplars per class; 2 seeds. Bands."
    )
    assert narrow.get_supxlabel().split("\n") == [
        "CIFAR-100, 100 classes; order: seed 1993;",
        "memory: 20 exemplars per class; 2 seeds. Bands.",
    ]


def test_a_picture_for_the_screen_has_two_for_paper_beside_it(tmp_path: Path):
    path = figures.accuracy_curves([run("lucir")], tmp_path / "curves.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    assert b"/Type3" not in path.with_suffix(".pdf").read_bytes()
    assert "lucir" in words(path.with_suffix(".svg"))


def test_one_seed_has_no_band_and_says_none(tmp_path: Path):
    found = words(figures.accuracy_curves([run("lucir")], tmp_path / "one.svg", rules=("head",)))
    assert "lucir  18.0" in found
    assert "deviation" not in found
    assert "NME" not in found


def test_a_single_task_and_many_methods_can_be_drawn(tmp_path: Path):
    at_once = Protocol(data="cifar100", digest="0", classes=2, base=2, step=2)
    runs = []
    for index in range(17):
        one = run(f"method {index}", level=0.4, tasks=1, protocol=at_once)
        runs.append(Run(method=one.method, seed=1, protocol=one.protocol, labels=("a", "b"), tasks=one.tasks))
    found = words(figures.accuracy_curves(runs, tmp_path / "many.svg"))
    assert all(f"method {index}  " in found for index in range(17))


def test_unfinished_runs_are_not_drawn(tmp_path: Path):
    found = words(figures.accuracy_curves([run("lucir"), run("icarl", tasks=2)], tmp_path / "curves.svg"))
    assert "icarl" not in found


def test_memories_of_different_kinds_share_no_figure(tmp_path: Path):
    other = Protocol(data="cifar100", digest="0", classes=6, base=2, step=2, memory=MemoryConfig(kind="total", size=20))
    with pytest.raises(ValueError, match="one protocol"):
        figures.accuracy_curves([run("lucir"), run("icarl", protocol=other)], tmp_path / "none.png")


@pytest.mark.parametrize("runs", [[], [run("lucir", tasks=1)]])
def test_without_a_finished_run_there_is_no_curve(tmp_path: Path, runs: list[Run]):
    with pytest.raises(ValueError, match="finished"):
        figures.accuracy_curves(runs, tmp_path / "none.png")


def test_a_rule_that_nobody_was_measured_by_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="svm"):
        figures.accuracy_curves([run("lucir")], tmp_path / "none.png", rules=("svm",))


def test_the_same_figure_is_the_same_file(tmp_path: Path):
    first = figures.accuracy_curves([run("lucir")], tmp_path / "a" / "curves.svg")
    second = figures.accuracy_curves([run("lucir")], tmp_path / "b" / "curves.svg")
    assert first.read_bytes() == second.read_bytes()


def test_confusion_counts_true_down_and_predicted_across():
    found = figures.confusion(np.array([0, 0, 2, 2, 2]), np.array([0, 1, 2, 2, 0]), 3)
    assert found.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 2]]
    assert figures.confusion(np.empty(0, np.int64), np.empty(0, np.int64), 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_confusion_matrices_are_drawn_side_by_side(tmp_path: Path, count: int):
    matrices = {f"method {index}": np.eye(5, dtype=np.int64) * index for index in range(count)}
    path = figures.confusion_matrices(matrices, tmp_path / "confusion.svg", class_counts=(3, 1, 1))
    assert all(title in words(path) for title in matrices)


def test_few_classes_have_their_names_and_fewer_their_numbers(tmp_path: Path):
    matrix = np.array([[199, 1, 0], [30, 170, 0], [0, 0, 0]])
    path = tmp_path / "confusion.svg"
    three = ("ant", "bee", "cat")
    found = words(figures.confusion_matrices({"lucir": matrix}, path, class_counts=(2, 1), names=three))
    assert [found.split("\n").count(f" {name} ") for name in three] == [2, 2, 2]
    assert {" 100 ", " &lt;1 ", " 15 ", " 85 "} <= set(found.split("\n"))
    many = np.eye(13, dtype=np.int64)
    names = tuple(f"class {index}" for index in range(13))
    found = words(figures.confusion_matrices({"lucir": many}, path, class_counts=(13,), names=names))
    assert "class 1" not in found


@pytest.mark.parametrize("counts", [(3, 1), (5, 1)])
def test_a_matrix_of_another_size_is_refused(tmp_path: Path, counts: tuple[int, ...]):
    with pytest.raises(ValueError, match="as many classes as arrived"):
        figures.confusion_matrices({"lucir": np.eye(5)}, tmp_path / "none.png", class_counts=counts)


def test_a_projection_keeps_classes_together_and_comes_again():
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(3), 12)
    features = np.eye(8)[classes] + rng.normal(0, 0.05, (36, 8))
    points = exemplar_figures.project(features, seed=1)
    assert np.array_equal(points, exemplar_figures.project(features * 3.0, seed=1))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag(np.full(36, np.inf))
    assert (classes[distances.argmin(axis=1)] == classes).all()


def test_too_few_examples_are_not_projected():
    with pytest.raises(ValueError, match="at least 4"):
        exemplar_figures.project(np.ones((3, 8)), seed=1)


def test_maps_name_their_classes_once(tmp_path: Path):
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(9), 4)
    found = FeatureMap(points=rng.normal(size=(36, 2)), classes=classes, exemplar=np.arange(36) % 4 == 0)
    names = tuple(f"class {index}" for index in range(9))
    path = exemplar_figures.feature_maps({"herding": found, "random": found}, names, tmp_path / "map.svg")
    assert [words(path).count(name) for name in (*names, "herding", "random")] == [1] * 11


def test_names_of_classes_are_no_formulas_and_none_is_left_out(tmp_path: Path):
    names = ("$a_{$", "5 $ x $", "_other")
    matrix = np.eye(3, dtype=np.int64)
    path = tmp_path / "confusion.svg"
    found = words(figures.confusion_matrices({"lucir": matrix}, path, class_counts=(3,), names=names))
    assert [found.split("\n").count(f" {name} ") for name in names] == [2, 2, 2]
    points = np.random.default_rng(0).normal(size=(12, 2))
    one = FeatureMap(points=points, classes=np.repeat(np.arange(3), 4), exemplar=np.arange(12) % 4 == 0)
    found = words(exemplar_figures.feature_maps({"herding": one}, names, tmp_path / "map.svg"))
    assert [found.count(name) for name in names] == [1, 1, 1]


def test_a_picture_says_which_classes_it_leaves_out(tmp_path: Path):
    found = FeatureMap(points=np.ones((1, 2)), classes=np.zeros(1, int), exemplar=np.zeros(1, bool))
    note = "The first 12 classes to arrive, of 100."
    path = exemplar_figures.feature_maps({"one": found}, ("ant",), tmp_path / "map.svg", note=note)
    assert note in words(path)
    rows = {"one": np.zeros((1, 8, 8, 3), np.uint8)}
    assert note in words(exemplar_figures.gallery(rows, tmp_path / "gallery.svg", note=note))


def test_a_map_may_have_a_class_without_an_exemplar(tmp_path: Path):
    none = FeatureMap(points=np.ones((1, 2)), classes=np.zeros(1, int), exemplar=np.zeros(1, bool))
    assert exemplar_figures.feature_maps({"none": none}, ("ant",), tmp_path / "map.png").exists()


def test_maps_of_nothing_or_of_unequal_lengths_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no map"):
        exemplar_figures.feature_maps({}, (), tmp_path / "none.png")
    with pytest.raises(ValueError, match="points must be"):
        FeatureMap(points=np.ones((2, 2)), classes=np.zeros(3, int), exemplar=np.zeros(3, bool))


def test_a_gallery_shows_images_of_every_form_and_its_pixels(tmp_path: Path):
    red = np.zeros((3, 8, 8, 3), np.uint8)
    red[..., 0] = 200
    rows = {"chosen": red, "made": red.astype(np.float16)[:1] - 0.3, "grey": red[..., :1], "none": red[:0]}
    path = exemplar_figures.gallery(rows, tmp_path / "gallery.png", columns=("ant", "ant", "bee"))
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    for shade in ((200, 0, 0), (200, 200, 200)):
        assert (pixels == shade).all(axis=1).sum() > 1000
    words_of = words(exemplar_figures.gallery(rows, tmp_path / "gallery.svg", columns=("ant", "ant", "bee")))
    assert [words_of.count(text) for text in ("ant", "bee", "chosen", "made", "grey")] == [1] * 5


@pytest.mark.parametrize("rows", [{}, {"none": np.empty((0, 8, 8, 3), np.uint8)}, {"flat": np.zeros((3, 8), np.uint8)}])
def test_a_gallery_without_images_is_refused(tmp_path: Path, rows: dict[str, np.ndarray]):
    with pytest.raises(ValueError, match=r"no exemplar|must be"):
        exemplar_figures.gallery(rows, tmp_path / "none.png")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], []),
        ([5.0], [5.0]),
        ([0.0, 10.0], [0.0, 10.0]),
        ([3.0, 3.0], [2.5, 3.5]),
        ([3.2, 3.0], [3.6, 2.6]),
        ([0.0, 0.9, 1.8], [-0.1, 0.9, 1.9]),
    ],
)
def test_labels_are_moved_apart_no_further_than_needed(wanted: list[float], expected: list[float]):
    assert figure_style.apart(wanted, 1.0) == pytest.approx(expected)


def test_labels_moved_apart_keep_their_order_and_their_distance():
    wanted = np.random.default_rng(0).normal(size=40).tolist()
    placed = figure_style.apart(wanted, 0.2)
    order = np.argsort(wanted)
    assert (np.diff(np.array(placed)[order]) >= 0.2 - 1e-9).all()


def test_every_thing_has_its_own_look():
    looks = {(figure_style.color(n), figure_style.marker(n), figure_style.dashes(n)) for n in range(28)}
    assert len(looks) == 28


PUBLISHED = """name,rule,classes,percent
"LUCIR, its paper",head,6,54.3
iCaRL,nme,4,47.0
of another rule,knn,6,1
of more classes,head,100,2
"""


def test_published_points_stand_beside_the_curves_of_their_rule(tmp_path: Path):
    (tmp_path / "published.csv").write_text(PUBLISHED)
    points = published.read(tmp_path / "published.csv")
    drawn = figures.accuracy_curves([run("lucir")], tmp_path / "curves.svg", published=points)
    found = words(drawn)
    assert found.count("LUCIR, its paper  54.3") == 1
    assert found.count("iCaRL  47.0") == 1
    assert "Hollow: published." in found.replace("\n", " ")
    assert "of another rule" not in found
    assert "of more classes" not in found
    assert "Hollow" not in words(figures.accuracy_curves([run("lucir")], tmp_path / "alone.svg"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 0: the first line must be name,rule,classes,percent"),
        ("name,rule\n", "line 1: the first line must be name,rule,classes,percent"),
        ("name,rule,classes,percent\nLUCIR,head,many,54\n", "line 2: invalid literal"),
        ("name,rule,classes,percent\nLUCIR,head,100,54\niCaRL,head,100,154\n", "line 3: percent = 154.0"),
        ("name,rule,classes,percent\nLUCIR,head,0,54\n", "line 2: classes = 0"),
        ("name,rule,classes,percent\nLUCIR,head,100\n", "line 2: name, rule, classes, percent are needed"),
        ("name,rule,classes,percent\nLUCIR,head,100,54,1\n", "line 2: name, rule, classes, percent are needed"),
        ("name,rule,classes,percent\n,head,100,54\n", "line 2: name, rule, classes, percent are needed"),
    ],
)
def test_what_is_no_published_point_is_refused_with_its_line(tmp_path: Path, text: str, said: str):
    (tmp_path / "published.csv").write_text(text)
    with pytest.raises(ValueError, match=re.escape(said)):
        published.read(tmp_path / "published.csv")
