"""The calls for looking at classes and putting them in order. `Client` has what they mean."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from .._errors import InvalidInput
from .._inputs import check_label, to_ids
from .._results import ExampleKind, ExamplePage, VersionComparison, VersionEvaluation
from .._transport.caller import Caller
from .._transport.methods import COMPARE_VERSIONS, GET_EVALUATION, LIST_EXAMPLES, MERGE_CLASSES, RENAME_CLASS
from ..v1 import curation_pb2 as cu
from . import decoding

_KINDS: dict[ExampleKind | None, cu.StoredExample.Kind.ValueType] = {
    None: cu.StoredExample.KIND_UNSPECIFIED,
    "exemplars": cu.StoredExample.EXEMPLARS,
    "holdout": cu.StoredExample.HOLDOUT,
    "pending": cu.StoredExample.PENDING,
    "review": cu.StoredExample.REVIEW,
}


async def examples(
    caller: Caller,
    label: str,
    *,
    kind: ExampleKind | None,
    ids: Iterable[str],
    page_size: int,
    page_token: str,
    max_side: int,
    nearest_to: ArrayLike | None,
    timeout: float | None,
) -> ExamplePage:
    check_label(label)
    if kind not in _KINDS:
        allowed = ", ".join(repr(known) for known in _KINDS if known)
        raise InvalidInput(f"kind: {kind!r}; {allowed} and None are allowed")
    request = cu.ListExamplesRequest(
        label=label,
        kind=_KINDS[kind],
        ids=to_ids(ids),
        page_size=page_size,
        page_token=page_token,
        max_side=max_side,
        nearest_to=None if nearest_to is None else np.asarray(nearest_to, np.float32).ravel(),
    )
    return decoding.example_page(await caller.call(LIST_EXAMPLES, request, timeout))


async def evaluation(caller: Caller, version: int | None, timeout: float | None) -> VersionEvaluation:
    request = cu.GetEvaluationRequest(version=version or 0)
    return decoding.version_evaluation(await caller.call(GET_EVALUATION, request, timeout))


async def compare(caller: Caller, base: int, other: int, timeout: float | None) -> VersionComparison:
    request = cu.CompareVersionsRequest(base=base, other=other)
    return decoding.version_comparison(await caller.call(COMPARE_VERSIONS, request, timeout))


async def rename_class(caller: Caller, label: str, new_label: str, timeout: float | None) -> int:
    check_label(label)
    check_label(new_label)
    request = cu.RenameClassRequest(label=label, new_label=new_label)
    return (await caller.call(RENAME_CLASS, request, timeout)).examples


async def merge_classes(caller: Caller, label: str, into: str, timeout: float | None) -> int:
    check_label(label)
    check_label(into)
    return (await caller.call(MERGE_CLASSES, cu.MergeClassesRequest(label=label, into=into), timeout)).examples
