"""A connection that can be cut between a request and its reply."""

from __future__ import annotations

import contextlib
import socket
import threading


class Proxy:
    """Forwards TCP from a port of its own to another; `cut` lets requests through without replies, then hangs up."""

    def __init__(self, port: int) -> None:
        """Listen at once. `port`: where the server is, on this machine."""
        self._to = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._mute = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, seconds: float) -> None:
        """For so long, what the server answers is thrown away; then every connection is closed."""
        self._mute.set()
        threading.Event().wait(seconds)
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _hang_up(*pair)
        self._mute.clear()

    def close(self) -> None:
        """End it and all connections."""
        self._listener.close()
        self.cut(0.0)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._to, timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._pairs.append((near, far))
            threading.Thread(target=self._forward, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._forward, args=(far, near, True), daemon=True).start()

    def _forward(self, source: socket.socket, to: socket.socket, replies: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if not (replies and self._mute.is_set()):
                    to.sendall(data)
        _hang_up(source, to)


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
