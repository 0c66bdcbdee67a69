"""The client for threads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, overload

from . import _operation, _prediction, _stream, _teaching, _watch
from ._blocking import BlockingTransport, each_of, iterate, run
from ._config import DEFAULT_TIMEOUT_S, NO_RETRY, Retry, TlsConfig, endpoint
from ._core import Core
from ._events import Event
from ._inputs import ExampleLike, ImageLike
from ._prepared import BATCH_SIZE
from ._progress import Report
from ._results import (
    Activation,
    AddReport,
    ClassInfo,
    DeleteReport,
    Discarded,
    ExampleResult,
    ForgetReport,
    HeldLabel,
    Prediction,
    ReviewGroup,
    Status,
    VersionInfo,
)


class Client:
    """A connection to an Accrete server. Safe to share among threads; close it, or use it in a `with` statement.

    Every call has a deadline, `timeout` seconds (None: the client's), in which it is made again as `retry` says when
    the server does not answer or asks to come back later. Nothing is done twice by that. Every call may raise any
    AccreteError.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        retry: Retry | None = Retry(),  # noqa: B008
        tls: bool | TlsConfig = False,
        token: str | None = None,
    ) -> None:
        """Connects with the first call. `address`: "host:port", "unix:path" or several "ip:port,ip:port"; None: the
        environment's ACCRETE_ADDRESS, else 127.0.0.1:50051. `retry` None: every call is made once. `token`: says who
        calls, where the server asks; None: the environment's ACCRETE_TOKEN, if set. Raises InvalidInput."""
        self._core = Core(
            transport=BlockingTransport(endpoint(address, tls, token)), timeout_s=timeout, retry=retry or NO_RETRY
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all calls; further ones raise Cancelled."""
        run(self._core.transport.close())

    def wait_ready(self, timeout: float | None = None) -> None:
        """Returns once the server can answer (whether or not it has learned anything). Raises Unavailable if it does
        not in time."""
        run(_operation.wait_ready(self._core, timeout))

    @overload
    def predict(  # type: ignore[overload-overlap]  # a path is a string, which is a sequence of strings
        self,
        images: ImageLike,
        *,
        top_k: int = 5,
        features: bool = False,
        unknown_rate: float = 0.0,
        timeout: float | None = None,
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        images: Iterable[ImageLike],
        *,
        top_k: int = 5,
        features: bool = False,
        unknown_rate: float = 0.0,
        timeout: float | None = None,
    ) -> list[Prediction]: ...

    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        top_k: int = 5,
        features: bool = False,
        unknown_rate: float = 0.0,
        timeout: float | None = None,
    ) -> Prediction | list[Prediction]:
        """Ranks `top_k` labels (1 to 1000) for an image, or for each of several; with `features`, the model's feature
        vectors, too. More than 64 images, or 32 MiB, take several calls, of which each answers from one version.

        With `unknown_rate` (0 to 0.5) an image that is near no class is marked `unknown`, and at most that share of
        images of known classes with it; 0 leaves it to the server, which is off by default.

        Raises NoModel before anything has been learned, InvalidInput naming an image that cannot be used."""
        return run(
            _prediction.predict(
                self._core, images, top_k=top_k, features=features, unknown_rate=unknown_rate, timeout=timeout
            )
        )

    def add_examples(
        self, examples: Iterable[ExampleLike], *, batch_size: int = BATCH_SIZE, timeout: float | None = None
    ) -> AddReport:
        """Stores examples: `Example(label, image)`, (label, image) or (label, image, id). Returns when the server has
        acknowledged all of them. An image that cannot be used is refused in the report; the others are stored.

        An example without an id gets one made from its label and content (see `AddReport.ids`), so sending anything
        again, after an error for instance, stores nothing twice. `timeout` is for each batch."""
        return run(_teaching.add_examples(self._core, examples, batch_size=batch_size, timeout=timeout))

    def stream_examples(
        self,
        examples: Iterable[ExampleLike],
        *,
        batch_size: int = BATCH_SIZE,
        window: int = 4,
        timeout: float | None = None,
    ) -> Iterator[ExampleResult]:
        """`add_examples` for long or endless streams: yields each example's result as it is acknowledged, with at most
        `window` batches on their way. `timeout` is for the acknowledgement of a batch."""
        return each_of(
            _stream.stream_batches(self._core, examples, batch_size=batch_size, window=window, timeout=timeout)
        )

    def add_folder(
        self,
        path: str | os.PathLike[str],
        *,
        progress: bool | Report = True,
        batch_size: int = BATCH_SIZE,
        timeout: float | None = None,
    ) -> AddReport:
        """Stores a tree of images with one folder for each label. `progress`: a bar on a terminal's stderr, or a
        function that is called with how many are done, and of how many. `timeout` is for each batch."""
        return run(_teaching.add_folder(self._core, path, progress=progress, batch_size=batch_size, timeout=timeout))

    def wait_learned(self, ids: Iterable[str], timeout: float | None = None) -> int:
        """Returns the live version once all these examples are in it (0 for no ids). Raises NotLearned, which has the
        ids still `waiting`, when they are not in time; NotFound for an id that was never added."""
        return run(_teaching.wait_learned(self._core, ids, timeout))

    def watch(self, *, after: str = "", timeout: float | None = None) -> Iterator[Event]:
        """Yields what the learner does, for as long as the caller goes on; broken connections are made anew and lose
        nothing once an event has been seen. `after`: an event's id to go on from; "" from now on, "0" all that are
        kept. `timeout`: how long an outage may last before it is raised."""
        return iterate(_watch.watch(self._core, after=after, timeout=timeout))

    def status(self, *, timeout: float | None = None) -> Status:
        """The state of the server, the learner and the store."""
        return run(_operation.status(self._core, timeout))

    def classes(self, *, timeout: float | None = None) -> list[ClassInfo]:
        """All labels, learned ones first, in the order in which they came."""
        return run(_operation.classes(self._core, timeout))

    def versions(self, *, timeout: float | None = None) -> list[VersionInfo]:
        """All versions, newest first."""
        return run(_operation.versions(self._core, timeout))

    def activate(self, version: int, *, timeout: float | None = None) -> Activation:
        """Makes a version live and pins it: later ones do not go live until `unpin`. Raises NotFound, or NotNow for
        one that was rejected or whose files are gone."""
        return run(_operation.activate(self._core, version, timeout))

    def unpin(self, *, timeout: float | None = None) -> Activation:
        """Makes the newest ready version live, and later ones as they come."""
        return run(_operation.unpin(self._core, timeout))

    def discard(self, version: int, *, timeout: float | None = None) -> Discarded:
        """Gives up a version whose files are damaged for good, which nothing undoes. If it is the newest, steps go on
        from the ready one before it, and classes that this one does not know are learned again from their exemplars.
        Raises NotFound, and NotNow when its files are whole or it is not ready."""
        return run(_operation.discard(self._core, version, timeout))

    def pause(self, *, timeout: float | None = None) -> None:
        """No step starts until `resume`; one that runs is finished."""
        run(_operation.pause(self._core, timeout))

    def resume(self, *, timeout: float | None = None) -> None:
        """Ends `pause`."""
        run(_operation.resume(self._core, timeout))

    def trigger_step(self, *, timeout: float | None = None) -> int:
        """Starts a step with what is pending, and returns how many examples that is. Raises NotNow when nothing is,
        or learning is paused."""
        return run(_operation.trigger_step(self._core, timeout))

    def held(self, *, timeout: float | None = None) -> list[HeldLabel]:
        """Labels whose pending examples are set aside after failed or rejected steps, and why. They wait until there
        are half as many again, a step is triggered, or `retry_held` or `drop_held`; new ones that await approval wait
        for `approve` or `drop_held` alone."""
        return run(_operation.held(self._core, timeout))

    def retry_held(self, label: str, *, timeout: float | None = None) -> int:
        """Lets a label's examples start steps again, and returns how many are pending. Raises NotFound when it is not
        set aside (which may also mean that an attempt whose answer was lost has done it)."""
        return run(_operation.retry_held(self._core, label, timeout))

    def approve(self, label: str, *, timeout: float | None = None) -> int:
        """Lets a new label be learned that waits for approval (`held` lists it), and returns how many of its examples
        are pending. Raises NotFound (see `retry_held`)."""
        return run(_operation.approve(self._core, label, timeout))

    def drop_held(self, label: str, *, timeout: float | None = None) -> int:
        """Removes the pending examples of a label that is set aside, and returns how many; what is learned of it stays,
        and the ids may be sent again. Raises NotFound (see `retry_held`)."""
        return run(_operation.drop_held(self._core, label, timeout))

    def review(self, *, timeout: float | None = None) -> list[ReviewGroup]:
        """Examples that the learner set aside for review rather than learn them, in groups, and why."""
        return run(_operation.review(self._core, timeout))

    def release_review(
        self,
        label: str | None = None,
        *,
        principal: str | None = None,
        reason: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Lets examples that were set aside be learned after all, without another review, and returns how many. What is
        given of label, principal and reason fits. Raises InvalidInput without any, NotFound when nothing fits."""
        return run(_operation.release_review(self._core, label, principal, reason, timeout))

    def drop_review(
        self,
        label: str | None = None,
        *,
        principal: str | None = None,
        reason: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Removes examples that were set aside, and returns how many; selected as by `release_review`."""
        return run(_operation.drop_review(self._core, label, principal, reason, timeout))

    def delete_examples(self, ids: Iterable[str], *, timeout: float | None = None) -> DeleteReport:
        """Removes examples from wherever they are kept. Raises NotFound when none of the ids is known (which may also
        mean that an attempt whose answer was lost has removed them)."""
        return run(_operation.delete_examples(self._core, ids, timeout))

    def forget_class(self, label: str, *, timeout: float | None = None) -> ForgetReport:
        """Removes a class: its examples and its answers at once, its share of the weights with the next step. Raises
        NotFound (see `delete_examples`)."""
        return run(_operation.forget_class(self._core, label, timeout))
