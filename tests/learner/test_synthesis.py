"""Exemplars that are made: collages show four examples each, inverted images are what the network takes them for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accrete_learner.augmentation.augment import build as augmentation
from accrete_learner.backbones import Backbone, build
from accrete_learner.config import ModelConfig
from accrete_learner.heads import LinearHead
from accrete_learner.losses import CrossEntropy
from accrete_learner.memory.exemplars import Candidates
from accrete_learner.synthesis.base import SYNTHESISED, Picked
from accrete_learner.synthesis.collage import Collage
from accrete_learner.synthesis.inversion import Inversion
from accrete_learner.synthesis.recipes import recipe
from accrete_learner.training.loop import TrainingSet, train
from accrete_learner.training.network import Network
from accrete_learner.training.schedule import Schedule
from benchmarks.digits import scans_of

pytestmark = pytest.mark.integration

CLASSES = 4


def digits() -> tuple[Tensor, Tensor]:
    x, y = scans_of(range(CLASSES), 40)
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.fixture(scope="module")
def trained() -> Network:
    generator = torch.Generator().manual_seed(1)
    backbone = build(ModelConfig(backbone="resnet8", input_size=8, channels=1), generator=generator)
    rows = torch.randn(CLASSES, backbone.feature_length, generator=generator) / 10
    head = LinearHead(rows[:0], rows, torch.zeros(0), torch.zeros(CLASSES))
    network = Network(backbone, head)
    x, y = digits()
    train(
        network,
        TrainingSet(x=x, y=y, fresh=torch.ones(len(y), dtype=torch.bool)),
        [CrossEntropy()],
        Schedule(epochs=12, learning_rate=0.05, batch_size=32),
        augmentation=augmentation("crop"),
        generator=generator,
        report=lambda *_: None,
    )
    network.zero_grad(set_to_none=True)
    return network


def given(
    network: Network,
    *,
    x: Tensor | None = None,
    y: Tensor | None = None,
    per_class: int = 5,
    seed: int = 3,
    teacher: Network | None = None,
    reports: list[tuple[int, int]] | None = None,
) -> Picked:
    """All classes fresh; the first `per_class` examples of each are the picks."""
    if x is None or y is None:
        x, y = digits()
    noted: list[tuple[int, int]] = [] if reports is None else reports
    count = int(y.max()) + 1
    return Picked(
        network=network,
        teacher=teacher,
        candidates=Candidates(x=x, y=y, kept_count=0),
        memory=tuple((y == label).nonzero().squeeze(1)[:per_class] for label in range(count)),
        fresh_classes=tuple(sorted(set(y.tolist()))),
        augmentation=augmentation("crop"),
        generator=torch.Generator().manual_seed(seed),
        report=lambda done, total, loss: noted.append((done, total)),
    )


@pytest.fixture(params=["collage_resized", "inversion_noise", "inversion_images", "adaptive_herding"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def quick(name: str) -> object:
    return recipe(name, iterations=3).synthesis  # type: ignore[arg-type]


@pytest.mark.parametrize("counts", [(1,), (5, 5), (1, 9, 3), (0, 4)])
def test_never_more_of_a_class_than_were_picked_in_the_images_own_form(
    trained: Network, name: str, counts: tuple[int, ...]
) -> None:
    every_x, every_y = digits()
    rows = torch.cat([(every_y == label).nonzero().squeeze(1)[:count] for label, count in enumerate(counts)])
    picked = given(trained, x=every_x[rows], y=every_y[rows], per_class=4)
    made = quick(name)(picked)  # type: ignore[operator]
    assert set(made) == {label for label, count in enumerate(counts) if count}
    for label, exemplars in made.items():
        assert len(exemplars) == min(4, counts[label])
        assert exemplars.x.shape == (len(exemplars), 8, 8, 1)
        assert exemplars.x.dtype == torch.uint8


def test_the_same_seed_makes_the_same(trained: Network, name: str) -> None:
    first, again = quick(name)(given(trained)), quick(name)(given(trained))  # type: ignore[operator]
    other = quick(name)(given(trained, seed=4))  # type: ignore[operator]
    assert all(torch.equal(first[label].x, again[label].x) for label in first)
    assert any(not torch.equal(first[label].x, other[label].x) for label in first)


def test_classes_without_new_examples_keep_what_they_have(trained: Network, name: str) -> None:
    picked = replace(given(trained), fresh_classes=(1, 3))
    assert set(quick(name)(picked)) == {1, 3}  # type: ignore[operator]


def test_vectors_are_refused(trained: Network, name: str) -> None:
    with pytest.raises(ValueError, match="images"):
        quick(name)(given(trained, x=torch.ones(4, 6), y=torch.zeros(4, dtype=torch.int64)))  # type: ignore[operator]


def test_the_last_report_says_that_all_is_done(trained: Network, name: str) -> None:
    reports: list[tuple[int, int]] = []
    recipe(name, iterations=20).synthesis(given(trained, reports=reports))  # type: ignore[arg-type, misc]
    assert reports[-1][0] == reports[-1][1] > 0


# Collages.


def numbered(count: int, height: int = 8, width: int = 8) -> tuple[Tensor, Tensor]:
    """Images of one grey level each, which is their number."""
    x = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, height, width, 3).contiguous()
    return x, torch.zeros(count, dtype=torch.int64)


@pytest.mark.parametrize("kind", ["resized", "random_crop", "centre_crop"])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9)])
def test_a_collage_shows_four_examples_and_all_collages_different_ones(
    trained: Network, kind: str, height: int, width: int
) -> None:
    x, y = numbered(30, height, width)
    made = Collage(kind=kind)(given(trained, x=x, y=y, per_class=5))[0]  # type: ignore[arg-type]
    halves = [slice(0, height // 2), slice(height // 2, height)], [slice(0, width // 2), slice(width // 2, width)]
    shown = []
    for collage in made.x:
        for rows in halves[0]:
            for columns in halves[1]:
                tile = collage[rows, columns]
                assert (tile == tile[0, 0, 0]).all()
                shown.append(int(tile.flatten()[0]))
    assert len(set(shown)) == 20
    assert shown[::4] == [0, 1, 2, 3, 4]
    assert (made.source == SYNTHESISED).all()
    assert made.shown is not None
    assert made.shown.flatten().tolist() == shown


def test_a_class_without_enough_examples_repeats_some(trained: Network) -> None:
    x, y = numbered(3)
    made = Collage(kind="resized")(given(trained, x=x, y=y, per_class=2))[0]
    assert set(made.x.flatten().tolist()) == {0, 1, 2}


def test_a_resized_tile_is_the_average_over_its_area_and_a_centre_crop_the_middle(trained: Network) -> None:
    x = torch.randint(256, (1, 8, 8, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    y = torch.zeros(1, dtype=torch.int64)
    resized = Collage(kind="resized")(given(trained, x=x, y=y))[0].x[0, :4, :4]
    expected = x[0].float().view(4, 2, 4, 2, 3).mean(dim=(1, 3)).round().to(torch.uint8)
    assert torch.equal(resized, expected)
    middle = Collage(kind="centre_crop")(given(trained, x=x, y=y))[0].x[0, 4:, 4:]
    assert torch.equal(middle, x[0, 2:6, 2:6])


def test_a_collage_of_exemplars_with_fractions_keeps_them(trained: Network) -> None:
    x, y = numbered(8)
    made = Collage(kind="resized")(given(trained, x=x.half() + 0.25, y=y, per_class=2))[0]
    assert made.x.dtype == torch.float16
    assert made.x.min() == 0.25


# Inversion.


def answers(network: Network, x: Tensor) -> Tensor:
    with torch.no_grad():
        scores: Tensor = network(network.backbone.prepare(x))[1]
        return scores


def test_what_begins_as_noise_ends_as_what_the_network_takes_for_the_class(trained: Network) -> None:
    made = Inversion(start="noise")(given(trained))
    x, y = torch.cat([own.x for own in made.values()]), torch.arange(CLASSES).repeat_interleave(5)
    assert (answers(trained, x).argmax(1) == y).sum() >= 18, "of 20"
    assert all((own.source == SYNTHESISED).all() for own in made.values())


def test_features_come_to_lie_as_in_training(trained: Network) -> None:
    def distance(x: Tensor) -> float:
        """Of the first layer's batch mean from the running one."""
        network: Any = trained.backbone.network
        out = network.conv1(trained.backbone.prepare(x)).mean(dim=(0, 2, 3))
        return float((out - network.bn1.running_mean).norm().detach())

    few = Inversion(start="noise", iterations=1)(given(trained))
    many = Inversion(start="noise", iterations=60)(given(trained))
    assert distance(torch.cat([own.x for own in many.values()])) < distance(torch.cat([own.x for own in few.values()]))


