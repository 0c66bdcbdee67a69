"""The Helm chart: rendered, linted and validated without a cluster, and compared with the code."""

from __future__ import annotations

import copy
import dataclasses
import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from accrete_model.files import BACKBONES_FOLDER
from accrete_node import presets
from accrete_node.settings import Settings, load_settings
from accrete_server.access.roles import METRICS_PAGE
from accrete_server.grpc_server import LIVENESS
from docs.generate import CHART_LEAVES_OUT, CHART_SEES_TO
from tests.deploy.rendered import (
    ALL,
    BUCKET,
    CHART,
    DEPLOY,
    GUARDED,
    LEAST,
    NAMESPACE,
    RELEASE,
    Rendered,
    changed,
    parse,
)

helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")

OF_OPERATORS = {"ServiceMonitor", "PrometheusRule", "ServingRuntime"}
"""Kinds that Kubernetes itself does not have."""
OLDEST = "1.30"
"""Release of Kubernetes that the chart asks for at least."""
EACH = pytest.mark.parametrize("values", [LEAST, GUARDED, BUCKET, ALL], ids=["least", "guarded", "bucket", "all"])
DASHBOARDS = DEPLOY.parent / "accrete_server" / "dashboards"

Render = Callable[[dict[str, Any]], Rendered]


@pytest.fixture(scope="module")
def render() -> Iterator[Render]:
    known: dict[str, Rendered] = {}
    with helm.Chart.load(str(CHART)) as chart:

        def of(values: dict[str, Any]) -> Rendered:
            key = json.dumps(values)
            if key not in known:
                known[key] = parse(chart.render(values, name=RELEASE, namespace=NAMESPACE))
            return known[key]

        yield of


@EACH
def test_helm_finds_nothing_to_complain_of(values):
    found = helm.lint(str(CHART), values, strict=True)
    assert found["errors"] == []
    assert [one for one in found["messages"] if one["severity"] > 1] == []


@pytest.mark.parametrize(
    ("values", "release"),
    [(LEAST, "1.37"), (BUCKET, "1.37"), (ALL, "1.37"), (ALL, OLDEST)],
    ids=["least", "bucket", "all", "all-oldest"],
)
def test_every_object_is_one_of_kubernetes_without_a_field_that_it_does_not_have(render, values, release):
    for one in render(values).objects:
        if one["kind"] not in OF_OPERATORS:
            kubernetes_validate.validate(one, release, strict=True)


def test_the_validation_finds_a_field_that_does_not_exist(render):
    deployment = copy.deepcopy(render(LEAST).one("Deployment", "demo-accrete-server"))
    deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        kubernetes_validate.validate(deployment, "1.34", strict=True)


