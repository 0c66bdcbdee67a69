"""Inputs in shared memory: read as they are in a message, and never more than was registered."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.shared_memory import SharedMemory as Object
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from accrete.inference import service_pb2, service_pb2_grpc
from accrete_server.open_inference import shared_memory
from accrete_server.open_inference.shared_memory import MAX_REGIONS, is_local, offers
from benchmarks.waiting import until
from tests.server.pictures import encode, picture
from tests.server.world import Blocked, Running, World, failure, pixels
from tests.support.store import SharedStore

pytestmark = pytest.mark.skipif(not offers("on", ""), reason="no POSIX shared memory that can be read")

CODES = grpc.StatusCode
Tensor = service_pb2.ModelInferRequest.InferInputTensor
Parameter = service_pb2.InferParameter
SIZE = 48


@pytest.fixture(scope="module", params=["queue", "handlers"])
def running(
    shared_store: SharedStore, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Running]:
    """A server of each front, for tests that leave nothing behind."""
    world = World(tmp_path_factory.mktemp("w"), shared_store.config(), request.param)
    world.publish(1)
    yield world.server(max_message_bytes=100_000)
    world.close()


@pytest.fixture
def stub(running: Running) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    found = service_pb2_grpc.GRPCInferenceServiceStub(running.channel)
    yield found
    found.SystemSharedMemoryUnregister(service_pb2.SystemSharedMemoryUnregisterRequest(), timeout=300)


@pytest.fixture
def held() -> Iterator[Callable[[bytes], Object]]:
    """Makes shared memory objects that hold some bytes, and removes them in the end."""
    made: list[Object] = []

    def hold(data: bytes) -> Object:
        made.append(Object(name=f"accrete-{secrets.token_hex(8)}", create=True, size=len(data)))
        assert made[-1].buf is not None
        made[-1].buf[: len(data)] = data
        return made[-1]

    yield hold
    for one in made:
        one.close()
        one.unlink()


def register(stub: Any, key: str, size: int = SIZE, *, name: str = "mine", offset: int = 0) -> None:
    asked = service_pb2.SystemSharedMemoryRegisterRequest(name=name, key=key, offset=offset, byte_size=size)
    stub.SystemSharedMemoryRegister(asked, timeout=300)


def regions(stub: Any, name: str = "") -> dict[str, Any]:
    asked = service_pb2.SystemSharedMemoryStatusRequest(name=name)
    return dict(stub.SystemSharedMemoryStatus(asked, timeout=300).regions)


def unregister(stub: Any, name: str = "") -> None:
    stub.SystemSharedMemoryUnregister(service_pb2.SystemSharedMemoryUnregisterRequest(name=name), timeout=300)


def shared(
    size: int = SIZE, offset: int = 0, *, region: str = "mine", tensor: Tensor | None = None, **fields: Any
) -> service_pb2.ModelInferRequest:
    """A request whose images are in a region."""
    asked = tensor or Tensor(name="image", datatype="UINT8", shape=[size // SIZE, 4, 4, 3])
    asked.parameters["shared_memory_region"].string_param = region
    asked.parameters["shared_memory_byte_size"].int64_param = size
    if offset:
        asked.parameters["shared_memory_offset"].int64_param = offset
    return service_pb2.ModelInferRequest(model_name="accrete", inputs=[asked], **fields)


def infer(stub: Any, size: int = SIZE, offset: int = 0, **what: Any) -> service_pb2.ModelInferResponse:
    response: service_pb2.ModelInferResponse = stub.ModelInfer(shared(size, offset, **what), timeout=300)
    return response


def in_a_message(stub: Any, *seeds: int) -> service_pb2.ModelInferResponse:
    batch = np.stack([pixels(seed) for seed in seeds])
    tensor = Tensor(name="image", datatype="UINT8", shape=batch.shape)
    request = service_pb2.ModelInferRequest(model_name="accrete", inputs=[tensor], raw_input_contents=[batch.tobytes()])
    response: service_pb2.ModelInferResponse = stub.ModelInfer(request, timeout=300)
    return response


def test_a_region_is_answered_as_a_message_is_and_may_change_between_two_calls(stub, held) -> None:
    kept = held(b"\0" * 100 + b"".join(pixels(seed).tobytes() for seed in (1, 2, 3)))
    register(stub, f"/{kept.name}", 3 * SIZE, offset=100)
    assert infer(stub, 3 * SIZE).raw_output_contents == in_a_message(stub, 1, 2, 3).raw_output_contents
    assert infer(stub, offset=SIZE).raw_output_contents == in_a_message(stub, 2).raw_output_contents
    kept.buf[100 : 100 + SIZE] = pixels(7).tobytes()
    assert infer(stub).raw_output_contents == in_a_message(stub, 7).raw_output_contents


def test_a_region_is_read_when_the_call_has_its_turn_and_may_be_forgotten_before(world: World, held) -> None:
    world.publish(1)
    running = world.server(concurrency=1)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(running.channel)
    kept = held(pixels(1).tobytes())
    register(stub, kept.name)
    blocked = Blocked(running)
    blocked.take_turn()
    waiting = stub.ModelInfer.future(shared(), timeout=300)
    until(lambda: running.server.predict_line.waiting == 1)
    unregister(stub)
    kept.buf[:SIZE] = pixels(7).tobytes()
    blocked.gate.set()
    assert waiting.result().raw_output_contents == in_a_message(stub, 7).raw_output_contents


def test_files_in_a_region_are_read_as_in_a_message(stub, held) -> None:
    file = encode(picture(9, 7), "PNG")
    data = len(file).to_bytes(4, "little") + file
    register(stub, held(data).name, len(data))
    tensor = Tensor(name="image", datatype="BYTES", shape=[1])
    sent = service_pb2.ModelInferRequest(model_name="accrete", inputs=[tensor], raw_input_contents=[data])
    in_message = stub.ModelInfer(sent, timeout=300)
    assert infer(stub, len(data), tensor=tensor).raw_output_contents == in_message.raw_output_contents


def test_regions_are_listed_until_they_are_unregistered(stub, held, running) -> None:
    kept = held(bytes(SIZE))
    register(stub, kept.name, 40, name="a", offset=8)
    register(stub, kept.name, name="b")
    assert sorted(regions(stub)) == ["a", "b"]
    (found,) = regions(stub, "a").values()
    assert (found.name, found.key, found.offset, found.byte_size) == ("a", kept.name, 8, 40)
    unregister(stub, "a")
    unregister(stub, "a")
    assert sorted(regions(stub)) == ["b"]
    assert failure(lambda: regions(stub, "a")).code is CODES.NOT_FOUND
    assert failure(lambda: infer(stub, region="a")).code is CODES.NOT_FOUND
    unregister(stub)
    assert regions(stub) == {}


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("", "a shared memory object is allowed"),
        ("/", "a shared memory object is allowed"),
        ("..", "a shared memory object is allowed"),
        ("/../etc/passwd", "without a slash inside it"),
        ("a/b", "without a slash inside it"),
        ("//etc/passwd", "without a slash inside it"),
        ("a\0b", "without a slash inside it"),
        ("x" * 256, "a shared memory object is allowed"),
        ("accrete-is-not-there", "there is no such object"),
    ],
)
def test_a_key_names_a_shared_memory_object_and_nothing_else(key: str, told: str, stub) -> None:
    failed = failure(lambda: register(stub, key))
    assert failed.code is CODES.INVALID_ARGUMENT
    assert told in failed.details
    assert regions(stub) == {}


def test_what_is_no_plain_object_is_not_opened(stub, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(SIZE))
    name = f"accrete-{secrets.token_hex(8)}"
    place = Path("/dev/shm") / name
    makes: tuple[Callable[[], object], ...] = (
        partial(place.symlink_to, secret),
        partial(os.mkfifo, place),
        place.mkdir,
    )
    for make in makes:
        make()
        try:
            assert failure(lambda: register(stub, name)).code is CODES.INVALID_ARGUMENT
        finally:
            place.rmdir() if place.is_dir() and not place.is_symlink() else place.unlink()
    assert regions(stub) == {}


@pytest.mark.parametrize(
    ("offset", "size"), [(0, SIZE + 1), (1, SIZE), (SIZE, 1), (2**64 - 1, SIZE), (0, 2**64 - 1), (0, 0)]
)
def test_a_region_lies_in_its_object(offset: int, size: int, stub, held) -> None:
    failed = failure(lambda: register(stub, held(bytes(SIZE)).name, size, offset=offset))
    assert (failed.code, f"has {SIZE}" in failed.details) == (CODES.INVALID_ARGUMENT, True)


@pytest.mark.parametrize(
    ("offset", "size"), [(1, SIZE), (SIZE, SIZE), (-1, SIZE), (0, 2 * SIZE), (2**63 - 1, SIZE), (-(2**63), SIZE)]
)
def test_a_request_reads_no_more_than_the_region(offset: int, size: int, stub, held) -> None:
    register(stub, held(bytes(4 * SIZE)).name)
    assert failure(lambda: infer(stub, size, offset)).code is CODES.INVALID_ARGUMENT


@pytest.mark.parametrize("size", [0, -1, -(2**63)])
def test_a_request_says_how_much_it_reads(size: int, stub, held) -> None:
    register(stub, held(bytes(SIZE)).name)
    assert failure(lambda: infer(stub, size)).code is CODES.INVALID_ARGUMENT


def test_a_request_takes_no_more_than_a_message_carries(stub, held) -> None:
    register(stub, held(bytes(200_000)).name, 200_000)
    failed = failure(lambda: infer(stub, 100_001))
    assert (failed.code, "max_message_bytes is 100000" in failed.details) == (CODES.RESOURCE_EXHAUSTED, True)


def test_an_input_is_in_one_place(stub, held) -> None:
    register(stub, held(bytes(SIZE)).name)
    assert "one of them is allowed" in failure(lambda: infer(stub, raw_input_contents=[bytes(SIZE)])).details


def test_an_object_that_has_become_smaller_ends_nothing_but_the_call(stub, held) -> None:
    kept = held(pixels(1).tobytes())
    register(stub, kept.name)
    os.truncate(f"/dev/shm/{kept.name}", 1)
    failed = failure(lambda: infer(stub))
    assert (failed.code, "smaller than was registered" in failed.details) == (CODES.INVALID_ARGUMENT, True)
    os.truncate(f"/dev/shm/{kept.name}", SIZE)
    assert infer(stub).model_version == "1"


def test_a_name_is_taken_until_it_is_free_or_its_object_is_gone(stub, held) -> None:
    kept = held(bytes(SIZE))
    register(stub, kept.name)
    assert failure(lambda: register(stub, kept.name)).code is CODES.ALREADY_EXISTS
    gone = Object(name=f"accrete-{secrets.token_hex(8)}", create=True, size=SIZE)
    register(stub, gone.name, name="gone")
    gone.close()
    gone.unlink()
    register(stub, kept.name, name="gone")
    assert regions(stub)["gone"].key == kept.name


def test_there_are_so_many_and_none_stays_open(stub, held) -> None:
    kept, before = held(bytes(SIZE)), len(os.listdir("/proc/self/fd"))
    for number in range(MAX_REGIONS):
        register(stub, kept.name, name=str(number))
    failed = failure(lambda: register(stub, kept.name, name="one more"))
    assert (failed.code, f"regions is {MAX_REGIONS}" in failed.details) == (CODES.RESOURCE_EXHAUSTED, True)
    unregister(stub)
    assert len(os.listdir("/proc/self/fd")) <= before + 2


@pytest.mark.parametrize(
    ("peer", "found"),
    [
        ("ipv4:127.0.0.1:50000", True),
        ("ipv6:%5B::1%5D:50000", True),
        ("ipv6:[::1]:50000", True),
        ("unix:", True),
        ("unix:/run/accrete.sock", True),
        ("ipv4:10.0.0.7:50000", False),
        ("ipv6:%5B2001:db8::1%5D:50000", False),
        ("ipv6:%5B::ffff:10.0.0.7%5D:50000", False),
        ("localhost:50000", False),
        ("", False),
    ],
)
def test_who_is_on_this_machine(peer: str, found: bool) -> None:
    assert is_local(peer) is found


def test_who_is_elsewhere_is_refused(stub, held, monkeypatch) -> None:
    kept = held(bytes(SIZE))
    register(stub, kept.name)
    monkeypatch.setattr(shared_memory, "is_loopback", lambda host: host != "127.0.0.1")
    for call in (lambda: register(stub, kept.name, name="b"), lambda: infer(stub), lambda: regions(stub)):
        failed = failure(call)
        assert (failed.code, "at ipv4:127.0.0.1" in failed.details) == (CODES.PERMISSION_DENIED, True)
    monkeypatch.undo()
    assert infer(stub).model_version == "1"


@pytest.mark.parametrize(
    ("setting", "host", "found"),
    [("auto", "127.0.0.1", True), ("auto", "0.0.0.0", False), ("off", "127.0.0.1", False), ("on", "0.0.0.0", True)],
)
def test_it_is_offered_where_only_this_machine_reaches_the_server(setting: Any, host: str, found: bool) -> None:
    assert offers(setting, host) is found


def test_where_it_is_not_offered_it_says_so(world: World, held) -> None:
    world.publish(1)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(world.server(shared_memory="off").channel)
    for call in (lambda: register(stub, held(bytes(SIZE)).name), lambda: infer(stub), lambda: regions(stub)):
        failed = failure(call)
        assert (failed.code, "not offered" in failed.details) == (CODES.FAILED_PRECONDITION, True)
    told = stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=300)
    assert "system_shared_memory" not in told.extensions
