"""A cluster's state as people read it."""

from __future__ import annotations

from typing import Any

from accrete.cli.output import percent, table
from accrete_cluster.spec import SERVER


def progress(found: dict[str, Any]) -> str:
    """Return one line about how far a cluster is."""
    ready = dict.fromkeys(("server", "learner"), 0)
    rest: dict[str, int] = {}
    for one in found["members"]:
        if one["state"] == "ready" and one["current"]:
            ready[one["kind"]] += 1
        else:
            key = f"{one['state']}{'' if one['current'] else ' (old)'}"
            rest[key] = rest.get(key, 0) + 1
    others = "".join(f", {count} {state}" for state, count in sorted(rest.items()))
    return (
        f"servers {ready['server']} of {found['servers_wanted']}, learners {ready['learner']} of "
        f"{found['learners_wanted']}{others}"
    )


def shown_status(found: dict[str, Any]) -> str:
    """Return what `accrete cluster status` prints."""
    state = "ending" if found["ending"] else "whole" if found["whole"] else "not whole"
    parts = [f"cluster {found['prefix']}, accrete {found['software']}: {state}, {progress(found)}"]
    if found["addresses"]:
        parts.append(f"clients take {', '.join(found['addresses'])}: one of them, or several")
    if found["taken"]:
        parts.append(f"! another cluster ({found['taken']}) runs on this store.prefix; nothing is changed here")
    parts += [f"! {line}" for line in found["lacks"]]
    servers = [one for one in found["members"] if one["kind"] == SERVER]
    learners = [one for one in found["members"] if one["kind"] != SERVER]
    if servers:
        parts.append(
            table(
                ["SERVER", "NODE", "STATE", "SETTINGS", "BUSY", "METRICS"],
                [
                    [
                        one["address"] or None,
                        one["node"],
                        *_common(one),
                        percent(one["busyness"]),
                        one["metrics"] or None,
                    ]
                    for one in servers
                ],
            )
        )
    if learners:
        parts.append(
            table(
                ["LEARNER", "NODE", "STATE", "SETTINGS", "LEASE"],
                [
                    [one["name"].rpartition("-")[2], one["node"], *_common(one), "has it" if one["leads"] else None]
                    for one in learners
                ],
            )
        )
    parts.append(
        table(
            ["NODE", "ADDRESS", "CPUS", "STATE"],
            [[node["name"], node["host"], f"{node['cpus']:g}", node["state"]] for node in found["nodes"]],
        )
    )
    parts += [f"! {one['kind']} on {one['node']}: {one['reason']}" for one in found["members"] if one["reason"]]
    parts += [f"! node {node['name']}: {line}" for node in found["nodes"] for line in node["problems"]]
    parts += [f"  node {node['name']}: {line}" for node in found["nodes"] for line in node["warnings"]]
    return "\n\n".join(_joined(parts))


def _common(one: dict[str, Any]) -> list[object]:
    return [one["state"], "current" if one["current"] else "before"]


def _joined(parts: list[str]) -> list[str]:
    """Return paragraphs, with lines that stand alone put together."""
    joined: list[str] = []
    for part in parts:
        alone = "\n" not in part
        if joined and alone and "\n" not in joined[-1].partition("\n! ")[0]:
            joined[-1] += f"\n{part}"
        else:
            joined.append(part)
    return joined