def test_the_network_is_left_as_it_was(trained: Network) -> None:
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    wanted = [parameter.requires_grad for parameter in trained.parameters()]
    Inversion(start="images", iterations=3, adaptive=True)(given(trained, teacher=trained.teacher()))
    assert all(torch.equal(before[name], tensor) for name, tensor in trained.state_dict().items())
    assert not trained.training
    assert [parameter.requires_grad for parameter in trained.parameters()] == wanted
    assert all(parameter.grad is None for parameter in trained.parameters())
    network: Any = trained.backbone.network
    assert not network.bn1._forward_hooks


def test_herded_starts_keep_their_source_and_are_not_far_from_it(trained: Network) -> None:
    picked = given(trained)
    made = Inversion(start="herding", iterations=3)(picked)
    for label, own in made.items():
        assert torch.equal(own.source, picked.memory[label])
        assert (own.x.float() - picked.candidates.x[own.source].float()).abs().mean() < 40


def test_the_competition_counts_when_there_is_a_network_before(trained: Network) -> None:
    teacher = trained.teacher()
    teacher.head = LinearHead(
        -trained.head.weight[:2].detach(), trained.head.weight[:0].detach(), torch.zeros(2), torch.zeros(0)
    )
    plain, adaptive = (Inversion(start="noise", iterations=40, adaptive=adaptive) for adaptive in (False, True))
    alone, against = plain(given(trained, teacher=teacher)), adaptive(given(trained, teacher=teacher))
    assert any(not torch.equal(alone[label].x, against[label].x) for label in alone)
    first = adaptive(given(trained))
    assert all(torch.equal(alone[label].x, first[label].x) for label in alone)


class Plain(nn.Module):
    """A network without batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 6)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layer(x.flatten(1)))


def test_a_backbone_without_batch_normalisation_has_no_features_to_feel() -> None:
    torch.manual_seed(0)
    backbone = Backbone(Plain(), 6, (8, 8, 1), torch.tensor([0.5]), torch.tensor([0.25]))
    rows = torch.randn(CLASSES, 6)
    network = Network(backbone, LinearHead(rows[:0], rows, torch.zeros(0), torch.zeros(CLASSES))).eval()
    made = Inversion(start="noise", iterations=40)(given(network))
    assert len(made) == CLASSES


def test_a_black_image_does_not_break_the_gradient(trained: Network) -> None:
    x, y = torch.zeros(2, 8, 8, 1, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    made = Inversion(start="herding", iterations=3)(given(trained, x=x, y=y))[0]
    assert made.x.float().std() > 0
