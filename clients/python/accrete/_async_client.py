"""The client for asyncio."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Self, overload

from numpy.typing import ArrayLike

from ._calls import curation, evaluation, inbox, operation, prediction, stream, teaching, watch
from ._calls.example_batches import BATCH_SIZE
from ._calls.progress import Report
from ._config import DEFAULT_TIMEOUT_S, NO_RETRY, Retry, TlsConfig, endpoint
from ._evaluation import Evaluation
from ._events import Event
from ._inputs import ExampleLike, ImageLike
from ._results import (
    SURE,
    Activation,
    AddReport,
    ClassInfo,
    DeleteReport,
    Discarded,
    ExampleKind,
    ExamplePage,
    ExampleResult,
    ForgetReport,
    HeldLabel,
    InboxImage,
    InboxOrder,
    InboxPage,
    InboxReport,
    InboxResult,
    InboxState,
    Prediction,
    ReviewGroup,
    ServerInfo,
    Status,
    VersionComparison,
    VersionEvaluation,
    VersionInfo,
)
from ._transport.async_transport import AsyncTransport
from ._transport.caller import Caller


class AsyncClient:
    """`Client` for asyncio, with the same methods, parameters, results and errors.

    Its methods are awaited, and `watch` and `stream_examples` are iterated with `async for`. Examples may also come
    from an asynchronous iterable. It belongs to the event loop of its first call. Close it, or use it in an
    `async with` statement.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        retry: Retry | None = Retry(),  # noqa: B008
        tls: bool | TlsConfig = False,
        token: str | None = None,
        node: str | None = None,
        spread: bool = True,
    ) -> None:
        """See `Client`."""
        where = endpoint(address, tls, token, node=node)
        self._caller = Caller(
            transport=AsyncTransport(where, spread=spread), endpoint=where, timeout_s=timeout, retry=retry or NO_RETRY
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """See `Client.close`."""
        await self._caller.transport.close()

    async def wait_ready(self, timeout: float | None = None) -> None:
        """See `Client.wait_ready`."""
        await operation.wait_ready(self._caller, timeout)

    @overload
    async def predict(  # type: ignore[overload-overlap]  # a path is a string, which is a sequence of strings
        self,
        images: ImageLike,
        *,
        top_k: int = 5,
        features: bool = False,
        unknown_rate: float = 0.0,
        timeout: float | None = None,
    ) -> Prediction: ...

    @overload
    async def predict(
        self,
        images: Iterable[ImageLike],
        *,
        top_k: int = 5,
        features: bool = False,
        unknown_rate: float = 0.0,
        window: int = prediction.WINDOW,
        timeout: float | None = None,
    ) -> list[Prediction]: ...

    async def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        top_k: int = 5,
        features: bool = False,
        unknown_rate: float = 0.0,
        window: int = prediction.WINDOW,
        timeout: float | None = None,
    ) -> Prediction | list[Prediction]:
        """See `Client.predict`."""
        options = prediction.Options(top_k=top_k, features=features, unknown_rate=unknown_rate)
        return await prediction.predict(self._caller, images, options, window, timeout)

    async def add_examples(
        self,
        examples: Iterable[ExampleLike] | AsyncIterable[ExampleLike],
        *,
        batch_size: int = BATCH_SIZE,
        timeout: float | None = None,
    ) -> AddReport:
        """See `Client.add_examples`."""
        return await teaching.add_examples(self._caller, examples, batch_size=batch_size, timeout=timeout)

    def stream_examples(
        self,
        examples: Iterable[ExampleLike] | AsyncIterable[ExampleLike],
        *,
        batch_size: int = BATCH_SIZE,
        window: int = 4,
        timeout: float | None = None,
    ) -> AsyncIterator[ExampleResult]:
        """See `Client.stream_examples`."""
        return stream.stream_examples(self._caller, examples, batch_size=batch_size, window=window, timeout=timeout)

    async def add_folder(
        self,
        path: str | os.PathLike[str],
        *,
        progress: bool | Report = True,
        batch_size: int = BATCH_SIZE,
        timeout: float | None = None,
    ) -> AddReport:
        """See `Client.add_folder`."""
        return await teaching.add_folder(self._caller, path, progress=progress, batch_size=batch_size, timeout=timeout)

    async def evaluate(
        self,
        path: str | os.PathLike[str],
        *,
        threshold: float = SURE,
        unknown_rate: float = 0.0,
        worst: int = 10,
        progress: bool | Report = True,
        timeout: float | None = None,
    ) -> Evaluation:
        """See `Client.evaluate`."""
        return await evaluation.evaluate(
            self._caller,
            path,
            threshold=threshold,
            unknown_rate=unknown_rate,
            worst=worst,
            progress=progress,
            timeout=timeout,
        )

    async def wait_learned(self, ids: Iterable[str], timeout: float | None = None) -> int:
        """See `Client.wait_learned`."""
        return await teaching.wait_learned(self._caller, ids, timeout)

    def watch(self, *, after: str = "", timeout: float | None = None) -> AsyncIterator[Event]:
        """See `Client.watch`."""
        return watch.watch(self._caller, after=after, timeout=timeout)

    async def status(self, *, timeout: float | None = None) -> Status:
        """See `Client.status`."""
        return await operation.status(self._caller, timeout)

    async def servers(self, *, timeout: float | None = None) -> list[ServerInfo]:
        """See `Client.servers`."""
        return await operation.servers(self._caller, timeout)

    async def classes(self, *, timeout: float | None = None) -> list[ClassInfo]:
        """See `Client.classes`."""
        return await operation.classes(self._caller, timeout)

    async def versions(self, *, timeout: float | None = None) -> list[VersionInfo]:
        """See `Client.versions`."""
        return await operation.versions(self._caller, timeout)

    async def examples(
        self,
        label: str,
        *,
        kind: ExampleKind | None = None,
        ids: Iterable[str] = (),
        page_size: int = 50,
        page_token: str = "",
        max_side: int = 0,
        nearest_to: ArrayLike | None = None,
        timeout: float | None = None,
    ) -> ExamplePage:
        """See `Client.examples`."""
        return await curation.examples(
            self._caller,
            label,
            kind=kind,
            ids=ids,
            page_size=page_size,
            page_token=page_token,
            max_side=max_side,
            nearest_to=nearest_to,
            timeout=timeout,
        )

    async def evaluation(self, version: int | None = None, *, timeout: float | None = None) -> VersionEvaluation:
        """See `Client.evaluation`."""
        return await curation.evaluation(self._caller, version, timeout)

    async def compare(self, base: int, other: int, *, timeout: float | None = None) -> VersionComparison:
        """See `Client.compare`."""
        return await curation.compare(self._caller, base, other, timeout)

    async def activate(self, version: int, *, timeout: float | None = None) -> Activation:
        """See `Client.activate`."""
        return await operation.activate(self._caller, version, timeout)

    async def unpin(self, *, timeout: float | None = None) -> Activation:
        """See `Client.unpin`."""
        return await operation.unpin(self._caller, timeout)

    async def discard(self, version: int, *, timeout: float | None = None) -> Discarded:
        """See `Client.discard`."""
        return await operation.discard(self._caller, version, timeout)

    async def pause(self, *, timeout: float | None = None) -> None:
        """See `Client.pause`."""
        await operation.pause(self._caller, timeout)

    async def resume(self, *, timeout: float | None = None) -> None:
        """See `Client.resume`."""
        await operation.resume(self._caller, timeout)

    async def trigger_step(self, *, deep: bool = False, timeout: float | None = None) -> int:
        """See `Client.trigger_step`."""
        return await operation.trigger_step(self._caller, deep, timeout)

    async def held(self, *, timeout: float | None = None) -> list[HeldLabel]:
        """See `Client.held`."""
        return await operation.held(self._caller, timeout)

    async def retry_held(self, label: str, *, timeout: float | None = None) -> int:
        """See `Client.retry_held`."""
        return await operation.retry_held(self._caller, label, timeout)

    async def approve(self, label: str, *, timeout: float | None = None) -> int:
        """See `Client.approve`."""
        return await operation.approve(self._caller, label, timeout)

    async def drop_held(self, label: str, *, timeout: float | None = None) -> int:
        """See `Client.drop_held`."""
        return await operation.drop_held(self._caller, label, timeout)

    async def review(self, *, timeout: float | None = None) -> list[ReviewGroup]:
        """See `Client.review`."""
        return await operation.review(self._caller, timeout)

    async def release_review(
        self,
        label: str | None = None,
        *,
        principal: str | None = None,
        reason: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """See `Client.release_review`."""
        return await operation.release_review(self._caller, label, principal, reason, timeout)

    async def drop_review(
        self,
        label: str | None = None,
        *,
        principal: str | None = None,
        reason: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """See `Client.drop_review`."""
        return await operation.drop_review(self._caller, label, principal, reason, timeout)

    async def inbox(
        self,
        *,
        order: InboxOrder = "doubt",
        state: InboxState = "open",
        page_size: int = 50,
        page_token: str = "",
        max_side: int = 0,
        timeout: float | None = None,
    ) -> InboxPage:
        """See `Client.inbox`."""
        return await inbox.inbox(
            self._caller,
            order=order,
            state=state,
            page_size=page_size,
            page_token=page_token,
            max_side=max_side,
            timeout=timeout,
        )

    async def inbox_image(self, item_id: str, *, max_side: int = 0, timeout: float | None = None) -> InboxImage:
        """See `Client.inbox_image`."""
        return await inbox.inbox_image(self._caller, item_id, max_side, timeout)

    async def label_inbox(self, labels: Mapping[str, str], *, timeout: float | None = None) -> list[InboxResult]:
        """See `Client.label_inbox`."""
        return await inbox.label_inbox(self._caller, labels, timeout)

    async def skip_inbox(self, ids: Iterable[str], *, timeout: float | None = None) -> InboxReport:
        """See `Client.skip_inbox`."""
        return await inbox.skip_inbox(self._caller, ids, timeout)

    async def reopen_inbox(self, ids: Iterable[str], *, timeout: float | None = None) -> InboxReport:
        """See `Client.reopen_inbox`."""
        return await inbox.reopen_inbox(self._caller, ids, timeout)

    async def delete_examples(self, ids: Iterable[str], *, timeout: float | None = None) -> DeleteReport:
        """See `Client.delete_examples`."""
        return await operation.delete_examples(self._caller, ids, timeout)

    async def forget_class(self, label: str, *, timeout: float | None = None) -> ForgetReport:
        """See `Client.forget_class`."""
        return await operation.forget_class(self._caller, label, timeout)

    async def rename_class(self, label: str, new_label: str, *, timeout: float | None = None) -> int:
        """See `Client.rename_class`."""
        return await curation.rename_class(self._caller, label, new_label, timeout)

    async def merge_classes(self, label: str, into: str, *, timeout: float | None = None) -> int:
        """See `Client.merge_classes`."""
        return await curation.merge_classes(self._caller, label, into, timeout)
