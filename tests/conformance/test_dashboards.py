"""Every query that ships asks for series that the server and the learner export."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from importlib.resources import as_file, files
from typing import Any, get_args

import grpc
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from accrete_learner_service.runtime.metrics import Metrics as LearnerMetrics
from accrete_learner_service.runtime.metrics import Snapshot
from accrete_learner_service.runtime.status import STATUSES, Outcome
from accrete_server.access.roles import ROLES
from tests.conformance.promql import read
from tests.server.world import World, example
from tests.support.store import SharedStore

SHIPPED = files("accrete_server.dashboards")
ANY_TARGET = {"instance", "job"}
"""Labels that Prometheus adds to every series."""

Series = dict[str, dict[str, set[str]]]
"""By the name of a series: its labels, and the values seen of each."""

KNOWN = {
    "method": {path.rsplit("/", 1)[1] for path in ROLES},
    "code": {code.name for code in grpc.StatusCode},
    "phase": set(STATUSES),
}
"""Values that a label may take, where a short run does not bring forth all of them."""


def panels() -> list[dict[str, Any]]:
    board = json.loads((SHIPPED / "grafana.json").read_text())
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    return [
        rule for group in yaml.safe_load((SHIPPED / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
    ]


def queries() -> Iterator[tuple[str, str, set[str]]]:
    """Title, query, and the labels that its texts show."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"], set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    for rule in rules():
        shown = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        yield rule["alert"], rule["expr"], shown
    board = json.loads((SHIPPED / "grafana.json").read_text())
    for annotation in board["annotations"]["list"]:
        yield annotation["name"], annotation["expr"], set()


@pytest.fixture(scope="module")
def exported(shared_store: SharedStore, tmp_path_factory: pytest.TempPathFactory) -> Series:
    """What a server and a learner export once each of their metrics has been used."""
    world = World(tmp_path_factory.mktemp("w"), shared_store.config())
    try:
        world.publish(1)
        running = world.server()
        running.predict()
        running.add(example())
        world.publish(2)
        running.serves(2)
        address = f"http://127.0.0.1:{running.server.metrics_port}/metrics"
        with urllib.request.urlopen(address, timeout=300) as page:
            server = page.read().decode()
    finally:
        world.close()
    return series(server, generate_latest(learner()).decode())


def learner() -> CollectorRegistry:
    metrics = LearnerMetrics()
    metrics.set_snapshot(Snapshot(**{field.name: 1 for field in fields(Snapshot)}))
    metrics.set_quality(1, {"all": 0.5})
    for outcome in get_args(Outcome):
        metrics.count_step(outcome, {"total": 1.0})
    return metrics.registry


def series(*pages: str) -> Series:
    found: Series = defaultdict(lambda: defaultdict(set))
    for page in pages:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                own = found[sample.name]
                for label, value in sample.labels.items():
                    own[label].add(value)
    return found


def faults(query: str, shown: set[str], exported: Series) -> list[str]:
    """What the query, or the text shown with it, refers to and is not there."""
    reading, found = read(query), []
    there = set(ANY_TARGET)
    for metric, matched in reading.selectors:
        if metric not in exported:
            found.append(f"no series {metric}")
            continue
        there |= set(exported[metric])
        for label, values in matched.items():
            if label not in exported[metric]:
                found.append(f"{metric} has no label {label}")
                continue
            allowed = KNOWN.get(label, set()) | exported[metric][label] | {""}
            found += [f"{metric}: {label} is never {value}" for value in values if value not in allowed]
    found += [f"grouped by {label}, which none has" for label in reading.groups - there]
    aggregated = bool(re.match(r"(sum|max|min|avg|histogram_quantile)\b", query.strip()))
    found += [f"shows {label}" for label in shown - (reading.groups if aggregated else there)]
    return found


@pytest.mark.parametrize(("title", "query", "shown"), list(queries()))
def test_a_query_asks_for_what_is_exported(title: str, query: str, shown: set[str], exported: Series) -> None:
    assert read(query).selectors, title
    assert faults(query, shown, exported) == [], title


@pytest.mark.parametrize(
    ("query", "shown", "told"),
    [
        ("accrete_live_versions", set(), "no series accrete_live_versions"),
        ("rate(accrete_requests[5m])", set(), "no series accrete_requests"),
        ('accrete_requests_total{status="OK"}', set(), "accrete_requests_total has no label status"),
        ('accrete_requests_total{code="OOPS"}', set(), "accrete_requests_total: code is never OOPS"),
        ('accrete_requests_total{phase=~"waiting|sleeping"}', set(), "accrete_requests_total: phase is never sleeping"),
        ("sum by (label) (accrete_requests_total)", set(), "grouped by label, which none has"),
        ("sum by (code) (accrete_requests_total)", {"phase"}, "shows phase"),
    ],
)
def test_a_query_that_asks_for_something_else_is_found_out(
    query: str, shown: set[str], told: str, exported: Series
) -> None:
    assert faults(query, shown, exported) == [told]


@pytest.mark.parametrize("query", ["sum(", "rates(a[5m])", 'a{b~"c"}', "a{b}", "@"])
def test_what_is_no_query_is_told(query: str) -> None:
    with pytest.raises(ValueError, match=r"no |without"):
        read(query)


def test_the_first_row_answers_the_two_questions() -> None:
    """How old is the newest thing the model knows; what did learning it cost the old classes and the latency?"""
    glance = {
        metric for panel in panels()[:6] for target in panel["targets"] for metric, _ in read(target["expr"]).selectors
    }
    assert {
        "accrete_newest_learned_timestamp_seconds",
        "accrete_forgetting_ratio",
        "accrete_request_seconds_bucket",
    } <= glance
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_each_rule_says_what_is_wrong_and_how_bad_it_is() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]
    assert len({rule["alert"] for rule in rules()}) == len(rules())


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_the_rules() -> None:
    with as_file(SHIPPED / "alerts.yaml") as path:
        subprocess.run(["promtool", "check", "rules", str(path)], check=True, capture_output=True, timeout=300)
