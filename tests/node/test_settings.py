"""Settings come from flags, environment, file and defaults, and every mistake is told before anything starts."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from accrete.cli import main
from accrete_node.describe import render
from accrete_node.renamed_settings import RENAMED
from accrete_node.settings import Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in os.environ:
        if name.startswith("ACCRETE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    file = tmp_path / "a.toml"
    file.write_text("[server]\nport = 1\nmetrics_port = 2\nmax_images = 3\n")
    monkeypatch.setenv("ACCRETE_SERVER__PORT", "10")
    monkeypatch.setenv("ACCRETE_SERVER__METRICS_PORT", "20")
    server = load_settings({"server": {"port": 100}}, file).server
    assert (server.port, server.metrics_port, server.max_images, server.max_examples) == (100, 20, 3, 256)


def test_the_file_in_the_data_directory_is_read(tmp_path: Path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "accrete.toml").write_text('[method]\nname = "icarl"\n')
    assert load_settings({"data_dir": "here"}).method.name == "icarl"


def test_a_flag_and_a_variable_give_a_list_as_text(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCRETE_MODEL__STD", ".5, .6,.7")
    given = {"backbone": "onnx:x", "input_size": "64", "mean": "0.5", "outputs": "a,b"}
    model = load_settings({"model": given}).model
    assert (model.mean, model.std, model.outputs) == ((0.5,), (0.5, 0.6, 0.7), ("a", "b"))
    with pytest.raises(SettingsError, match=r"model.mean.0 = 'a'"):
        load_settings({"model": {**given, "mean": "a"}})


def test_sections_reach_the_learner(tmp_path: Path):
    settings = load_settings({"memory": {"size": 7}, "trigger": {"min_examples": 3}, "model": {"backbone": "resnet8"}})
    learner = settings.learner_service
    assert (learner.memory.size, learner.trigger.min_examples, learner.model.backbone) == (7, 3, "resnet8")
    assert load_settings({"teaching": {"holdout_share": 0.5}}).learner_service.teaching.holdout_share == 0.5


def test_a_resolved_file_is_not_overruled_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    file = tmp_path / "a.toml"
    file.write_text("[server]\nport = 1\n")
    monkeypatch.setenv("ACCRETE_SERVER__PORT", "10")
    assert load_settings({}, file, resolved=True).server.port == 1


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"server": {"port": 99999}}, ["server.port = 99999", "65535"]),
        ({"server": {"prot": 1}}, ["server.prot = 1: no such field", "port"]),
        ({"server": 1}, ["server = 1", "server.FIELD"]),
        ({"serer": {"port": 1}}, ["serer", "no such section", "server"]),
        ({"trigger": {"min_examples": "many"}}, ["trigger.min_examples = 'many'", "integer"]),
        ({"trigger": {"min_examples": 0}}, ["trigger.min_examples = 0", "1"]),
        ({"method": {"name": "magic"}}, ["method.name = 'magic'", "lucir"]),
        ({"model": {"backbone": "resnet"}}, ["model.backbone = 'resnet'", "resnet32"]),
        ({"model": {"backbone": "identity"}}, ["model.embedding = 0", "65536"]),
        ({"training": {"epochs": 0}}, ["training.epochs = 0", "1 to"]),
        ({"memory": {"kind": "both"}}, ["memory.kind = 'both'", "per_class"]),
        ({"store": {"ack": "never"}}, ["store.ack = 'never'", "fsync"]),
        ({"holdout": {"share": 0.9}}, ["holdout.share = 0.9", "0.5"]),
        ({"gate": {"max_old_drop": 2}}, ["gate.max_old_drop = 2", "1"]),
        ({"learner": {"trigger": {}}}, ["learner", "trigger", "nice"]),
    ],
)
def test_a_mistake_is_told_with_field_value_and_what_is_allowed(flags: dict[str, object], told: list[str]):
    with pytest.raises(SettingsError) as raised:
        load_settings(flags)
    for part in told:
        assert part in str(raised.value)


def test_the_inbox_is_refused_to_a_model_of_embeddings():
    embeddings = {"preset": "embeddings", "model": {"embedding": 8}}
    with pytest.raises(SettingsError, match=r"inbox\.enabled = true: this model takes embeddings \(float32 \[8\]\)"):
        load_settings(embeddings | {"inbox": {"enabled": True}})
    assert not load_settings(embeddings).inbox.enabled


def test_all_mistakes_are_told_at_once():
    with pytest.raises(SettingsError) as raised:
        load_settings({"server": {"port": -1}, "memory": {"size": -1}, "log": {"levle": 1, "fromat": 2}})
    assert len(raised.value.problems) == 4


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ACCRETE_SERVR__PORT", ["ACCRETE_SERVR__PORT = '5'", "server"]),
        ("ACCRETE_SERVER__PROT", ["server.prot = '5'", "port"]),
        ("ACCRETE_SERVER", ["ACCRETE_SERVER = '5'", "ACCRETE_SERVER__FIELD"]),
        ("ACCRETE_LOG__LEVEL", ["log.level = '5'", "info"]),
    ],
)
def test_a_mistake_in_the_environment_is_told(monkeypatch: pytest.MonkeyPatch, name: str, told: list[str]):
    monkeypatch.setenv(name, "5")
    with pytest.raises(SettingsError) as raised:
        load_settings({})
    for part in told:
        assert part in str(raised.value)


def test_variables_that_others_set_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    for name in ("ACCRETE_ADDRESS", "ACCRETE_PORT", "ACCRETE_SERVER_SERVICE_HOST", "ACCRETE_PORT_50051_TCP_ADDR"):
        monkeypatch.setenv(name, "tcp://10.0.0.1:50051")
    assert load_settings({}).server.port == 50051


def test_a_broken_or_missing_file_is_told(tmp_path: Path):
    file = tmp_path / "a.toml"
    file.write_text("[server\n")
    with pytest.raises(SettingsError, match=r"a\.toml"):
        load_settings({}, file)
    with pytest.raises(SettingsError, match="no such file"):
        load_settings({}, tmp_path / "b.toml")


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One field that had another name in its section, and one that stood in another section."""
    monkeypatch.setitem(RENAMED, "server.gate", "server.port")
    monkeypatch.setitem(RENAMED, "training.patience_s", "trigger.max_wait_s")


