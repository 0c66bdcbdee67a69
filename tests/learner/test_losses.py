"""Each loss term against its formula written out, in float64; gradients against finite differences.

Shapes: N = 5 examples, d = 4 features, O = 3 old classes, C = 5 in all.
"""

import math

import pytest
import torch
from torch import Tensor

from accrete_learner.losses import (
    AlignedCrossEntropy,
    AuxiliaryCrossEntropy,
    BalancedDistillation,
    Batch,
    BinaryCrossEntropy,
    BinaryDistillation,
    BlockDistillation,
    CrossEntropy,
    Distillation,
    LessForget,
    MarginRanking,
    MeanSquaredError,
    ScoreMatching,
    SigmoidDistillation,
    Term,
)
from accrete_learner.losses.aligned_cross_entropy import class_weights
from accrete_learner.losses.less_forget import adaptive_weight

OLD, CLASSES, LENGTH = 3, 5, 4
LABELS = torch.tensor([0, 2, 3, 4, 1])
COUNTS = (2, 1, 3, 20, 0)
FRESH = torch.tensor([False, True, True, True, False])


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_batch(**changes: object) -> Batch:
    values: dict[str, object] = {
        "features": random(5, LENGTH, seed=1),
        "scores": random(5, CLASSES, seed=2),
        "rows": random(CLASSES, LENGTH, seed=3),
        "labels": LABELS,
        "fresh": FRESH,
        "class_counts": torch.tensor(COUNTS),
        "old_count": OLD,
        "teacher_features": random(5, LENGTH, seed=4),
        "teacher_scores": random(5, OLD, seed=5),
        "teacher_rows": random(OLD, LENGTH, seed=6),
        "blocks": (1, 2),
    }
    return Batch(**(values | changes))  # type: ignore[arg-type]


def first_step(**changes: object) -> Batch:
    nobody = {"teacher_features": None, "teacher_scores": None, "teacher_rows": None, "blocks": ()}
    return make_batch(old_count=0, **nobody, **changes)


def log_sum(values: list[float]) -> float:
    return math.log(sum(math.exp(value) for value in values))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def assert_close(term: Term, batch: Batch, expected: float) -> None:
    torch.testing.assert_close(term(batch), torch.tensor(expected, dtype=torch.float64))


def test_cross_entropy_is_the_mean_negative_log_probability() -> None:
    batch = make_batch()
    rows = batch.scores.tolist()
    expected = sum(log_sum(row) - row[label] for row, label in zip(rows, LABELS.tolist(), strict=True)) / 5
    assert_close(CrossEntropy(), batch, expected)


def test_cross_entropy_among_new_leaves_old_scores_out_for_new_classes_examples_alone() -> None:
    batch = make_batch()
    expected = 0.0
    for row, label in zip(batch.scores.tolist(), LABELS.tolist(), strict=True):
        expected += log_sum(row[OLD:] if label >= OLD else row) - row[label]
    assert_close(CrossEntropy(among_new=True), batch, expected / 5)


def test_cross_entropy_among_one_new_class_compares_with_all() -> None:
    batch = make_batch(old_count=CLASSES - 1)
    torch.testing.assert_close(CrossEntropy(among_new=True)(batch), CrossEntropy()(batch))
    assert CrossEntropy(among_new=True)(batch) > 0


def test_cross_entropy_among_new_has_a_finite_gradient() -> None:
    scores = random(5, CLASSES, seed=2).requires_grad_()
    torch.autograd.backward(CrossEntropy(among_new=True)(make_batch(scores=scores)))
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()


def summed_bce(rows: list[list[float]], targets: list[list[float]]) -> float:
    total = 0.0
    for row, wanted in zip(rows, targets, strict=True):
        for score, target in zip(row, wanted, strict=True):
            total -= target * math.log(sigmoid(score)) + (1 - target) * math.log(1 - sigmoid(score))
    return total / len(rows)


def test_binary_cross_entropy_sums_over_classes_and_averages_over_examples() -> None:
    batch = make_batch()
    targets = [[float(label == column) for column in range(CLASSES)] for label in LABELS.tolist()]
    assert_close(BinaryCrossEntropy(), batch, summed_bce(batch.scores.tolist(), targets))


