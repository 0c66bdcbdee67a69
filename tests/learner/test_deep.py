"""Deep steps in the trainer: the comparison, the training, and what is left in the folder. On digits of 32 x 32."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from accrete_learner.backbones.efficientnet import SameConv2d
from accrete_learner.config import DeepConfig, MethodConfig, ModelConfig, TrainingConfig
from accrete_learner.deep import job, training
from accrete_learner.deep.comparison import Comparison, answerer, compare
from accrete_learner.deep.images import Images
from accrete_learner.deep.job import DeepJob, DeepResult
from accrete_learner.deep.refusal import missing, refusal
from accrete_learner.deep.run_deep import run_deep
from accrete_learner.frozen_backbone import frozen_backbone
from accrete_model.config import EngineConfig
from accrete_model.engines.onnxruntime_ import GraphEngine
from accrete_model.frozen import FrozenBackbone
from accrete_model.frozen.backbone import CARD_FILE
from benchmarks.digits import scans_of

MODEL = ModelConfig(backbone="efficientnet_lite0", input_size=32)


def photographs(digits: range, each: int, skip: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Digits as colour images [n, 32, 32, 3]."""
    images, y = scans_of(digits, each, skip)
    return images.repeat(4, axis=1).repeat(4, axis=2).repeat(3, axis=3), y


def engine(backbone: FrozenBackbone) -> GraphEngine:
    return GraphEngine(backbone.graph, EngineConfig(device="cpu", threads=1))


@functools.cache
def frozen() -> FrozenBackbone:
    return frozen_backbone(MODEL)


@functools.cache
def tensors() -> dict[str, np.ndarray]:
    """Twenty digits of each of four kinds, a fifth of which judge."""
    x, y = photographs(range(4), 20)
    judges = np.arange(len(y)) % 5 == 0
    features = engine(frozen()).run(x).astype(np.float16)
    return {
        job.INPUT_DATA: x.reshape(-1),
        job.INPUT_ENDS: np.arange(1, len(x) + 1) * x[0].size,
        job.INPUT_ENCODED: np.zeros(len(x), bool),
        job.INPUT_Y: y,
        job.INPUT_JUDGES: judges,
        job.INPUT_KNOWN_X: features[~judges],
        job.INPUT_KNOWN_Y: y[~judges],
        job.INPUT_KNOWN_JUDGES: features[judges],
    }


def staged(folder: Path, **options: float) -> DeepJob:
    """Writes a job."""
    save_file(tensors(), folder / job.INPUTS_FILE)
    minutes = options.pop("max_minutes", None)
    told = DeepJob(
        model=MODEL,
        training=TrainingConfig(device="cpu", threads=1, max_minutes=minutes),
        deep=DeepConfig(margin=0.0, **options),  # type: ignore[arg-type]
    )
    told.write(folder)
    return DeepJob.read(folder)


def test_a_tuned_backbone_is_written_with_the_features_that_it_gives(tmp_path: Path):
    told: list[tuple[str, int, int]] = []
    notes: list[str] = []
    result = run_deep(
        tmp_path,
        staged(tmp_path, epochs=2),
        lambda stage, done, total, loss: told.append((stage, done, total)),
        notes.append,
    )
    assert DeepResult.read(tmp_path) == result
    assert result.epochs == 2
    assert notes == [result.note] == ["2 epochs of 64 images"]
    assert "on 16 images that training did not see" in result.reason
    assert ("deep training", 128, 128) in told
    assert ("deep features", 80, 80) in told

    files = tmp_path / job.BACKBONE_FOLDER
    tuned = FrozenBackbone.from_card((files / CARD_FILE).read_bytes(), (files / "graph.onnx").read_bytes())
    assert tuned.tuned_from == frozen().digest != tuned.digest
    features = load_file(tmp_path / job.FEATURES_FILE)["features"]
    x, _ = photographs(range(4), 20)
    assert np.abs(engine(tuned).run(x[:8]) - features[:8]).max() < 1e-5
    assert np.abs(np.linalg.norm(features, axis=1) - 1).max() < 1e-3
    assert np.abs(engine(frozen()).run(x[:8]) - features[:8]).max() > 1e-3, "it was trained"


def test_what_does_not_fit_into_the_time_is_left_out_and_said(tmp_path: Path):
    result = run_deep(tmp_path, staged(tmp_path, epochs=10_000, max_minutes=0.03), lambda *_: None, print)
    assert 0 < result.epochs < 10_000
    assert result.note.startswith("10000 epochs of 64 images would take ")
    assert result.note.endswith(" fit 2 s")