@pytest.mark.usefixtures("renamed")
@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_an_old_name_is_read_wherever_it_stands_with_a_warning(
    source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "a.toml"
    file.write_text("[server]\ngate = 7\n[training]\npatience_s = 8\n" if source == "file" else "")
    if source == "environment":
        monkeypatch.setenv("ACCRETE_SERVER__GATE", "7")
        monkeypatch.setenv("ACCRETE_TRAINING__PATIENCE_S", "8")
    flags = {"server": {"gate": "7"}, "training": {"patience_s": "8"}} if source == "flag" else {}
    settings = load_settings(flags, file)
    assert (settings.server.port, settings.trigger.max_wait_s) == (7, 8)
    told = capsys.readouterr().err
    assert "server.gate" in told
    assert "is now server.port" in told


@pytest.mark.usefixtures("renamed")
def test_an_old_name_counts_as_its_source_does(tmp_path: Path):
    file = tmp_path / "a.toml"
    file.write_text("[server]\ngate = 7\n")
    assert load_settings({"server": {"port": 8}}, file).server.port == 8
    file.write_text("[server]\nport = 7\n")
    assert load_settings({"server": {"gate": 8}}, file).server.port == 8


@pytest.mark.usefixtures("renamed")
def test_old_and_new_name_together_are_refused(tmp_path: Path):
    file = tmp_path / "a.toml"
    file.write_text("[server]\ngate = 7\nport = 7\n")
    with pytest.raises(SettingsError, match="server.gate is the old name of server.port"):
        load_settings({}, file)


def test_every_new_name_is_a_setting_and_no_old_one_is():
    def exists(path: str) -> bool:
        section, name = path.split(".")
        return hasattr(getattr(load_settings({}), section), name)

    assert all(exists(new) and not exists(old) for old, new in RENAMED.items())


@pytest.mark.parametrize("explained", [True, False])
def test_the_printed_file_gives_the_same_settings(tmp_path: Path, explained: bool):
    settings = load_settings({"server": {"port": 7}, "training": {"epochs": 3}, "data_dir": 'a "b"'})
    file = tmp_path / "a.toml"
    file.write_text(render(settings, explained=explained))
    again = load_settings({}, file, resolved=True)
    assert all(getattr(again, name) == getattr(settings, name) for name in Settings.model_fields)


def test_every_field_of_the_printed_file_is_explained(tmp_path: Path):
    lines = render(load_settings({}), explained=True).splitlines()
    for above, line in zip(lines, lines[1:], strict=False):
        if " =" in line and not line.startswith("# ") or line.endswith(" ="):
            assert above.startswith("# "), f"no explanation above: {line}"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--port", "none"], "server.port = 'none'"),
        (["--set", "server.port"], "SECTION.FIELD=VALUE"),
        (["--set", "server=1", "--set", "server.port=1"], "server.port = '1'"),
        (["--set", "model.weights=gone.safetensors"], "model.weights = 'gone.safetensors': no such file"),
        (["--preset", "digits", "--weights", "gone"], "model.weights = 'gone': no such file"),
        (
            ["--set", "model.mean=1,2", "--backbone", "onnx:x", "--set", "model.input_size=64"],
            "model.backbone = 'onnx:x'",
        ),
        (["--config", "gone.toml"], "config = 'gone.toml': no such file"),
    ],
)
def test_bad_settings_end_the_command_with_status_2_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: list[str], told: str
):
    monkeypatch.chdir(tmp_path)
    assert main(["up", "--data-dir", "data", *given]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_data_directory_that_cannot_be_made_ends_the_process_with_status_2_and_the_reason():
    command = [sys.executable, "-m", "accrete", "up", "--data-dir", "/dev/null"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 2
    assert "data_dir = '/dev/null'" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", ["up", "serve", "learn", "backup", "restore"])
def test_the_example_of_the_help_has_settings_that_can_be_used(command: str, capsys: pytest.CaptureFixture[str]):
    main([command, "--help"])
    (example,) = re.findall(r"^Example:\n  accrete ((?:.*\\\n)*.*)$", capsys.readouterr().out, re.MULTILINE)
    assert main([*shlex.split(example.replace("\\\n", "")), "--print-config"]) == 0


def test_the_help_of_a_backup_has_only_what_matters_to_it_and_takes_the_rest(capsys: pytest.CaptureFixture[str]):
    main(["backup", "--help"])
    told = capsys.readouterr().out
    assert "--data-dir" in told
    assert "--port" not in told
    assert main(["backup", "folder", "--port", "1", "--print-config"]) == 0


@pytest.mark.parametrize("name", ["a#b", "a%20b", "a\tb", 'a"b', "a\\b", "a\nb", "a\x7fb", "früh"])
def test_any_name_of_a_data_directory_comes_back_from_the_file(tmp_path: Path, name: str):
    (tmp_path / "settings.toml").write_text(render(load_settings({"data_dir": name}, resolved=True), explained=False))
    assert load_settings({}, tmp_path / "settings.toml", resolved=True).data_dir == Path(name)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--redis", "redis://:s3/kret@host"],
        ["--set", "store.urll=redis://:s3kret@host"],
        ["--set", "stores.url=redis://:s3kret@host"],
        ["--set", "store.password=s3kret"],
        ["--set", "redis://:s3kret@host"],
        ["--set", "store=redis://:s3kret@host"],
        ["--set", "store=redis://:s3kret@host", "--set", "store.ack=fsync"],
        ["--set", "artifacts.url=gs://key:s3kret@bucket"],
        ["--set", "artifacts.url=gs://bucket?key=s3kret"],
    ],
)
def test_a_password_at_the_wrong_place_is_not_shown(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["up", "--data-dir", str(tmp_path / "data"), *arguments]) == 2
    told = capsys.readouterr()
    assert "accrete: " in told.err
    assert "s3" not in told.err + told.out
    assert "kret" not in told.err + told.out
