"""The learner's process, put together of store, artifacts, lease, trainer, metrics and signals."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from threadpoolctl import threadpool_limits

from accrete_kit import atomic_file
from accrete_kit.file_lock import AlreadyLocked, FileLock
from accrete_kit.periodic import PeriodicTask
from accrete_kit.priority import lower_priority
from accrete_learner.method_names import ANALYTIC
from accrete_learner.rank_count import check_ranks, visible_gpus
from accrete_learner_service.analytic.extractor import FrozenExtractor
from accrete_learner_service.analytic.learning import AnalyticLearner
from accrete_learner_service.config import LearnerServiceConfig
from accrete_learner_service.deep.deep_learner import DeepLearner
from accrete_learner_service.evaluation.measure import Handover
from accrete_learner_service.loop.learner_loop import Learner
from accrete_learner_service.provisional.updater import PrototypeUpdater
from accrete_learner_service.runtime.gauges import GaugeUpdater
from accrete_learner_service.runtime.lease import LeaseKeeper
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.runtime.metrics import Metrics
from accrete_learner_service.runtime.metrics_page import metrics_page
from accrete_learner_service.runtime.report import Reporter
from accrete_learner_service.step.context import LearnerContext
from accrete_learner_service.trainer.child import Trainer
from accrete_learner_service.trainer.throttle import TrainingThrottle
from accrete_model.artifact_store import ArtifactStore
from accrete_model.artifacts import open_artifacts
from accrete_model.config import ArtifactsConfig
from accrete_model.errors import BucketRefused, BucketUnavailable
from accrete_model.frozen import BackboneStore
from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.errors import DataDirInUse, StoreUnavailable
from accrete_storage.store import Store

log = logging.getLogger(__name__)

WORK_FOLDER = "work"
READY_FILE = "learner.json"
LOCK_FILE = "learner.lock"
_IN_DATA_DIR = ArtifactsConfig()
#: Seconds between two tries to reach the store at the start, and between two updates of the gauges.
_EVERY_S = 1.0
#: Seconds that a call beside the steps may still take when the process ends.
_LAST_CALL_S = 10.0


def learn(
    config: LearnerServiceConfig,
    store: StoreConfig,
    holdout: HoldoutConfig,
    data_dir: Path,
    artifacts: ArtifactsConfig = _IN_DATA_DIR,
) -> None:
    """Run the learner until SIGTERM or SIGINT. A step in progress is given up, and the next start runs it again.

    Args:
        config: of the process.
        store: where the state is; the embedded store must have been started. A store that does not answer yet is
            waited for.
        holdout: the same as the servers', which set examples aside.
        data_dir: of this learner; the servers' folder as well where versions are in no bucket.
        artifacts: where versions are published, the same as the servers'.

    Raises:
        StoreMisconfigured: the store cannot keep what is promised, or holds examples of another form.
        DataDirInUse: another learner works in this folder.
        OSError: the port of /metrics is taken.
        ValueError: the frozen backbone cannot be built or run, or there are more ranks than cores or GPUs.
        RuntimeError: work beside the steps failed in a way that it cannot go on from; the log has it.
        BucketRefused: versions cannot be published before somebody changes something. A bucket that is away is waited
            for.
    """
    check_ranks(config.training, visible_gpus())
    stopping = threading.Event()
    versions = open_artifacts(artifacts, data_dir)
    with ExitStack() as stack:
        _stop_on_signals(stopping, stack)
        stack.enter_context(_only_learner(data_dir))
        connected = _connect(store, holdout, data_dir, stopping)
        if connected is None:
            return
        stack.callback(connected.close)
        connected.bind_model(str(config.model.input_spec))
        _check(versions)
        _work(connected, versions, config, holdout, data_dir, stopping)
    log.info("learner.stopped")


def _check(artifacts: ArtifactStore) -> None:
    try:
        artifacts.check(writes=True)
    except BucketRefused:
        raise
    except BucketUnavailable as error:
        log.warning("bucket.unavailable", extra=fields(reason=str(error)))


def _work(
    store: Store,
    artifacts: ArtifactStore,
    config: LearnerServiceConfig,
    holdout: HoldoutConfig,
    data_dir: Path,
    stopping: threading.Event,
) -> None:
    metrics = Metrics()
    lease = LeaseKeeper(store, owner=f"{socket.gethostname()}:{data_dir.resolve()}", ttl_s=config.lease_s)
    context = LearnerContext(
        store=store,
        artifacts=artifacts,
        lease=lease,
        trainer=Trainer(nice=config.nice),
        handover=Handover(),
        reporter=Reporter(store, lease, metrics),
        config=config,
        holdout=holdout,
        work=data_dir / WORK_FOLDER,
    )
    analytic = None
    if config.method.name == ANALYTIC:
        import scipy.linalg  # noqa: F401  # with the first example it would cost that a third of a second

        extractor = FrozenExtractor(config.model, BackboneStore(artifacts.backbones))
        analytic = AnalyticLearner(extractor)
    failures: list[Exception] = []

    def give_up(error: Exception) -> None:
        failures.append(error)
        stopping.set()

    with ExitStack() as stack:
        address = stack.enter_context(metrics_page(metrics, config.metrics_host, config.metrics_port))
        atomic_file.write_json(data_dir / READY_FILE, {"metrics": address, "pid": os.getpid()})
        log.info("learner.started", extra=fields(metrics=address))
        # Started before this thread's priority is lowered, which a thread hands on: renewing must never starve.
        lease.start()
        stack.callback(lease.stop)
        throttle = TrainingThrottle(store.control.asked_to_yield, context.trainer, metrics.set_duty_cycle)
        throttle.start()
        stack.callback(throttle.stop)
        for task in _tasks(context, metrics, give_up):
            task.start()
            stack.callback(task.stop, _LAST_CALL_S)
        lower_priority(config.own_nice)
        if analytic is not None:
            # Where others use the cores, several threads of a BLAS wait for each other, and take many times as long.
            stack.enter_context(threadpool_limits(1, user_api="blas"))
        deep = None if analytic is None else DeepLearner(context, analytic, stopping)
        Learner(context, metrics, stopping, analytic, deep).run()
    if failures:
        raise RuntimeError(f"the learner stops: {failures[0]}") from failures[0]


def _tasks(context: LearnerContext, metrics: Metrics, give_up: Callable[[Exception], None]) -> Iterator[PeriodicTask]:
    """Yield what goes on beside the steps, through outages of the store."""
    gauges = GaugeUpdater(context.store, context.lease, context.config, metrics)

    make = partial(
        PeriodicTask,
        expected=(StoreUnavailable, BucketUnavailable),
        on_error=give_up,
        before=partial(lower_priority, context.config.own_nice),
    )
    # A closed form learns a new class in the second in which a prototype would be there.
    if context.config.method.name != ANALYTIC:
        yield make("prototypes", _prototypes(context), every_s=context.config.poll_s)
    yield make("gauges", gauges.update, every_s=_EVERY_S)


def _prototypes(context: LearnerContext) -> Callable[[], None]:
    prototypes = PrototypeUpdater(context.store, context.artifacts, context.handover, context.config)

    def update() -> None:
        if context.lease.held:
            prototypes.update()

    return update


def _connect(config: StoreConfig, holdout: HoldoutConfig, data_dir: Path, stopping: threading.Event) -> Store | None:
    """Return the store once it answers, or None when the process is to stop before."""
    warned = False
    while not stopping.is_set():
        try:
            return Store.connect(config, holdout, data_dir=data_dir)
        except StoreUnavailable as error:
            if not warned:
                log.warning("store.unavailable", extra=fields(reason=str(error)))
            warned = True
            stopping.wait(_EVERY_S)
    return None


def _stop_on_signals(stopping: threading.Event, stack: ExitStack) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.signal(number, lambda *_: stopping.set())
        stack.callback(signal.signal, number, before)


@contextmanager
def _only_learner(data_dir: Path) -> Iterator[None]:
    """Lock the folder, since a learner that takes over clears away what is in `work`, which must not be another's."""
    data_dir.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(data_dir / LOCK_FILE)
    except AlreadyLocked as error:
        raise DataDirInUse(f"another learner works in {data_dir}") from error
    with lock:
        yield