def icarl_targets(batch: Batch) -> list[list[float]]:
    assert batch.teacher_scores is not None
    targets = []
    for label, fresh, taught in zip(LABELS.tolist(), FRESH.tolist(), batch.teacher_scores.tolist(), strict=True):
        old = [1.0 if fresh and label == column else sigmoid(taught[column]) for column in range(OLD)]
        targets.append(old + [float(label == column) for column in range(OLD, CLASSES)])
    return targets


def test_binary_distillation_replaces_old_targets_but_keeps_a_fresh_examples_label() -> None:
    batch = make_batch()
    assert_close(BinaryDistillation(), batch, summed_bce(batch.scores.tolist(), icarl_targets(batch)))


def test_binary_distillation_overwrites_an_exemplars_label_with_the_old_networks_answer() -> None:
    batch = make_batch(fresh=torch.zeros(5, dtype=torch.bool))
    other = make_batch(fresh=torch.zeros(5, dtype=torch.bool), labels=torch.tensor([1, 0, 3, 4, 2]))
    torch.testing.assert_close(BinaryDistillation()(batch), BinaryDistillation()(other))


def test_binary_distillation_without_a_teacher_is_binary_cross_entropy() -> None:
    batch = first_step()
    torch.testing.assert_close(BinaryDistillation()(batch), BinaryCrossEntropy()(batch))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_distillation_is_the_weighted_divergence_of_softened_scores(temperature: float) -> None:
    batch = make_batch()
    assert batch.teacher_scores is not None
    expected = 0.0
    for row, taught in zip(batch.scores.tolist(), batch.teacher_scores.tolist(), strict=True):
        answered = [score / temperature for score in row[:OLD]]
        wanted = [score / temperature for score in taught]
        for a, w in zip(answered, wanted, strict=True):
            log_wanted = w - log_sum(wanted)
            expected += math.exp(log_wanted) * (log_wanted - (a - log_sum(answered)))
    assert_close(Distillation(temperature=temperature, weight=3.0), batch, 3 * expected / 5)


def test_distillation_is_zero_where_both_networks_agree() -> None:
    batch = make_batch()
    assert_close(Distillation(), make_batch(teacher_scores=batch.scores[:, :OLD]), 0.0)


def test_less_forget_is_the_adaptive_weight_times_the_mean_distance_in_angle() -> None:
    batch = make_batch()
    assert batch.teacher_features is not None
    pairs = zip(batch.features.tolist(), batch.teacher_features.tolist(), strict=True)
    expected = 5 * math.sqrt(OLD / (CLASSES - OLD)) * sum(1 - cosine(a, b) for a, b in pairs) / 5
    assert_close(LessForget(base=5.0), batch, expected)


def test_less_forget_ignores_the_length_of_features() -> None:
    batch = make_batch()
    assert_close(LessForget(), make_batch(teacher_features=3 * batch.features), 0.0)


@pytest.mark.parametrize(("old", "new", "weight"), [(50, 10, 11.1803), (90, 10, 15.0), (4, 0, 10.0)])
def test_the_adaptive_weight_is_the_papers_and_finite_without_new_classes(old: int, new: int, weight: float) -> None:
    assert adaptive_weight(5.0, old, new) == pytest.approx(weight, abs=1e-4)


def margin_ranking(batch: Batch, hardest: int) -> float:
    hinges: list[float] = []
    for feature, label in zip(batch.features.tolist(), LABELS.tolist(), strict=True):
        if label >= OLD:
            continue
        similar = [cosine(feature, row) for row in batch.rows.tolist()]
        rivals = sorted(similar[OLD:], reverse=True)[:hardest]
        hinges += [max(0.0, 0.5 - similar[label] + rival) for rival in rivals]
    return sum(hinges) / len(hinges)


@pytest.mark.parametrize("hardest", [1, 2])
def test_margin_ranking_averages_over_old_examples_and_their_hardest_new_classes(hardest: int) -> None:
    batch = make_batch()
    assert_close(MarginRanking(margin=0.5, hardest=hardest), batch, margin_ranking(batch, hardest))