def test_a_runtime_of_kserve_is_a_pods_container_with_its_volumes(render):
    (runtime,) = render(ALL).of("ServingRuntime")
    assert runtime["spec"]["protocolVersions"] == ["grpc-v2"]
    (container,) = runtime["spec"]["containers"]
    # What KServe calls the container and its port by.
    assert (container["name"], container["ports"][0]["name"]) == ("kserve-container", "h2c")
    own = {"supportedModelFormats", "protocolVersions", "multiModel", "annotations"}
    spec = {name: value for name, value in runtime["spec"].items() if name not in own}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}
    kubernetes_validate.validate(pod, "1.34", strict=True)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"image": {}}, "/image/repository"),
    ({"image.repository": "accrete:latest"}, "/image/repository"),
    ({"image.digest": "abc"}, "/image/digest"),
    ({"store": {}}, "/store/existingSecret"),
    ({"store.password": "secret"}, "'password' not allowed"),
    ({"versions": {}}, "/versions"),
    ({"versions.existingClaim": "both"}, "/versions"),
    ({"versions.bucket": {"url": "s3://and-a-claim"}}, "/versions"),
    ({"versions": {"bucket": {"url": "file:///mnt"}}}, "/versions/bucket/url"),
    ({"versions": {"bucket": {"url": "s3://key:secret@models"}}}, "/versions/bucket/url"),
    ({"settings": {"artifacts": {"url": "s3://models"}}}, "'artifacts' not allowed"),
    ({"versions.create.size": "much"}, "/versions/create/size"),
    ({"access": {}}, "/access"),
    ({"access.tls": {"existingSecret": "and-insecure"}}, "/access"),
    ({"access.tls": {"clientCertificates": True}}, "/access/tls/clientCertificates"),
    ({"preset": "birds"}, "/preset"),
    ({"settings": {"serve": {}}}, "'serve' not allowed"),
    ({"settings": {"server": {"max_image": 1}}}, "'max_image' not allowed"),
    ({"settings": {"server": {"max_images": "many"}}}, "/settings/server/max_images"),
    ({"settings": {"server": {"queue": -1}}}, "/settings/server/queue"),
    ({"settings": {"server": {"port": 1}}}, "'port' not allowed"),
    ({"settings": {"store": {"url": "redis://:secret@store"}}}, "'url' not allowed"),
    ({"settings": {"engine": {"device": "tpu"}}}, "/settings/engine/device"),
    ({"servers.replicas": 0}, "/servers/replicas"),
    ({"servers.replica": 3}, "'replica' not allowed"),
    ({"servers.preStopSeconds": 0}, "/servers/preStopSeconds"),
    ({"servers.scratch": "0"}, "/servers/scratch"),
    ({"servers.env": [{"name": "ACCRETE_STORE__URL", "value": "redis://:secret@store"}]}, "/servers/env/0/name"),
    ({"servers.autoscaling": {"enabled": True, "minReplicas": 9}}, "at most maxReplicas (8) is allowed"),
    ({"servers.autoscaling": {"enabled": True}, "servers.resources": {"requests": {"cpu": None}}}, "'cpu'"),
    ({"learners.replicas": 0}, "/learners/replicas"),
    ({"learners.antiAffinity": "never"}, "/learners/antiAffinity"),
    ({"networkPolicy.store": {"port": 0}}, "/networkPolicy/store/port"),
    (
        {"access.tokens": {"existingSecret": "tokens"}, "monitoring.serviceMonitor": {"enabled": True}},
        "/monitoring/serviceMonitor/authorization",
    ),
    ({"monitoring.alerts": {}}, "'alerts' not allowed"),
]


@pytest.mark.parametrize(("changes", "told"), REFUSED, ids=[" ".join(changes) for changes, _ in REFUSED])
def test_values_that_cannot_work_are_refused_by_name(render, changes, told):
    with pytest.raises(helm.HelmError) as error:
        render(changed(LEAST, changes))
    assert told in str(error.value)


def defaults() -> dict[str, dict[str, Any]]:
    """Every setting that the values take, as the code has it by itself."""
    settings = load_settings({"preset": "cifar"}, resolved=True)
    taken: dict[str, dict[str, Any]] = {}
    for name in Settings.model_fields:
        section: Any = getattr(settings, name)
        if dataclasses.is_dataclass(section) and name not in CHART_LEAVES_OUT:
            fields = {item.name: getattr(section, item.name) for item in dataclasses.fields(section)}
            fields = {field: value for field, value in fields.items() if not dataclasses.is_dataclass(value)}
            hidden = CHART_SEES_TO.get(name, ())
            taken[name] = {field: value for field, value in fields.items() if field not in hidden and value is not None}
    return json.loads(json.dumps(taken))  # type: ignore[no-any-return]


def test_every_setting_of_the_code_can_be_a_value_and_comes_as_it_is(render):
    given = changed(defaults(), {"memory.size": 4294967296, "server.node": 'a "b" & <c>', "gate.max_old_drop": 0.25})
    arrived = tomllib.loads(render(changed(LEAST, {"settings": given, "preset": "cifar"})).settings)
    assert {name: {field: arrived[name][field] for field in fields} for name, fields in given.items()} == given


def environment(container: dict[str, Any]) -> dict[str, str]:
    secrets = {"ACCRETE_STORE__URL": "redis://:password@store:6379/0"}
    return {one["name"]: one.get("value") or secrets.get(one["name"], "") for one in container["env"]}


