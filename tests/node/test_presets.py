"""A preset stands below all that is set, and a data directory keeps the one that it was begun with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from accrete_node import presets
from accrete_node.backup import back_up, restore
from accrete_node.processes import begin_data_dir
from accrete_node.settings import Settings, SettingsError, load_settings
from accrete_node.weights import check_weights
from accrete_storage.embedded.server import EmbeddedStore


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("ACCRETE_")]:
        monkeypatch.delenv(name)
    return tmp_path / "data"


def settings(data_dir: Path, **flags: object) -> Settings:
    return load_settings({"data_dir": str(data_dir), **flags})


def test_with_nothing_set_photographs_are_learned_at_once(data_dir: Path):
    found = settings(data_dir)
    assert (found.preset, found.method.name, found.model.backbone) == ("photographs", "analytic", "efficientnet_lite0")
    assert (found.model.input_size, found.model.shorter_side) == (224, 256), "the backbone brings its own form"
    assert (found.holdout.share, found.trigger.min_examples) == (0.0, 1)
    assert found.server.unknown_rate > 0


def test_flags_and_environment_and_file_win_over_the_preset(data_dir: Path, monkeypatch: pytest.MonkeyPatch):
    data_dir.mkdir()
    (data_dir / "accrete.toml").write_text('preset = "digits"\n[model]\ninput_size = 12\n[training]\nepochs = 3\n')
    monkeypatch.setenv("ACCRETE_MODEL__INPUT_SIZE", "16")
    found = settings(data_dir, training={"base_epochs": "7"})
    assert (found.model.backbone, found.model.input_size, found.model.channels) == ("resnet8", 16, 1)
    assert (found.training.epochs, found.training.base_epochs, found.training.augmentation) == (3, 7, "crop")


def test_each_preset_gives_settings_that_can_be_used(data_dir: Path):
    for name in ("photographs", "digits", "cifar"):
        found = settings(data_dir, preset=name)
        check_weights(found)
        assert found.preset == name
    found = settings(data_dir, preset="embeddings", model={"embedding": 512})
    assert (found.input_spec.shape, found.method.name) == ((512,), "analytic")
    with pytest.raises(SettingsError, match=r"model\.embedding = 0: must be 1 to 65536"):
        settings(data_dir, preset="embeddings")
    with pytest.raises(SettingsError, match=r"preset = 'photos'"):
        settings(data_dir, preset="photos")


def test_another_method_than_the_closed_form_gets_its_own_way_of_learning(data_dir: Path):
    found = settings(data_dir, method={"name": "lucir"})
    assert (found.method.name, found.model.backbone) == ("lucir", "efficientnet_lite0")
    assert found.holdout.share > 0
    assert found.trigger.min_examples > 1


def test_a_closed_form_on_a_network_without_weights_is_refused_with_what_to_do(data_dir: Path):
    with pytest.raises(SettingsError, match=r"model\.backbone = 'resnet8': .* preset = 'digits' or 'cifar'"):
        check_weights(settings(data_dir, model={"backbone": "resnet8"}))


def test_a_data_directory_keeps_what_it_was_begun_with(data_dir: Path):
    begin_data_dir(settings(data_dir, preset="digits"))
    assert settings(data_dir).preset == "digits"
    assert settings(data_dir).model.backbone == "resnet8"
    begin_data_dir(settings(data_dir))
    assert settings(data_dir, preset="digits").preset == "digits"
    with pytest.raises(SettingsError, match=r"preset = 'cifar': .* was begun with 'digits'; leave it out"):
        settings(data_dir, preset="cifar")


def test_a_data_directory_from_before_presets_goes_on_as_it_was(data_dir: Path):
    (data_dir / "versions").mkdir(parents=True)
    found = settings(data_dir)
    assert (found.preset, found.method.name, found.model.backbone) == ("cifar", "lucir", "resnet32")
    begin_data_dir(found)
    assert presets.begun_with(data_dir) == "cifar"


def test_a_data_directory_of_a_preset_that_is_not_known_is_refused(data_dir: Path):
    data_dir.mkdir()
    (data_dir / presets.FILE_NAME).write_text("sounds\n")
    command = [sys.executable, "-m", "accrete", "up", "--data-dir", str(data_dir)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 2
    assert "'sounds'; this release has photographs" in ended.stderr
    assert [path.name for path in data_dir.iterdir()] == [presets.FILE_NAME]


def test_a_backup_brings_the_preset_along(data_dir: Path, tmp_path: Path):
    begin_data_dir(settings(data_dir, preset="digits"))
    server = EmbeddedStore(data_dir, settings(data_dir).store)
    server.start()
    try:
        assert back_up(settings(data_dir), tmp_path / "backup") == 0
    finally:
        server.stop()
    other = tmp_path / "other"
    assert restore(settings(other), tmp_path / "backup") == 0
    assert settings(other).preset == "digits"
    (tmp_path / "backup" / presets.FILE_NAME).unlink()
    before = tmp_path / "before"
    assert restore(settings(before), tmp_path / "backup") == 0
    assert settings(before).preset == "cifar", "releases before presets had no other"