def test_the_rate_rises_and_comes_to_nothing():
    rates = [training.rate(step / 1000) for step in range(1001)]
    assert 0 < rates[0] < 0.02 * training.RATE
    assert max(rates) == pytest.approx(training.RATE, rel=1e-3)
    assert abs(np.argmax(rates) - 1000 * training.WARM_UP) <= 1
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_a_crop_is_a_part_of_the_image_and_may_be_mirrored():
    ramp = torch.linspace(0, 1, 32).expand(64, 3, 32, 32).contiguous()
    changed = training.augmented(ramp, torch.Generator().manual_seed(1))
    assert changed.shape == ramp.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    slopes = changed[:, 0, 16, -1] - changed[:, 0, 16, 0]
    assert 10 < (slopes < 0).sum() < 54, "some are mirrored"
    sides = slopes.abs()
    assert sides.min() > 0.5
    assert sides.max() > 0.9
    assert training.augmented(ramp, torch.Generator().manual_seed(1)).equal(changed)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_a_filter_per_channel_has_in_bfloat16_the_gradients_of_float32(kernel: int, stride: int):
    generator = torch.Generator().manual_seed(1)
    layer = SameConv2d(8, 8, kernel, stride=stride, groups=8)
    x = torch.randn((2, 8, 14, 14), generator=generator).bfloat16()
    found = {}
    for dtype in (torch.bfloat16, torch.float32):
        image = x.detach().to(dtype).clone().requires_grad_()
        filtered = layer(image)
        weighed = torch.randn(filtered.shape, generator=torch.Generator().manual_seed(2)).bfloat16().to(dtype)
        of_image, of_weight = torch.autograd.grad(filtered, [image, layer.weight], weighed)
        assert filtered.dtype == of_image.dtype == dtype
        assert of_weight.dtype == torch.float32
        found[dtype] = [filtered.float(), of_image.float(), of_weight]
    for one, other in zip(*found.values(), strict=True):
        assert (one - other).abs().max() < 0.02 * other.abs().max()


def test_images_are_decoded_as_they_were_stored():
    x, _ = photographs(range(2), 1)
    buffer = io.BytesIO()
    Image.fromarray(x[1]).save(buffer, "JPEG", quality=95, subsampling=0)
    stored = np.frombuffer(x[0].tobytes() + buffer.getvalue(), np.uint8)
    arrays = {
        job.INPUT_DATA: stored,
        job.INPUT_ENDS: np.array([x[0].size, len(stored)]),
        job.INPUT_ENCODED: np.array([False, True]),
    }
    images = Images.of(arrays, (32, 32, 3))
    assert len(images) == 2
    second, first = images.batch(np.array([1, 0]))
    assert np.array_equal(first, x[0])
    assert np.abs(second.astype(int) - x[1]).mean() < 5


def test_a_gain_counts_when_it_is_large_enough_and_sure():
    sure = Comparison(total=200, before=150, after=160, gained=12, lost=2)
    assert sure.gain == pytest.approx(0.05)
    # Deviation of the mean of 12 ones, 2 minus ones and 186 zeros.
    assert sure.least == pytest.approx(0.05 - 1.645 * np.sqrt((14 / 200 - 0.05**2) / 200))
    assert sure.is_better(0.05)
    assert not sure.is_better(0.051)
    unsure = Comparison(total=200, before=150, after=154, gained=24, lost=20)
    assert unsure.gain == pytest.approx(0.02)
    assert not unsure.is_better(0.01)
    assert unsure.is_better(0.0)
    assert unsure.is_better(-0.01)
    worse = Comparison(total=200, before=154, after=150, gained=20, lost=24)
    assert worse.is_better(-0.02)
    assert not worse.is_better(-0.01)
    assert not worse.is_better(0.0)
    same = Comparison(total=559, before=546, after=546, gained=6, lost=6)
    assert same.is_better(0.0)
    assert not Comparison(total=0, before=0, after=0, gained=0, lost=0).is_better(0.0)
    assert sure.describe().startswith("+5.0 points on 200 images")


def test_both_answer_the_same_images():
    generator = np.random.default_rng(1)
    y = np.arange(60) % 3
    good = np.eye(3, 8)[y] + 0.1 * generator.standard_normal((60, 8))
    poor = generator.standard_normal((60, 8))
    x, z = good.astype(np.float32), poor.astype(np.float32)
    found = compare(answerer(z[:45], y[:45], 1), answerer(x[:45], y[:45], 1), z[45:], x[45:], y[45:])
    assert (found.total, found.after) == (15, 15)
    assert found.after - found.before == found.gained - found.lost


@pytest.mark.parametrize(
    ("model", "method", "deep", "said"),
    [
        (MODEL, "analytic", "auto", ""),
        (MODEL, "analytic", "off", "deep.steps = 'off'"),
        (MODEL, "lucir", "auto", "method.name = 'lucir'"),
        (ModelConfig(backbone="identity", embedding=4), "analytic", "auto", "model.backbone = 'identity'"),
    ],
)
def test_who_cannot_have_one_is_told_why(model: ModelConfig, method: str, deep: str, said: str):
    found = refusal(model, MethodConfig(name=method), DeepConfig(steps=deep))  # type: ignore[arg-type]
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_a_machine_without_the_memory_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("accrete_learner.deep.refusal.free_memory", lambda: 2_000_000_000)
    assert missing(MODEL) == ""
    large = ModelConfig(backbone="efficientnet_lite0")
    assert missing(large) == "a deep step takes about 3.0 GB of memory, and 2.0 GB are free"
    monkeypatch.setattr("accrete_learner.deep.refusal.free_memory", lambda: None)
    assert missing(large) == ""


def test_a_job_that_is_none_is_refused(tmp_path: Path):
    (tmp_path / job.JOB_FILE).write_text('{"model": {}}')
    with pytest.raises(ValueError, match="is not a deep step"):
        DeepJob.read(tmp_path)
    (tmp_path / job.RESULT_FILE).write_text('{"better": true}')
    with pytest.raises(ValueError, match="is not a result"):
        DeepResult.read(tmp_path)