def loaded(rendered: Rendered, container: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings as the container's process reads them, of the file that is mounted and its environment."""
    variables = environment(container)
    mounted = {mount["mountPath"]: mount.get("subPath") for mount in container["volumeMounts"]}
    assert mounted[variables["ACCRETE_CONFIG"]] == "accrete.toml"
    file = folder / "accrete.toml"
    file.write_text(rendered.settings)
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            if name.startswith("ACCRETE_"):
                patch.setenv(name, str(file) if name == "ACCRETE_CONFIG" else value)
        return load_settings({})


@EACH
def test_each_process_reads_settings_that_hold_where_it_runs(render, values, tmp_path, monkeypatch):
    rendered = render(values)
    default = load_settings({}, resolved=True)
    for name, pod in rendered.pods():
        (container,) = pod["containers"]
        settings = loaded(rendered, container, tmp_path, monkeypatch)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert settings.store.url.startswith("redis://")
        assert settings.preset == values.get("preset", "photographs")
        data = str(settings.data_dir)
        assert {data, f"{data}/versions", f"{data}/{BACKBONES_FOLDER}", f"{data}/{presets.FILE_NAME}"} <= mounts.keys()
        if container["args"] == ["learn"]:
            assert (settings.learner.metrics_host, settings.learner.metrics_port) == ("0.0.0.0", ports["metrics"])
            assert ports["metrics"] == default.learner.metrics_port
            assert not mounts[f"{data}/versions"].get("readOnly")
            continue
        assert container["args"] == ["serve"], name
        grpc_port = next(port for other, port in ports.items() if other != "metrics")
        assert (settings.server.host, settings.server.port) == ("0.0.0.0", grpc_port)
        assert grpc_port == default.server.port
        assert (settings.server.metrics_host, settings.server.metrics_port) == ("0.0.0.0", ports["metrics"])
        assert ports["metrics"] == default.server.metrics_port
        assert mounts[f"{data}/versions"]["readOnly"] == (values is not BUCKET), "a server writes no version"
        files = (settings.access.certificate, settings.access.private_key, settings.access.client_ca)
        assert [Path(file).name for file in files if file] == (
            [] if values in (LEAST, BUCKET) else ["tls.crt", "tls.key", "ca.crt"]
        )
        assert {str(Path(file).parent) for file in (*files, settings.access.tokens) if file} <= mounts.keys()
        assert settings.access.insecure == (values in (LEAST, BUCKET))


def test_of_versions_in_a_bucket_each_pod_has_a_cache_and_the_rights_come_by_environment(render, tmp_path, monkeypatch):
    rendered = render(BUCKET)
    assert rendered.of("PersistentVolumeClaim") == []
    bucket = BUCKET["versions"]["bucket"]
    for _, pod in rendered.pods():
        (container,) = pod["containers"]
        artifacts = loaded(rendered, container, tmp_path, monkeypatch).artifacts
        assert (artifacts.url, artifacts.cache_bytes) == (bucket["url"], bucket["cacheBytes"])
        (volume,) = (one for one in pod["volumes"] if one["name"] == "versions")
        assert int(volume["emptyDir"]["sizeLimit"]) >= 2 * artifacts.cache_bytes
        assert container["envFrom"] == [{"secretRef": {"name": "bucket"}}]
    for _, pod in render(LEAST).pods():
        assert "envFrom" not in pod["containers"][0]


@EACH
def test_the_folders_that_pods_share_are_made_before_they_are_mounted(render, values):
    for name, pod in render(values).pods():
        mounted = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "versions"]
        assert {one["mountPath"]: one["subPath"] for one in mounted} == {
            "/data/versions": "versions",
            f"/data/{BACKBONES_FOLDER}": BACKBONES_FOLDER,
        }
        if name != "runtime":  # it starts once the learners have made them
            (first,) = pod["initContainers"]
            (place,) = (one["mountPath"] for one in first["volumeMounts"])
            assert set(first["command"]) >= {f"{place}/{one['subPath']}" for one in mounted}


def test_the_commands_of_the_containers_are_there(render):
    project = tomllib.loads((CHART.parents[3] / "pyproject.toml").read_text())["project"]
    commands = project["entry-points"]["accrete.commands"]
    assert {container["args"][0] for _, pod in render(ALL).pods() for container in pod["containers"]} <= commands.keys()
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == project["version"]
    assert chart["kubeVersion"] == f">={OLDEST}.0-0"


