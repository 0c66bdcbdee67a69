"""The least server there can be on gRPC's core in Python: what a call costs before anybody has looked at it.

It takes Predict by a queue of its own, as `server.front = "queue"` does, with the same events: the call, its message,
its end. Every answer is the same bytes. A process of its own (`python -m benchmarks.bare_queue PORT`).
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs leave out what is not public

from benchmarks.node import cpu_s
from benchmarks.open_loop import METHOD
from benchmarks.waiting import free_port

_ASKED = 16
_ANSWER = b"\x12\x00" * 75  # about as long as one with five labels; nobody reads it


@dataclass(frozen=True, kw_only=True)
class BareQueue:
    """One that runs."""

    process: subprocess.Popen[bytes]
    address: str

    def cpu_s(self) -> float:
        """Processor time of all its threads so far."""
        return cpu_s(self.process.pid)


@contextmanager
def bare_queue(cores: Set[int]) -> Iterator[BareQueue]:
    """Start one on these cores."""
    port = free_port()
    command = ["taskset", "-c", ",".join(map(str, sorted(cores))), sys.executable, "-m", "benchmarks.bare_queue"]
    process = subprocess.Popen([*command, str(port)])
    try:
        yield BareQueue(process=process, address=f"127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    """Serve until the process is ended."""
    server: Any = grpc.server(ThreadPoolExecutor(1))
    _, service, method = METHOD.split("/")
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    server.add_registered_method_handlers(service, {method: handler})
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    core, queue = server._state.server, cygrpc.CompletionQueue()
    core.register_completion_queue(queue)
    del server._state.registered_method_handlers[METHOD]

    def came(event: Any) -> None:
        core.request_registered_call(queue, queue, METHOD, came)
        call = event.call

        def received(event: Any) -> None:
            event.batch_operations[0].message()
            operations = (
                cygrpc.SendInitialMetadataOperation(None, 0),
                cygrpc.SendMessageOperation(_ANSWER, 0),
                cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.ok, b"", 0),
                cygrpc.ReceiveCloseOnServerOperation(0),
            )
            call.start_server_batch(operations, lambda event: None)

        call.start_server_batch((cygrpc.ReceiveMessageOperation(0),), received)

    def serve() -> None:
        while True:
            event = queue.poll(None)
            event.tag(event)

    server.start()
    for _ in range(_ASKED):
        core.request_registered_call(queue, queue, METHOD, came)
    threading.Thread(target=serve, daemon=True).start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
