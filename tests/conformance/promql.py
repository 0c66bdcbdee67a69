"""As much of PromQL as says which series a query reads."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

FUNCTIONS = frozenset({"absent", "changes", "histogram_quantile", "increase", "rate", "time", "vector"})
AGGREGATIONS = frozenset({"avg", "count", "max", "min", "sum"})
WORDS = frozenset({"and", "or", "unless", "on", "ignoring", "offset", "bool"})

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<range>\[[^\]]*\])
      | (?P<number>\d+(?:\.\d+)?(?:ms|[smhdwy])?)
      | (?P<name>[A-Za-z_:][A-Za-z0-9_:]*)
      | (?P<mark>=~|!~|!=|==|>=|<=|[-+*/%^<>=(){},])
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a query refers to."""

    selectors: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)
    """A metric, and the values that each matched label is compared with."""
    groups: set[str] = field(default_factory=set)
    """Labels of `by (...)`."""


def read(query: str) -> Reading:
    """Raises ValueError for what is no query, or for a function that is not known here."""
    tokens, found, at = _tokens(query), Reading(), 0
    while at < len(tokens):
        kind, text = tokens[at]
        following = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        at += 1
        if kind != "name" or text in WORDS:
            continue
        if text in ("by", "without"):
            end = tokens.index(("mark", ")"), at)
            found.groups.update(name for kind, name in tokens[at:end] if kind == "name")
            at = end
        elif text in AGGREGATIONS or following == "(":
            if text not in FUNCTIONS | AGGREGATIONS:
                raise ValueError(f"no function {text}")
        else:
            end = tokens.index(("mark", "}"), at) if following == "{" else at
            found.selectors.append((text, _matchers(tokens[at + 1 : end])))
            at = end
    return found


def _tokens(query: str) -> list[tuple[str, str]]:
    found, at = [], 0
    query = query.strip()
    while at < len(query):
        match = _TOKEN.match(query, at)
        if match is None or match.lastgroup is None:
            raise ValueError(f"no query: {query[at:]!r}")
        found.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    for opening, closing in ("()", "{}"):
        if found.count(("mark", opening)) != found.count(("mark", closing)):
            raise ValueError(f"{opening} without {closing}: {query!r}")
    return found


def _matchers(tokens: list[tuple[str, str]]) -> dict[str, list[str]]:
    """`label = "value"`, ...; alternatives of a pattern are values of their own."""
    parts = [text for _, text in tokens if text != ","]
    labels, operators, values = parts[::3], parts[1::3], parts[2::3]
    if len(parts) % 3 or not set(operators) <= {"=", "!=", "=~", "!~"}:
        raise ValueError(f"no matchers: {parts}")
    return {label: value.strip('"').split("|") for label, value in zip(labels, values, strict=True)}