def test_margin_ranking_takes_as_many_rivals_as_there_are_new_classes() -> None:
    rows = random(CLASSES, LENGTH, seed=3)[: OLD + 1]
    batch = make_batch(rows=rows, scores=random(5, OLD + 1, seed=2), labels=torch.tensor([0, 2, 3, 3, 1]))
    torch.testing.assert_close(MarginRanking(hardest=2)(batch), MarginRanking(hardest=1)(batch))


def test_margin_ranking_is_zero_for_a_batch_without_old_examples() -> None:
    features = random(5, LENGTH, seed=1).requires_grad_()
    value = MarginRanking()(make_batch(features=features, labels=torch.full((5,), OLD)))
    torch.autograd.backward(value)
    assert value == 0
    assert features.grad is not None
    assert (features.grad == 0).all()


TERMS = [
    CrossEntropy(),
    CrossEntropy(among_new=True),
    BinaryCrossEntropy(),
    BinaryDistillation(),
    Distillation(weight=3.0),
    LessForget(),
    LessForget(adaptive=False),
    MarginRanking(),
    CrossEntropy(share=True),
    Distillation(share=True),
    Distillation(per_old_class=1.0),
    BinaryCrossEntropy(among_new=True),
    BlockDistillation(),
    MeanSquaredError(),
    MeanSquaredError(among_new=True),
    SigmoidDistillation(),
    ScoreMatching(),
    ScoreMatching(on="cosines"),
    ScoreMatching(on="sigmoid"),
    ScoreMatching(on="softmax"),
]


@pytest.mark.parametrize("term", TERMS, ids=lambda term: type(term).__name__)
def test_gradients_match_finite_differences(term: Term) -> None:
    def value(features: Tensor, scores: Tensor, rows: Tensor) -> Tensor:
        # Every input joins in, so that a term that reads only some of them still has a gradient for all.
        joined = 0 * (features.sum() + scores.sum() + rows.sum())
        return term(make_batch(features=features, scores=scores, rows=rows)) + joined

    inputs = (random(5, LENGTH, seed=1), random(5, CLASSES, seed=2), random(CLASSES, LENGTH, seed=3))
    assert torch.autograd.gradcheck(value, tuple(value_.requires_grad_() for value_ in inputs))


@pytest.mark.parametrize("term", TERMS, ids=lambda term: type(term).__name__)
def test_a_term_is_a_finite_scalar_in_float32(term: Term) -> None:
    batch = make_batch()
    halved = {name: getattr(batch, name).float() for name in ("features", "scores", "rows")}
    taught = {name: getattr(batch, name).float() for name in ("teacher_features", "teacher_scores", "teacher_rows")}
    value = term(make_batch(**halved, **taught))
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)


def test_terms_apply_only_where_they_mean_something() -> None:
    first, known_only, usual = (0, 4), (4, 0), (4, 2)
    assert [Distillation().applies(*shape) for shape in (first, known_only, usual)] == [False, True, True]
    assert [LessForget().applies(*shape) for shape in (first, known_only, usual)] == [False, True, True]
    assert [MarginRanking().applies(*shape) for shape in (first, known_only, usual)] == [False, False, True]
    assert all(CrossEntropy().applies(*shape) for shape in (first, known_only, usual))


@pytest.mark.parametrize(
    "term",
    [Distillation(), LessForget(), BlockDistillation(), SigmoidDistillation(), ScoreMatching()],
    ids=lambda term: type(term).__name__,
)
def test_a_term_that_needs_the_old_network_says_so(term: Term) -> None:
    with pytest.raises(ValueError, match="before the step"):
        term(first_step())


