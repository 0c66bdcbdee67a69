"""The server's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen

from accrete_kit import cores

Port = Annotated[int, Ge(0), Le(65535)]
MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Where the server listens and what it accepts."""

    host: Annotated[str, MinLen(1)] = "127.0.0.1"
    """Address to listen on. Beyond this machine only with `access.certificate` or `access.insecure`: opening it up is a
    decision to take."""

    port: Port = 50051
    """gRPC port; 0: any free one, written to `server.json` in the data directory."""

    share_port: bool = False
    """Let several server processes listen on the port; the kernel shares out the connections. For many cores: one
    process has one interpreter, which they wait for. Each needs its own `metrics_port`. One that advertises a host
    without a port listens at any free port as well, and tells of that one. Off: a second is an error."""

    front: Literal["auto", "queue", "handlers"] = "auto"
    """How predictions come from gRPC: "queue" takes them from gRPC's core by an interface that is not public, and needs
    least; "handlers" by the public one; "auto" is "queue" where the installed grpcio allows it."""

    advertise: str = ""
    """Where clients reach this server, "host" or "host:port": it is then a member, which `accrete servers` lists and
    over which, with the others, the Python client spreads its calls. Without a port: the one listened at, or one of its
    own where that is shared (`share_port`). Empty: it is none."""

    metrics_host: Annotated[str, MinLen(1)] = "127.0.0.1"
    """Address of the Prometheus endpoint `/metrics`."""

    metrics_port: Port = 9464
    """Port of `/metrics`; 0: any free one, written to `server.json`."""

    node: str = ""
    """The node's name in `accrete status`, on which callers may insist (`--node`): a script that reaches another node
    by mistake is refused. Empty: the machine's name and the data directory's, such as "shop/accrete-data"."""

    model_name: Annotated[str, MinLen(1)] = "accrete"
    """The model's name to clients of the Open Inference Protocol, which ask for one."""

    shared_memory: Literal["auto", "on", "off"] = "auto"
    """Let callers on this machine give inputs of the Open Inference Protocol in shared memory. `auto`: where `host` is
    this machine's own address; what others send there may come through a proxy that seems to be on this machine."""

    triton_metrics: bool = False
    """Also export what Triton's dashboards chart under its names (`nv_inference_...`). Off: nothing in them is new."""

    max_images: Annotated[int, Ge(1), Le(4096)] = 64
    """Images in one Predict call. 64: beyond it the cost of a call is no longer what limits images per second."""

    max_examples: Annotated[int, Ge(1), Le(10_000)] = 256
    """Examples in one AddExamples call, stored as one unit. 256: the rate of durable writes is flat from there on."""

    max_pixels: Annotated[int, Ge(1)] = 25_000_000
    """Pixels (width x height) of one image, read from its header before it is decoded; 25 million decode to 75 MB."""

    max_image_bytes: Annotated[int, Ge(1)] = 10 * MIB
    """Bytes of one image as sent."""

    max_message_bytes: Annotated[int, Ge(1024), Le(2**31 - 1)] = 64 * MIB
    """Bytes of one gRPC message, after decompression."""

    max_label_bytes: Annotated[int, Ge(1), Le(4096)] = 256
    """UTF-8 bytes of one label; labels are part of keys, answers and logs."""

    max_ids: Annotated[int, Ge(1)] = 10_000
    """Example ids in one WaitLearned or DeleteExamples call."""

    default_top_k: Annotated[int, Ge(1), Le(1000)] = 5
    """Labels ranked for each image when the caller names no number."""

    unknown_rate: Annotated[float, Ge(0), Le(0.5)] = 0.0
    """Share of images of known classes that may be called unknown when an image is near no class; the threshold comes
    from the hold-out, and a caller may name another rate. 0: nothing is called unknown."""

    p99_target_ms: Annotated[float, Ge(0), Le(60_000)] = 0.0
    """Milliseconds in which 99 of 100 Predict calls are to be answered: while they are not, the trainer is stopped for
    part of the time. For a GPU that both use, and for containers, where its priority does not count. 0: never."""

    concurrency: Annotated[int, Ge(0), Le(1024)] = 0
    """Turns of Predict calls at once, each for up to eight images that are decoded and computed together; 0: the cores
    that the server may use, by affinity and its container's quota, divided by the engine's threads."""

    queue: Annotated[int, Ge(0), Le(10_000)] = 64
    """Predict calls that may wait for their turn; the next one is refused at once. 64: at 1 ms each, 64 ms of wait."""

    teaching_concurrency: Annotated[int, Ge(1), Le(64)] = 2
    """AddExamples batches decoded and stored at once; as many as `queue` may wait. 2: it leaves cores to Predict."""

    max_watchers: Annotated[int, Ge(0), Le(10_000)] = 64
    """Watch, WaitLearned and StreamExamples calls open at once; each holds a thread, StreamExamples two."""

    drain_s: Annotated[float, Ge(0), Le(60)] = 0.2
    """Seconds at shutdown between health NOT_SERVING and refusing new calls, for who watches it to look elsewhere."""

    grace_s: Annotated[float, Ge(0), Le(600)] = 5.0
    """Seconds that calls under way at shutdown get to finish."""

    def at_once(self, engine_threads: int) -> int:
        """Return how many turns there are at the same time, with `concurrency` 0 resolved."""
        return self.concurrency or max(1, cores.whole() // engine_threads)