def test_probes_ask_what_the_processes_answer(render):
    rendered = render(LEAST)
    (server,) = rendered.one("Deployment", "demo-accrete-server")["spec"]["template"]["spec"]["containers"]
    port = load_settings({}, resolved=True).server.port
    assert server["startupProbe"]["grpc"] == server["readinessProbe"]["grpc"] == {"port": port}
    assert server["livenessProbe"]["grpc"] == {"port": port, "service": LIVENESS}
    # It listens once its version has been fetched and loaded, however large that is: killed, it would begin anew.
    assert server["startupProbe"]["periodSeconds"] * server["startupProbe"]["failureThreshold"] >= 86_400
    (learner,) = rendered.one("Deployment", "demo-accrete-learner")["spec"]["template"]["spec"]["containers"]
    assert learner["readinessProbe"]["httpGet"] == {"path": METRICS_PAGE, "port": "metrics"}
    assert "livenessProbe" not in learner
    (encrypted,) = render(GUARDED).one("Deployment", "demo-accrete-server")["spec"]["template"]["spec"]["containers"]
    probes = [encrypted[name] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert [probe["tcpSocket"] for probe in probes] == 3 * [{"port": port}]
    assert probes[0]["periodSeconds"] * probes[0]["failureThreshold"] >= 86_400


@EACH
def test_a_server_is_killed_no_earlier_than_it_has_drained(render, values):
    rendered = render(values)
    server = tomllib.loads(rendered.settings)["server"]
    default = load_settings({}, resolved=True).server
    spec = rendered.one("Deployment", "demo-accrete-server")["spec"]
    pod = spec["template"]["spec"]
    before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drains = server.get("drain_s", default.drain_s) + server.get("grace_s", default.grace_s)
    assert pod["terminationGracePeriodSeconds"] >= before + drains + 10
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


@EACH
def test_no_process_can_be_root_or_write_beside_its_volumes(render, values):
    for name, pod in render(values).pods():
        if name != "runtime":  # a predictor of KServe's has these of its own
            user = pod["securityContext"]
            assert (user["runAsNonRoot"], user["runAsUser"], user["fsGroup"]) == (True, 65532, 65532)
            assert user["seccompProfile"] == {"type": "RuntimeDefault"}
            assert pod["automountServiceAccountToken"] is False
            assert pod["enableServiceLinks"] is False
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            can = container["securityContext"]
            assert (can["readOnlyRootFilesystem"], can["allowPrivilegeEscalation"]) == (True, False)
            assert can["capabilities"] == {"drop": ["ALL"]}


@EACH
def test_secrets_are_named_and_in_no_object(render, values):
    rendered = render(values)
    assert rendered.of("Secret") == []
    for _, pod in rendered.pods():
        (url,) = (one for one in pod["containers"][0]["env"] if one["name"] == "ACCRETE_STORE__URL")
        assert url["valueFrom"] == {"secretKeyRef": {"name": "accrete-store", "key": "url"}}


@EACH
def test_what_chooses_pods_chooses_those_of_its_deployment(render, values):
    rendered = render(values)
    pods = {one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"] for one in rendered.of("Deployment")}

    def chosen(labels: dict[str, str]) -> list[str]:
        return [name for name, own in pods.items() if labels.items() <= own.items()]

    for one in rendered.of("Deployment") + rendered.of("PodDisruptionBudget"):
        assert chosen(one["spec"]["selector"]["matchLabels"]) == [one["metadata"]["name"]]
    for one in rendered.of("NetworkPolicy"):
        assert chosen(one["spec"]["podSelector"]["matchLabels"]) == [one["metadata"]["name"]]
    services = {one["metadata"]["name"]: one for one in rendered.of("Service")}
    assert chosen(services["demo-accrete"]["spec"]["selector"]) == ["demo-accrete-server"]
    assert chosen(services["demo-accrete-learner"]["spec"]["selector"]) == ["demo-accrete-learner"]
    assert [one["spec"]["clusterIP"] for one in services.values()] == ["None", "None"], "dns:/// needs each address"
    for one in rendered.of("ServiceMonitor"):
        matched = one["spec"]["selector"]["matchLabels"].items()
        (service,) = (other for other in services.values() if matched <= other["metadata"]["labels"].items())
        assert {end["port"] for end in one["spec"]["endpoints"]} <= {port["name"] for port in service["spec"]["ports"]}
        assert {end["path"] for end in one["spec"]["endpoints"]} == {METRICS_PAGE}
    for one in rendered.of("HorizontalPodAutoscaler"):
        assert one["spec"]["scaleTargetRef"]["name"] in pods
        assert "replicas" not in rendered.one("Deployment", one["spec"]["scaleTargetRef"]["name"])["spec"]


def test_the_network_is_open_for_the_ports_that_there_are_and_no_other(render):
    settings = load_settings({}, resolved=True)
    expected = {
        "demo-accrete-server": {settings.server.port, settings.server.metrics_port},
        "demo-accrete-learner": {settings.learner.metrics_port},
    }
    for values, others in ((LEAST, {6379}), (BUCKET, {6379, 9000}), (ALL, {6380, 443})):
        for one in render(values).of("NetworkPolicy"):
            spec = one["spec"]
            opened = {port["port"] for rule in spec["ingress"] for port in rule["ports"]}
            assert opened == expected[one["metadata"]["name"]]
            assert all(rule["from"] for rule in spec["ingress"])
            reached = {port["port"] for rule in spec["egress"] for port in rule["ports"]}
            assert reached == {53} | others
    assert render(changed(LEAST, {"networkPolicy.enabled": False})).of("NetworkPolicy") == []


def test_two_learners_keep_away_from_each_other(render):
    for values, rule in ((LEAST, "preferred"), (ALL, "required")):
        spec = render(values).one("Deployment", "demo-accrete-learner")["spec"]
        assert spec["replicas"] == 2
        away = spec["template"]["spec"]["affinity"]["podAntiAffinity"]
        (term,) = away[f"{rule}DuringSchedulingIgnoredDuringExecution"]
        term = term.get("podAffinityTerm", term)
        assert term["topologyKey"] == "kubernetes.io/hostname"
        assert term["labelSelector"]["matchLabels"] == spec["selector"]["matchLabels"]


def test_what_is_off_is_not_there_and_what_monitors_is_what_ships(render):
    kinds = {one["kind"] for one in render(LEAST).objects}
    assert kinds.isdisjoint(OF_OPERATORS | {"HorizontalPodAutoscaler", "Secret"})
    rendered = render(ALL)
    (rules,) = rendered.of("PrometheusRule")
    assert rules["spec"] == yaml.safe_load((DASHBOARDS / "alerts.yaml").read_text())
    board = rendered.one("ConfigMap", "demo-accrete-dashboard")
    assert json.loads(board["data"]["accrete.json"]) == json.loads((DASHBOARDS / "grafana.json").read_text())


def test_images_are_those_that_the_values_name(render):
    def images(values: dict[str, Any], name: str) -> set[str]:
        pod = render(values).one("Deployment", name)["spec"]["template"]["spec"]
        return {container["image"] for container in (*pod["containers"], *pod["initContainers"])}

    repository = LEAST["image"]["repository"]
    assert images(LEAST, "demo-accrete-server") == {f"{repository}:0.1.0"}
    assert images(ALL, "demo-accrete-server") == {f"{repository}@sha256:{'0' * 64}"}
    assert images(ALL, "demo-accrete-learner") == {f"{repository}:0.1.0-cuda"}
    other = changed(ALL, {"learners.image": {"repository": "registry.example/other"}})
    assert images(other, "demo-accrete-learner") == {"registry.example/other:0.1.0"}


def test_a_change_of_settings_is_a_new_pod(render):
    def marks(values: dict[str, Any]) -> set[str]:
        annotations = (one["spec"]["template"]["metadata"]["annotations"] for one in render(values).of("Deployment"))
        return {own["checksum/settings"] for own in annotations}

    assert marks(LEAST).isdisjoint(marks(changed(LEAST, {"settings": {"teaching": {"approve_new_labels": True}}})))