def test_block_distillation_takes_each_group_of_classes_for_itself() -> None:
    batch = make_batch()
    assert batch.teacher_scores is not None
    expected = 0.0
    for row, taught in zip(batch.scores.tolist(), batch.teacher_scores.tolist(), strict=True):
        for first, end in ((0, 1), (1, 3)):
            answered, wanted = [score / 2 for score in row[first:end]], [score / 2 for score in taught[first:end]]
            for a, w in zip(answered, wanted, strict=True):
                log_wanted = w - log_sum(wanted)
                expected += math.exp(log_wanted) * (log_wanted - (a - log_sum(answered)))
    assert_close(BlockDistillation(), batch, expected / 5)


def test_a_teacher_that_knows_new_classes_too_distils_them_as_a_group_of_their_own() -> None:
    batch = make_batch(teacher_scores=random(5, CLASSES, seed=5), blocks=(1, 2, 2))
    agreeing = make_batch(teacher_scores=batch.scores, blocks=(1, 2, 2))
    assert BlockDistillation()(batch) > 0
    assert_close(BlockDistillation(), agreeing, 0.0)
    # A shift of one whole group against the others is not seen by it, and is by plain distillation.
    shifted = make_batch(teacher_scores=batch.scores + torch.tensor([0.0, 0, 0, 2, 2]), blocks=(1, 2, 2))
    assert_close(BlockDistillation(), shifted, 0.0)
    assert Distillation()(shifted) > 0.01


def weights(counts: tuple[int, ...], beta: float) -> list[float]:
    """For n examples (1 - beta) / (1 - beta^n), which is 1 / (1 + beta + ... + beta^(n - 1)), 1 on average."""
    own = [1 / sum(beta**power for power in range(max(count, 1))) for count in counts]
    return [weight * len(own) / sum(own) for weight in own]


def test_class_weights_are_the_inverse_of_effective_numbers_of_examples() -> None:
    # One example: 1. Two: 1 / 1.5. Three: 1 / 1.75. None counts as one. Their mean is 0.8095.
    found = class_weights(torch.tensor([1, 2, 3, 0]), 0.5)
    expected = torch.tensor([1.0, 2 / 3, 4 / 7, 1.0], dtype=torch.float64)
    torch.testing.assert_close(found, expected * 4 / (1 + 2 / 3 + 4 / 7 + 1))
    assert class_weights(torch.tensor([1, 500]), 0.0).tolist() == [1.0, 1.0]


def test_aligned_cross_entropy_divides_each_score_by_its_classs_weight() -> None:
    batch, expected = make_batch(), 0.0
    for row, label in zip(batch.scores.tolist(), LABELS.tolist(), strict=True):
        divided = [score / weight for score, weight in zip(row, weights(COUNTS, 0.9), strict=True)]
        expected += log_sum(divided) - divided[label]
    assert_close(AlignedCrossEntropy(beta=0.9), batch, expected / 5)
    alike = make_batch(class_counts=torch.full((5,), 7))
    assert_close(AlignedCrossEntropy(beta=0.9), alike, float(CrossEntropy()(batch)))
    assert_close(AlignedCrossEntropy(beta=0.9), first_step(), float(CrossEntropy()(first_step())))


def test_auxiliary_cross_entropy_is_of_the_new_branchs_scores() -> None:
    scores = random(5, CLASSES, seed=7)
    batch = make_batch(auxiliary_scores=scores)
    assert_close(AuxiliaryCrossEntropy(weight=2.0), batch, 2 * float(CrossEntropy()(make_batch(scores=scores))))
    with pytest.raises(ValueError, match="two branches"):
        AuxiliaryCrossEntropy()(make_batch())


@pytest.mark.parametrize("known", [CLASSES, OLD])
def test_balanced_distillation_weighs_the_teachers_probabilities_by_class(known: int) -> None:
    taught, expected = random(5, known, seed=8), 0.0
    batch = make_batch(teacher_scores=taught)
    for row, wanted in zip(batch.scores.tolist(), taught.tolist(), strict=True):
        own = [score / 2 for score in row[:known]]
        shares = [
            math.exp(score / 2) * weight for score, weight in zip(wanted, weights(COUNTS[:known], 0.9), strict=True)
        ]
        for score, share in zip(own, shares, strict=True):
            target = share / sum(shares)
            expected += target * (math.log(target) - (score - log_sum(own)))
    assert_close(BalancedDistillation(temperature=2.0, beta=0.9), batch, expected / 5)


