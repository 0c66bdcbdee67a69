"""The chart's objects for some values, and the values that tests share."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "server" / "deploy"
CHART = DEPLOY / "helm" / "accrete"
RELEASE, NAMESPACE = "demo", "prod"

Object = dict[str, Any]
Values = dict[str, Any]

LEAST: Values = {
    "image": {"repository": "registry.example:5000/team/accrete"},
    "store": {"existingSecret": "accrete-store"},
    "versions": {"create": {"size": "20Gi"}},
    "access": {"insecure": True},
}
"""The values without which nothing is rendered."""


def changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> Values:
    """Return values with those at the paths of `changes` ("servers.replicas") in their places."""
    result = copy.deepcopy(dict(values))
    for path, value in changes.items():
        *above, last = path.split(".")
        place = result
        for name in above:
            place = place.setdefault(name, {})
        place[last] = value
    return result


GUARDED = changed(
    LEAST,
    {
        "access": {
            "tls": {"existingSecret": "tls", "clientCertificates": True},
            "tokens": {"existingSecret": "tokens"},
        },
        "versions": {"existingClaim": "versions"},
        "image.digest": "sha256:" + "0" * 64,
    },
)
"""Encrypted, with certificates of callers and tokens, on a claim that is there."""

BUCKET = changed(
    LEAST,
    {
        "versions": {"bucket": {"url": "s3://models/shop", "cacheBytes": 30000000000, "existingSecret": "bucket"}},
        "networkPolicy.bucket": {"port": 9000},
    },
)
"""With versions in a bucket."""

PERSON = {"podSelector": {"matchLabels": {"app": "shop"}}}
ALL = changed(
    GUARDED,
    {
        "preset": "embeddings",
        "settings": {"model": {"embedding": 8}, "server": {"drain_s": 2.5, "grace_s": 40}, "memory": {"size": 3000000}},
        "image.pullSecrets": [{"name": "registry"}],
        "serviceAccountName": "accrete",
        "servers.autoscaling": {"enabled": True, "minReplicas": 3},
        "servers.preStopSeconds": 12,
        "servers.affinity": {"nodeAffinity": {}},
        "servers.tolerations": [{"key": "gpu", "operator": "Exists"}],
        "servers.nodeSelector": {"disk": "fast"},
        "servers.podAnnotations": {"team": "vision"},
        "servers.podLabels": {"team": "vision"},
        "servers.priorityClassName": "high",
        "servers.env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
        "learners.antiAffinity": "required",
        "learners.image": {"tag": "0.1.0-cuda"},
        "learners.resources": {"requests": {"cpu": "1"}, "limits": {"nvidia.com/gpu": 1}},
        "learners.podLabels": {"team": "vision"},
        "learners.env": [{"name": "AWS_REGION", "valueFrom": {"secretKeyRef": {"name": "bucket", "key": "region"}}}],
        "networkPolicy.clients": [PERSON],
        "networkPolicy.monitoring": [PERSON],
        "networkPolicy.store": {"port": 6380, "peers": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
        "networkPolicy.egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
        "monitoring.serviceMonitor": {
            "enabled": True,
            "labels": {"release": "prometheus"},
            "authorization": {"credentials": {"name": "metrics", "key": "token"}},
            "tlsConfig": {"serverName": "accrete.example"},
        },
        "monitoring.rules": {"enabled": True, "labels": {"release": "prometheus"}},
        "monitoring.dashboard.enabled": True,
        "kserve.enabled": True,
    },
)
"""Every option taken."""


@dataclass(frozen=True)
class Rendered:
    """The objects that a chart makes of values."""

    objects: tuple[Object, ...]

    def one(self, kind: str, name: str) -> Object:
        """Return the object of a kind and a name."""
        (found,) = (one for one in self.of(kind) if one["metadata"]["name"] == name)
        return found

    def of(self, kind: str) -> list[Object]:
        """Return all objects of a kind."""
        return [one for one in self.objects if one["kind"] == kind]

    def pods(self) -> Iterator[tuple[str, Object]]:
        """Yield the name of each workload with its pod's spec; a ServingRuntime's is its own."""
        for one in self.of("Deployment"):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]
        for one in self.of("ServingRuntime"):
            taken = ("containers", "volumes", "nodeSelector", "tolerations", "imagePullSecrets")
            yield "runtime", {name: one["spec"][name] for name in taken if name in one["spec"]}

    @property
    def settings(self) -> str:
        """The text of accrete.toml."""
        return str(self.one("ConfigMap", f"{RELEASE}-accrete")["data"]["accrete.toml"])


def parse(manifests: Mapping[str, str]) -> Rendered:
    """Return the objects of rendered manifests."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it
    texts = (text for name, text in manifests.items() if name.endswith(".yaml"))
    return Rendered(tuple(one for text in texts for one in yaml.load_all(text, loader) if one))
