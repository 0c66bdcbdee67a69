"""Servers that advertise themselves come, go, die and hang, and no call of a client that was told of one fails."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from accrete import AccreteError, AsyncClient, Client
from accrete._transport import spreading
from benchmarks.waiting import until
from tests.chaos.processes import Place
from tests.learner_service.helpers import digits

NAMES = ("one", "two", "three")
HERE = "127.0.0.1"


@pytest.fixture(scope="module")
def image():
    return digits(0, 1)[0].tensor


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often than people need."""
    monkeypatch.setattr(spreading, "ROUND_S", 0.5)


class Callers:
    """Threads that predict without an end, and what became of their calls."""

    def __init__(self, address: str, image, threads: int = 6, coroutines: int = 2) -> None:
        self.failed: list[str] = []
        self.answered = [0] * (threads + coroutines)
        self.longest_s = 0.0
        """Of the calls since it was set to 0."""
        self.enough = threading.Event()
        self.client = Client(address, timeout=60)
        self._image = image
        self._threads = [threading.Thread(target=self._ask, args=(caller,)) for caller in range(threads)]
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self._ask_async(address, threads))))

    def _ask(self, caller: int) -> None:
        while not self.enough.is_set():
            began = time.monotonic()
            try:
                self.client.predict(self._image)
                self.answered[caller] += 1
            except AccreteError as error:
                self.failed.append(f"{error!r} {error}")
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.enough.wait(0.005)

    async def _ask_async(self, address: str, first: int) -> None:
        async with AsyncClient(address, timeout=60) as client:

            async def ask(caller: int) -> None:
                while not self.enough.is_set():
                    began = time.monotonic()
                    try:
                        await client.predict(self._image)
                        self.answered[caller] += 1
                    except AccreteError as error:
                        self.failed.append(f"{error!r} {error}")
                    self.longest_s = max(self.longest_s, time.monotonic() - began)
                    await asyncio.sleep(0.005)

            await asyncio.gather(*map(ask, range(first, len(self.answered))))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self.enough.set()
            for thread in self._threads:
                thread.join()
            self.client.close()

    def go_on(self, after: str) -> None:
        """Wait for more calls of every caller, so that none is stuck, and print the longest."""
        before = list(self.answered)
        until(lambda: all(now > then + 50 for now, then in zip(self.answered, before, strict=True)))
        print(f"{after}: the longest call took {self.longest_s:.2f} s, {len(self.failed)} failed")
        self.longest_s = 0.0


def answered(place: Place, name: str) -> int:
    """Predictions that a server has answered."""
    said = json.loads((place.data_dir / name / "server.json").read_text())
    text = urllib.request.urlopen(f"http://{said['metrics']}/metrics").read().decode()
    lines = [line for line in text.splitlines() if line.startswith('accrete_requests_total{code="OK",method="Predict"')]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


def takes_calls(place: Place, name: str) -> None:
    """Wait until a server gets calls."""
    before = answered(place, name)
    until(lambda: answered(place, name) > before + 20)


def test_servers_come_die_hang_and_drain_and_no_call_fails(both: Place, image):
    servers = {name: both.server(name=name, advertise=HERE) for name in NAMES[:2]}
    callers = Callers(both.address(servers["one"], "one"), image)
    both.address(servers["two"], "two")
    with callers.at_work():
        for name in NAMES[:2]:
            takes_calls(both, name)

        servers["three"] = both.server(name="three", advertise=HERE)
        both.address(servers["three"], "three")
        came = time.monotonic()
        takes_calls(both, "three")
        print(f"a new one took calls after {time.monotonic() - came:.2f} s")
        callers.go_on("undisturbed")

        os.kill(servers["one"].pid, signal.SIGKILL)  # the one that the clients were given
        servers["one"].ended()
        callers.go_on("one killed")

        servers["two"].pause()
        callers.go_on("one stopped")
        servers["two"].go_on()
        takes_calls(both, "two")

        assert servers["two"].stop() == 0
        callers.go_on("one drained")
        servers["two"] = both.server(name="two", advertise=HERE)
        both.address(servers["two"], "two")
        takes_calls(both, "two")
    assert callers.failed == []