def test_balanced_distillation_of_classes_with_as_many_examples_is_distillation() -> None:
    batch = make_batch(class_counts=torch.full((5,), 7))
    assert_close(BalancedDistillation(), batch, float(Distillation()(batch)))


def test_shared_weights_are_the_shares_of_new_and_of_old_classes() -> None:
    batch = make_batch()
    assert_close(CrossEntropy(share=True), batch, float(CrossEntropy()(batch)) * 2 / 5)
    assert_close(Distillation(share=True), batch, float(Distillation()(batch)) * 3 / 5)
    assert_close(CrossEntropy(share=True), first_step(), float(CrossEntropy()(first_step())))


def test_distillation_weighted_by_old_classes_grows_with_them() -> None:
    batch = make_batch()
    assert_close(Distillation(per_old_class=0.5), batch, float(Distillation()(batch)) * 1.5)


def test_less_forget_without_adaptation_has_its_base_as_weight() -> None:
    batch = make_batch()
    ratio = float(LessForget()(batch)) / float(LessForget(adaptive=False)(batch))
    assert ratio == pytest.approx(math.sqrt(3 / 2))


def test_binary_losses_among_new_ask_the_new_classes_alone() -> None:
    batch, moved = make_batch(), make_batch(scores=random(5, CLASSES, seed=2) + torch.tensor([1.0, 2, 3, 0, 0]))
    for term in (BinaryCrossEntropy(among_new=True), MeanSquaredError(among_new=True)):
        torch.testing.assert_close(term(batch), term(moved))
    expected = 0.0
    for row, label in zip(batch.scores.tolist(), LABELS.tolist(), strict=True):
        for index in (3, 4):
            p = sigmoid(row[index])
            expected -= math.log(p if index == label else 1 - p)
    assert_close(BinaryCrossEntropy(among_new=True), batch, expected / 5)
    assert_close(BinaryCrossEntropy(among_new=True), first_step(), float(BinaryCrossEntropy()(first_step())))


def test_squared_error_is_between_sigmoids_and_the_label() -> None:
    batch = make_batch()
    expected = sum(
        (sigmoid(score) - (index == label)) ** 2
        for row, label in zip(batch.scores.tolist(), LABELS.tolist(), strict=True)
        for index, score in enumerate(row)
    )
    assert_close(MeanSquaredError(), batch, expected / 5)


def test_sigmoid_distillation_is_the_cross_entropy_with_the_old_answers() -> None:
    batch = make_batch()
    assert batch.teacher_scores is not None
    expected = 0.0
    for row, taught in zip(batch.scores.tolist(), batch.teacher_scores.tolist(), strict=True):
        for score, wanted in zip(row[:OLD], taught, strict=True):
            p, q = sigmoid(score), sigmoid(wanted)
            expected -= q * math.log(p) + (1 - q) * math.log(1 - p)
    assert_close(SigmoidDistillation(), batch, expected / 5)


@pytest.mark.parametrize("on", ["scores", "sigmoid", "softmax", "cosines"])
def test_matched_scores_are_compared_as_what_they_are_or_become(on: str) -> None:
    batch = make_batch()
    assert batch.teacher_scores is not None
    assert batch.teacher_features is not None
    assert batch.teacher_rows is not None
    own, wanted = batch.scores[:, :OLD], batch.teacher_scores
    if on == "cosines":
        own = torch.tensor([[cosine(f, r) for r in batch.rows[:OLD].tolist()] for f in batch.features.tolist()])
        wanted = torch.tensor(
            [[cosine(f, r) for r in batch.teacher_rows.tolist()] for f in batch.teacher_features.tolist()]
        )
    elif on != "scores":
        own, wanted = (torch.sigmoid(it) if on == "sigmoid" else it.softmax(1) for it in (own, wanted))
    value = ScoreMatching(on=on, weight=2.0)(batch)  # type: ignore[arg-type]
    assert float(value) == pytest.approx(2 * float((own - wanted).square().sum()) / 5, rel=1e-5)
