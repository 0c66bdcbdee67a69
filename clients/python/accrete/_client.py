"""The client for threads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
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
from ._transport.caller import Caller
from ._transport.sync_transport import SyncTransport, iterate, iterate_batches, run


class Client:
    """A connection to an Accrete server, which threads may share. Close it, or use it in a `with` statement.

    Every call has a deadline of `timeout` seconds (None for the client's), in which it is made again, as `retry` says,
    when the server does not respond or asks to come back later. Nothing is done twice by that. A server that has never
    answered this client is told to be missing within about a second (`Retry.first_s`), where nothing listens or
    something else does; `wait_ready` waits for one that is about to start. Every call may raise any AccreteError.
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
        """Prepare a connection, which is made with the first call.

        Args:
            address: "host:port", "unix:path" or several "ip:port,ip:port". None for the environment's ACCRETE_ADDRESS,
                else 127.0.0.1:50051.
            timeout: seconds for each call, retries included.
            retry: when a call is made again. None for never.
            tls: whether to encrypt, and with which certificates.
            token: who calls, where the server asks. None for the environment's ACCRETE_TOKEN, if set.
            node: the name of the node that is meant (`Status.node`): every call that reaches another is refused there
                with InvalidInput, and changes nothing. None for the environment's ACCRETE_NODE, if set.
            spread: whether to spread calls over all servers that the one at `address` names as its fellows, where it
                does (the setting `server.advertise`). They are reached with the same certificates and token.

        Raises:
            InvalidInput: one of them cannot be used.
        """
        where = endpoint(address, tls, token, node=node)
        self._caller = Caller(
            transport=SyncTransport(where, spread=spread), endpoint=where, timeout_s=timeout, retry=retry or NO_RETRY
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all calls. Further ones raise Cancelled."""
        run(self._caller.transport.close())

    def wait_ready(self, timeout: float | None = None) -> None:
        """Return once the server can take calls, whether or not it has learned anything.

        Raises:
            Unavailable: it cannot in time.
        """
        run(operation.wait_ready(self._caller, timeout))

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
        window: int = prediction.WINDOW,
        timeout: float | None = None,
    ) -> list[Prediction]: ...

    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        top_k: int = 5,
        features: bool = False,
        unknown_rate: float = 0.0,
        window: int = prediction.WINDOW,
        timeout: float | None = None,
    ) -> Prediction | list[Prediction]:
        """Rank labels for an image, or for each of several.

        More than 64 images, or 32 MiB, take several calls, each of which predicts with one version. They are under way
        together, so that a server of several cores has work for all of them.

        Args:
            images: one input of the model, or several.
            top_k: labels per image, 1 to 1000.
            features: whether to return the model's feature vectors as well.
            unknown_rate: mark an image that is near no class as `unknown`, and with it at most this share (0 to 0.5) of
                images of known classes. 0 leaves it to the server, where it is off by default.
            window: calls under way at once, where several images take more than one.
            timeout: seconds for each call.

        Returns:
            A prediction for one image, a list for several. Of several, one that cannot be used has the reason, with its
            file's name, in `Prediction.refused`, and the others are answered all the same.

        Raises:
            NoModel: nothing has been learned yet.
            InvalidInput: a parameter, or the one image that was given, cannot be used, which the message names.
        """
        options = prediction.Options(top_k=top_k, features=features, unknown_rate=unknown_rate)
        return run(prediction.predict(self._caller, images, options, window, timeout))

    def add_examples(
        self, examples: Iterable[ExampleLike], *, batch_size: int = BATCH_SIZE, timeout: float | None = None
    ) -> AddReport:
        """Store examples, and return when the server has acknowledged all of them.

        An example without an id gets one that is made from its label and content, so that sending anything again, after
        an error for instance, stores nothing twice.

        Args:
            examples: `Example(label, image)`, (label, image) or (label, image, id).
            batch_size: examples per call.
            timeout: seconds for each call.

        Returns:
            How many were stored, their ids, and which images cannot be used; the others are stored all the same.
        """
        return run(teaching.add_examples(self._caller, examples, batch_size=batch_size, timeout=timeout))

    def stream_examples(
        self,
        examples: Iterable[ExampleLike],
        *,
        batch_size: int = BATCH_SIZE,
        window: int = 4,
        timeout: float | None = None,
    ) -> Iterator[ExampleResult]:
        """Store a long or endless stream of examples, and yield each one's result as it is acknowledged.

        Args:
            examples: as for `add_examples`.
            batch_size: examples that are acknowledged together.
            window: batches on their way at once, at most.
            timeout: seconds for the acknowledgement of a batch.
        """
        return iterate_batches(
            stream.stream_batches(self._caller, examples, batch_size=batch_size, window=window, timeout=timeout)
        )

    def add_folder(
        self,
        path: str | os.PathLike[str],
        *,
        progress: bool | Report = True,
        batch_size: int = BATCH_SIZE,
        timeout: float | None = None,
    ) -> AddReport:
        """Store a tree of images with one folder per label.

        A folder's name in decomposed Unicode becomes a composed label (NFC). Hidden files and folders, and files that
        are no images, are passed over and counted in the report's `skipped`.

        Args:
            path: the folder of the folders.
            progress: whether to show a bar on a terminal's stderr, or a function that is called with how many are done
                and of how many.
            batch_size: examples per call.
            timeout: seconds for each call.

        Raises:
            InvalidInput: there are no images.
        """
        return run(teaching.add_folder(self._caller, path, progress=progress, batch_size=batch_size, timeout=timeout))

    def evaluate(
        self,
        path: str | os.PathLike[str],
        *,
        threshold: float = SURE,
        unknown_rate: float = 0.0,
        worst: int = 10,
        progress: bool | Report = True,
        timeout: float | None = None,
    ) -> Evaluation:
        """Measure the live version on a tree of images kept aside, one folder per label, and store nothing.

        Images are read as they are sent, so that there may be any number. One that cannot be used is in the result's
        `refused`. Folders and files are taken as by `add_folder`; labels that the model does not know are counted
        apart, as strangers.

        Args:
            path: the folder of the folders.
            threshold: probability below which an answer is doubted; see `Prediction.doubt`.
            unknown_rate: as for `predict`.
            worst: how many of the most probable wrong answers to return.
            progress: as for `add_folder`.
            timeout: seconds for each call.

        Raises:
            NoModel: nothing has been learned yet.
            InvalidInput: there are no images, or a parameter cannot be used.
        """
        return run(
            evaluation.evaluate(
                self._caller,
                path,
                threshold=threshold,
                unknown_rate=unknown_rate,
                worst=worst,
                progress=progress,
                timeout=timeout,
            )
        )

    def wait_learned(self, ids: Iterable[str], timeout: float | None = None) -> int:
        """Return the live version once all these examples are in it; 0 for no ids.

        Raises:
            NotLearned: they are not in time. It has the ids still `waiting`.
            NotFound: an id was never added.
        """
        return run(teaching.wait_learned(self._caller, ids, timeout))

    def watch(self, *, after: str = "", timeout: float | None = None) -> Iterator[Event]:
        """Yield what the learner does, without an end.

        Each event is of the class of what happened, with `id`, `time_ms` and `kind` besides its own fields:
        `match event: case VersionCommitted(version=number): ...`

        A broken connection is made anew, and loses nothing once an event has been seen.

        Args:
            after: an event's id to go on from; "" for those from now on, "0" for all that are kept.
            timeout: seconds that an outage may last before it is raised.
        """
        return iterate(watch.watch(self._caller, after=after, timeout=timeout))

    def status(self, *, timeout: float | None = None) -> Status:
        """Return the state of the server, the learner and the store."""
        return run(operation.status(self._caller, timeout))

    def servers(self, *, timeout: float | None = None) -> list[ServerInfo]:
        """Return the servers that calls may be spread over, by address, as the one at the given address knows them.

        None where it tells of none (its setting `server.advertise`).
        """
        return run(operation.servers(self._caller, timeout))

    def classes(self, *, timeout: float | None = None) -> list[ClassInfo]:
        """Return all labels, learned ones first, in the order in which they came."""
        return run(operation.classes(self._caller, timeout))

    def versions(self, *, timeout: float | None = None) -> list[VersionInfo]:
        """Return all versions, newest first."""
        return run(operation.versions(self._caller, timeout))

    def examples(
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
        """Return a page of a label's stored examples: exemplars best first, hold-out, pending, in review.

        For all of them, call it again with the `next_page_token` of each page until that is empty. What is learned or
        deleted meanwhile is on none of the later pages. It needs the role `teach` or `operate`.

        Args:
            label: whose examples.
            kind: "exemplars", "holdout", "pending" or "review" alone; None for all, in this order.
            ids: these alone, at most 200; none for all.
            page_size: examples per page, 1 to 200; pages with large images may have fewer.
            page_token: of the page before; "" for the first page.
            max_side: pixels of an image's longest side, up to 1,024, above which it is shrunk; 0 for no images.
            nearest_to: [d], `Prediction.features`: the exemplars most alike, with `kind` "exemplars". Trained methods
                store no features: of theirs the first.
            timeout: seconds; None: the client's.

        Raises:
            NotFound: there is no such label.
        """
        return run(
            curation.examples(
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
        )

    def evaluation(self, version: int | None = None, *, timeout: float | None = None) -> VersionEvaluation:
        """Return how right a version was by class, what it took for what, and which stored examples it got wrong.

        Nothing is computed: it is what was kept when the version's step measured it. `evaluate` measures the live
        version on images of your own.

        Args:
            version: its number; None for the live one.
            timeout: seconds; None: the client's.

        Raises:
            NotFound: there is no such version.
            NotNow: nothing is live yet, or nothing is kept of the version, since it was rejected, its files are gone or
                an earlier release made it.
        """
        return run(curation.evaluation(self._caller, version, timeout))

    def compare(self, base: int, other: int, *, timeout: float | None = None) -> VersionComparison:
        """Return what one version judged otherwise than another, by class and example.

        Args:
            base: the version that is compared with.
            other: the version that is compared.
            timeout: seconds; None: the client's.

        Raises:
            NotFound: there is no such version.
            NotNow: nothing is kept of one of them (see `evaluation`).
        """
        return run(curation.compare(self._caller, base, other, timeout))

    def activate(self, version: int, *, timeout: float | None = None) -> Activation:
        """Make a version live and pin it, so that later ones do not go live until `unpin`.

        Raises:
            NotFound: there is no such version.
            NotNow: it was rejected, or its files are gone.
        """
        return run(operation.activate(self._caller, version, timeout))

    def unpin(self, *, timeout: float | None = None) -> Activation:
        """Make the newest ready version live, and later ones as they come."""
        return run(operation.unpin(self._caller, timeout))

    def discard(self, version: int, *, timeout: float | None = None) -> Discarded:
        """Give up a version whose files are damaged for good. This cannot be undone.

        If it is the newest, steps go on from the ready one before it, and classes that this one does not know are
        learned again from their exemplars.

        Raises:
            NotFound: there is no such version.
            NotNow: its files are whole, or it is not ready.
        """
        return run(operation.discard(self._caller, version, timeout))

    def pause(self, *, timeout: float | None = None) -> None:
        """Start no step until `resume`. One that runs is finished."""
        run(operation.pause(self._caller, timeout))

    def resume(self, *, timeout: float | None = None) -> None:
        """End `pause`."""
        run(operation.resume(self._caller, timeout))

    def trigger_step(self, *, deep: bool = False, timeout: float | None = None) -> int:
        """Start a step with what is pending, and return how many examples that is.

        Args:
            deep: start a deep step instead, which trains the backbone on what is learned and takes minutes; the field
                `deep` of `status` says how far it is.
            timeout: seconds; None: the client's.

        Raises:
            NotNow: nothing is pending, the backbone is none that a deep step trains, or learning is paused.
        """
        return run(operation.trigger_step(self._caller, deep, timeout))

    def held(self, *, timeout: float | None = None) -> list[HeldLabel]:
        """Return the labels in quarantine, whose pending examples are set aside, and why.

        After failed or rejected steps they wait until there are half as many again, a step is triggered, or
        `retry_held` or `drop_held`. New labels that await approval wait for `approve` or `drop_held` alone.
        """
        return run(operation.held(self._caller, timeout))

    def retry_held(self, label: str, *, timeout: float | None = None) -> int:
        """Let the examples of a label in quarantine start steps again, and return how many are pending.

        Raises:
            NotFound: it is not in quarantine, perhaps since an attempt whose response was lost has done it.
        """
        return run(operation.retry_held(self._caller, label, timeout))

    def approve(self, label: str, *, timeout: float | None = None) -> int:
        """Let a new label be learned that waits for approval, and return how many of its examples are pending.

        Raises:
            NotFound: it does not wait (see `retry_held`).
        """
        return run(operation.approve(self._caller, label, timeout))

    def drop_held(self, label: str, *, timeout: float | None = None) -> int:
        """Remove the pending examples of a label in quarantine, and return how many.

        What is learned of it stays, and the ids may be sent again.

        Raises:
            NotFound: it is not in quarantine (see `retry_held`).
        """
        return run(operation.drop_held(self._caller, label, timeout))

    def review(self, *, timeout: float | None = None) -> list[ReviewGroup]:
        """Return the examples that the learner set aside for review rather than learn them, in groups, and why."""
        return run(operation.review(self._caller, timeout))

    def release_review(
        self,
        label: str | None = None,
        *,
        principal: str | None = None,
        reason: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Let examples that were set aside for review be learned after all, and return how many.

        They are those that fit all that is given of label, principal and reason. They are not reviewed again.

        Raises:
            InvalidInput: nothing is given.
            NotFound: nothing fits.
        """
        return run(operation.release_review(self._caller, label, principal, reason, timeout))

    def drop_review(
        self,
        label: str | None = None,
        *,
        principal: str | None = None,
        reason: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Remove examples that were set aside for review, selected as by `release_review`, and return how many."""
        return run(operation.drop_review(self._caller, label, principal, reason, timeout))

    def inbox(
        self,
        *,
        order: InboxOrder = "doubt",
        state: InboxState = "open",
        page_size: int = 50,
        page_token: str = "",
        max_side: int = 0,
        timeout: float | None = None,
    ) -> InboxPage:
        """Return a page of the images that the model was unsure of, which wait for a person to say what they show.

        The server keeps them where its setting `inbox.enabled` is on. For all of them, call it again with the
        `next_page_token` of each page until that is empty. It needs the role `teach` or `operate`.

        Args:
            order: "doubt" for the most doubtful first, "newest", or "look" for images that look alike beside each
                other, the largest group first. What is labelled or skipped comes with the last first.
            state: "open", "labelled" (kept for a day) or "skipped".
            page_size: images per page, 1 to 200.
            page_token: of the page before; "" for the first page.
            max_side: pixels of an image's longer side, up to 1,024, above which it is shrunk; 0 for no images.
            timeout: seconds; None: the client's.
        """
        return run(
            inbox.inbox(
                self._caller,
                order=order,
                state=state,
                page_size=page_size,
                page_token=page_token,
                max_side=max_side,
                timeout=timeout,
            )
        )

    def inbox_image(self, item_id: str, *, max_side: int = 0, timeout: float | None = None) -> InboxImage:
        """Return one image of the inbox.

        Args:
            item_id: of the image.
            max_side: as for `inbox`; 0: as it is kept.
            timeout: seconds; None: the client's.

        Raises:
            NotFound: it is not in the inbox, or no longer.
        """
        return run(inbox.inbox_image(self._caller, item_id, max_side, timeout))

    def label_inbox(self, labels: Mapping[str, str], *, timeout: float | None = None) -> list[InboxResult]:
        """Teach images of the inbox under labels, by their ids, and return what became of each.

        They are stored as by `add_examples`: durable when this returns, under the same quotas and approval. The same
        call again stores nothing twice. One that somebody else has given another label meanwhile is refused, with who
        said what. More than 256 take several calls.
        """
        return run(inbox.label_inbox(self._caller, labels, timeout))

    def skip_inbox(self, ids: Iterable[str], *, timeout: float | None = None) -> InboxReport:
        """Set images of the inbox aside that nobody needs to label; nearly the same ones are not kept again."""
        return run(inbox.skip_inbox(self._caller, ids, timeout))

    def reopen_inbox(self, ids: Iterable[str], *, timeout: float | None = None) -> InboxReport:
        """Undo labels and skips: the images are open again, and their examples are deleted wherever they are.

        What a trained network has made of an example stays in its weights, as after `delete_examples`.
        """
        return run(inbox.reopen_inbox(self._caller, ids, timeout))

    def delete_examples(self, ids: Iterable[str], *, timeout: float | None = None) -> DeleteReport:
        """Remove examples from wherever they are kept.

        Raises:
            NotFound: none of the ids is known, perhaps since an attempt whose response was lost has removed them.
        """
        return run(operation.delete_examples(self._caller, ids, timeout))

    def forget_class(self, label: str, *, timeout: float | None = None) -> ForgetReport:
        """Remove a class: its examples and its predictions at once, its share of the weights with the next step.

        Raises:
            NotFound: there is no such class (see `delete_examples`).
        """
        return run(operation.forget_class(self._caller, label, timeout))

    def rename_class(self, label: str, new_label: str, *, timeout: float | None = None) -> int:
        """Give a class another label, in answers, lists and all versions at once; return how many examples it has.

        Nothing is learned anew. Ids stay known, and an example sent again under either label is a duplicate. The old
        label may be taught again as another class. Done again, it changes nothing and returns 0. It needs the role
        `operate`.

        Raises:
            NotFound: there is no such class.
            AlreadyExists: the new label is a class's; `merge_classes` puts both together.
            InvalidInput: the new label is none that examples may have.
        """
        return run(curation.rename_class(self._caller, label, new_label, timeout))

    def merge_classes(self, label: str, into: str, *, timeout: float | None = None) -> int:
        """Make a class part of another one; return how many examples it had, which are the other's from then on.

        Both are answered as one class at once, with their probabilities added, and learned as one by the next step.
        This cannot be undone. Done again, it changes nothing and returns 0. It needs the role `operate`.

        Raises:
            NotFound: there is no such class, or none to merge it into: `rename_class` gives it another label.
            InvalidInput: both are the same.
        """
        return run(curation.merge_classes(self._caller, label, into, timeout))
