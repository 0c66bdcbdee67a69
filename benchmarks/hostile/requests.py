"""Requests, malformed or hostile, each from a seed and its number alone."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.message import Message

from accrete.inference import service_pb2
from accrete.v1 import curation_pb2, inbox_pb2, operation_pb2, prediction_pb2, teaching_pb2, types_pb2
from benchmarks.hostile import pictures

PREDICT = "/accrete.v1.Prediction/Predict"
INFER = "/inference.GRPCInferenceService/ModelInfer"
ADD = "/accrete.v1.Teaching/AddExamples"
STREAM = "/accrete.v1.Teaching/StreamExamples"
WAIT = "/accrete.v1.Teaching/WaitLearned"
OPERATION = "/accrete.v1.Operation/"
CURATION = "/accrete.v1.Curation/"
INBOX = "/accrete.v1.Inbox/"
OPEN = "/inference.GRPCInferenceService/"
# Learning is paused meanwhile, and is not to be resumed: what is hostile is stored and not learned.
HARMLESS = ("GetStatus", "ListClasses", "ListVersions", "TriggerStep", "PauseLearning")

STRINGS = (
    "", " ", "\0", "a\0b", "a\nb", "\u202edrawkcab", "e\u0301", "\u00e9", "\ufeffbom", "\U0001f986", "a" * 257,
    "ключ" * 70, "{tag}", "a|b:c*", "../../etc/passwd", "%s%n", "'; DROP", "\u2028", "\ud7ff", "\uffff", "a" * 100_000,
)  # fmt: skip
UNSEEN = (
    "cat\u200b", "ca\u00adt", "ca\u2060t", "\u2066cat\u2069", "ca\ufe0ft", "cat\u3164", "c\u00a0t", "cafe\u0301",
    "\u202ecat", "ca\u200dt", "\ufeffcat", "cat\U000e0061",
)  # fmt: skip
"""Labels that look like others."""
NUMBERS = (-(2**31), -1, 0, 1, 2, 999, 1001, 2**31 - 1)


@dataclass(frozen=True, slots=True)
class Hostile:
    """One request."""

    kind: str
    path: str
    messages: tuple[bytes, ...]
    """One, or several of a stream; as they go over the wire."""
    timeout_s: float = 20.0
    cancel: bool = False
    """Hang up at once."""
    sound: bool = False
    """It is odd, and to be taken all the same; its examples are new, each of them."""
    refused: bool = False
    """Its example is to be refused."""


Maker = Callable[[random.Random], Hostile]


def hostile(seed: int, number: int) -> Hostile:
    """Request `number` of a run with `seed`."""
    chance = random.Random(f"{seed}/{number}")
    return chance.choice(_MAKERS)(chance)


def _noise(chance: random.Random) -> Hostile:
    operations = (OPERATION + name for name in (*HARMLESS, "ForgetClass"))
    curations = (CURATION + method.name for method in curation_pb2.DESCRIPTOR.services_by_name["Curation"].methods)
    inbox = (INBOX + method.name for method in inbox_pb2.DESCRIPTOR.services_by_name["Inbox"].methods)
    path = chance.choice((PREDICT, INFER, ADD, WAIT, *operations, *curations, *inbox))
    return Hostile("noise", path, (chance.randbytes(chance.choice((0, 1, 7, 100, 3_000))),))


def _unknown(chance: random.Random) -> Hostile:
    path = chance.choice(("/accrete.v1.Prediction/predict", "/", "/accrete.v1.Nothing/Do", "/x/../y", PREDICT + "/x"))
    return Hostile("no such method", path, (chance.randbytes(5),))


def _mutated(chance: random.Random) -> Hostile:
    path, message = chance.choice(
        (
            (PREDICT, _predict(chance, pictures.picture(chance))),
            (INFER, _infer(chance)),
            (ADD, _add(chance, pictures.picture(chance))),
            (WAIT, _wire(teaching_pb2.WaitLearnedRequest(ids=["a", "b"], timeout_ms=1))),
        )
    )
    return Hostile("changed message", path, (pictures.broken(message, chance),))


def _whole_picture(chance: random.Random) -> Hostile:
    return _taught_or_asked("picture of some format", chance, pictures.picture(chance))


def _sound_picture(chance: random.Random) -> Hostile:
    return _taught_or_asked("sound but odd picture", chance, pictures.sound(chance), sound=True)


def _broken_odd_picture(chance: random.Random) -> Hostile:
    return _taught_or_asked("broken odd picture", chance, pictures.broken(pictures.sound(chance), chance))


def _broken_picture(chance: random.Random) -> Hostile:
    return _taught_or_asked("broken picture", chance, pictures.broken(pictures.picture(chance), chance))


def _bomb(chance: random.Random) -> Hostile:
    # Dear to make, so not often.
    if chance.random() < 0.9:
        return _broken_picture(chance)
    return _taught_or_asked("bomb", chance, pictures.bomb(chance))


def _tensor(chance: random.Random) -> Hostile:
    shape = [chance.choice((*NUMBERS, 8, 8, 8, 65_536)) for _ in range(chance.randrange(5))]
    data = chance.randbytes(chance.choice((0, 1, 64, 63, 192, 4_096)))
    if chance.random() < 0.2:
        data = struct.pack("<8f", *(chance.choice((float("nan"), float("inf"), 1e38)) for _ in range(8)))
    tensor = types_pb2.Tensor(shape=shape, data=data)
    # An enumeration takes any number on the wire.
    raw = _wire(tensor) + b"\x08" + bytes([chance.choice((0, 1, 1, 1, 2, 77))])
    image = b"\x12" + _varint(len(raw)) + raw
    return Hostile("tensor", PREDICT, (b"\x0a" + _varint(len(image)) + image,))


def _inference(chance: random.Random) -> Hostile:
    return Hostile("tensor of the open protocol", INFER, (_infer(chance),))


def _numbers(chance: random.Random) -> Hostile:
    image = types_pb2.Image(encoded=pictures.saved("PNG", "L", chance))
    count = chance.choice((0, 1, 2, 65, 300))
    request = prediction_pb2.PredictRequest(images=[image] * count, top_k=chance.choice(NUMBERS), features=True)
    return Hostile("absurd numbers", PREDICT, (_wire(request),))


def _words(chance: random.Random) -> Hostile:
    example = teaching_pb2.Example(
        label=chance.choice(STRINGS),
        id=chance.choice(STRINGS),
        image=types_pb2.Image(encoded=pictures.saved("PNG", "L", chance)),
        metadata={chance.choice(STRINGS): chance.choice(STRINGS) for _ in range(chance.randrange(20))},
    )
    raw = _wire(teaching_pb2.AddExamplesRequest(examples=[example]))
    if chance.random() < 0.3:
        raw = raw.replace(b"a", b"\xed\xa0\x80"[chance.randrange(3) :][:1])  # halves of surrogates: no UTF-8
    return Hostile("labels and ids", ADD, (raw,))


def _unseen(chance: random.Random) -> Hostile:
    image = types_pb2.Image(encoded=pictures.saved("PNG", "L", chance))
    example = teaching_pb2.Example(label=chance.choice(UNSEEN), image=image)
    message = _wire(teaching_pb2.AddExamplesRequest(examples=[example]))
    return Hostile("label that looks like another", ADD, (message,), refused=True)


def _alike(chance: random.Random) -> Hostile:
    label = f"hostile {chance.randrange(1000)}"
    examples = [
        teaching_pb2.Example(label=label, image=types_pb2.Image(encoded=data)) for data in pictures.alike(chance)
    ]
    message = _wire(teaching_pb2.AddExamplesRequest(examples=examples))
    return Hostile("pictures that differ in little", ADD, (message,), sound=True)


def _stream(chance: random.Random) -> Hostile:
    messages = [_add(chance, pictures.broken(pictures.picture(chance), chance)) for _ in range(chance.randrange(1, 5))]
    if chance.random() < 0.5:
        messages.append(chance.randbytes(30))
    return Hostile("stream", STREAM, tuple(messages), cancel=chance.random() < 0.3)


def _hasty(chance: random.Random) -> Hostile:
    message = _predict(chance, pictures.saved("PNG", "RGB", chance))
    return Hostile(
        "hung up", PREDICT, (message,), timeout_s=chance.choice((0.0005, 0.002)), cancel=chance.random() < 0.5
    )


def _operation(chance: random.Random) -> Hostile:
    number = chance.choice((*NUMBERS, 2**62))
    match chance.randrange(4):
        case 0:
            request = _wire(operation_pb2.ActivateVersionRequest(version=chance.choice((-5, 999_999, 2**62))))
            return Hostile("operation", OPERATION + "ActivateVersion", (request,))
        case 1:
            request = _wire(operation_pb2.ForgetClassRequest(label=f"{chance.choice(STRINGS)}?"))
            return Hostile("operation", OPERATION + "ForgetClass", (request,))
        case 2:
            ids = [chance.choice(STRINGS) for _ in range(chance.choice((0, 1, 50)))]
            request = _wire(operation_pb2.DeleteExamplesRequest(ids=[f"?{one}" for one in ids]))
            return Hostile("operation", OPERATION + "DeleteExamples", (request,))
        case _:
            wait = _wire(teaching_pb2.WaitLearnedRequest(ids=["none"], timeout_ms=min(number, 5)))
            return Hostile("operation", WAIT, (wait,))


def _curation(chance: random.Random) -> Hostile:
    number, text = chance.choice(NUMBERS), chance.choice(STRINGS)
    label = chance.choice((f"{text}?", f"hostile {chance.randrange(1000)}"))
    match chance.randrange(4):
        case 0:
            listed = curation_pb2.ListExamplesRequest(
                label=label,
                page_size=number,
                page_token=chance.choice(("", "", text)),
                max_side=chance.choice(NUMBERS),
                ids=[text] * chance.choice((0, 0, 1, 300)),
                nearest_to=chance.choice(((), (), (1.0,) * 64, (float("nan"),), (1.0,) * 100_000)),
            )
            # An enumeration takes any number on the wire.
            return Hostile(
                "curation", CURATION + "ListExamples", (_wire(listed) + b"\x10" + bytes([chance.randrange(7)]),)
            )
        case 1:
            asked = curation_pb2.GetEvaluationRequest(version=number)
            return Hostile("curation", CURATION + "GetEvaluation", (_wire(asked),))
        case 2:
            compared = curation_pb2.CompareVersionsRequest(base=number, other=chance.choice(NUMBERS))
            return Hostile("curation", CURATION + "CompareVersions", (_wire(compared),))
        case _:
            # No class is called so, whatever it is to be called or to become part of.
            merged = curation_pb2.MergeClassesRequest(label=f"{text}?", into=chance.choice(STRINGS))
            return Hostile("curation", CURATION + chance.choice(("MergeClasses", "RenameClass")), (_wire(merged),))


def _inbox(chance: random.Random) -> Hostile:
    number, text = chance.choice(NUMBERS), chance.choice(STRINGS)
    ids = [f"{text}?"] * chance.choice((0, 1, 1, 300))
    match chance.randrange(4):
        case 0:
            listed = inbox_pb2.ListInboxRequest(
                page_size=number, page_token=chance.choice(("", "", text)), max_side=chance.choice(NUMBERS)
            )
            return Hostile("inbox", INBOX + "ListInbox", (_wire(listed) + bytes([8, chance.randrange(9)]),))
        case 1:
            seen = inbox_pb2.GetInboxImageRequest(id=text, max_side=number)
            return Hostile("inbox", INBOX + "GetInboxImage", (_wire(seen),))
        case 2:
            items = [inbox_pb2.LabelInboxRequest.Item(id=one, label=chance.choice(STRINGS)) for one in ids]
            return Hostile("inbox", INBOX + "LabelInbox", (_wire(inbox_pb2.LabelInboxRequest(items=items)),))
        case _:
            skipped = inbox_pb2.SkipInboxRequest(ids=ids)
            return Hostile("inbox", INBOX + chance.choice(("SkipInbox", "ReopenInbox")), (_wire(skipped),))


def _shared_memory(chance: random.Random) -> Hostile:
    number, text = chance.choice((*NUMBERS, 2**62)), chance.choice(STRINGS)
    match chance.randrange(4):
        case 0 | 1:
            key = chance.choice((text, f"/{text}", "/..", "/.", "/a/b", "//", "/accrete-none"))
            region = service_pb2.SystemSharedMemoryRegisterRequest(
                name=chance.choice(STRINGS), key=key, offset=max(number, 0), byte_size=max(chance.choice(NUMBERS), 0)
            )
            return Hostile("shared memory", OPEN + "SystemSharedMemoryRegister", (_wire(region),))
        case 2:
            status = service_pb2.SystemSharedMemoryStatusRequest(name=text)
            name = chance.choice(("SystemSharedMemoryStatus", "SystemSharedMemoryUnregister"))
            return Hostile("shared memory", OPEN + name, (_wire(status),))
        case _:
            tensor = service_pb2.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=(1, 8, 8, 1))
            tensor.parameters["shared_memory_region"].string_param = text
            tensor.parameters["shared_memory_byte_size"].int64_param = number
            tensor.parameters["shared_memory_offset"].int64_param = chance.choice(NUMBERS)
            request = service_pb2.ModelInferRequest(model_name="accrete", inputs=[tensor])
            return Hostile("shared memory", INFER, (_wire(request),))


_MAKERS: tuple[Maker, ...] = (
    _noise, _unknown, _mutated, _mutated, _whole_picture, _sound_picture, _broken_odd_picture, _broken_picture, _bomb,
    _tensor, _inference, _numbers, _words, _unseen, _alike, _stream, _hasty, _operation,
    _curation, _inbox, _shared_memory,
)  # fmt: skip


def _taught_or_asked(kind: str, chance: random.Random, data: bytes, *, sound: bool = False) -> Hostile:
    if chance.random() < 0.3:
        return Hostile(kind, ADD, (_add(chance, data),), sound=sound)
    return Hostile(kind, PREDICT, (_predict(chance, data),), sound=sound)


def _predict(chance: random.Random, data: bytes) -> bytes:
    request = prediction_pb2.PredictRequest(images=[types_pb2.Image(encoded=data)], top_k=chance.choice((0, 1, 5)))
    return _wire(request)


def _infer(chance: random.Random) -> bytes:
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name=chance.choice(("image", "image", "image", "")),
        datatype=chance.choice(("UINT8", "UINT8", "BYTES", "BYTES", "FP32", "?")),
        shape=chance.choice(((1,), (1, 8, 8, 1), (1, 8, 8, 1), _shape(chance), _shape(chance))),
    )
    data = chance.randbytes(chance.choice((0, 1, 4, 64, 192, 4_096)))
    picture = pictures.saved("PNG", "L", chance)
    contents = chance.choice((data, picture, len(picture).to_bytes(4, "little") + picture))
    if chance.random() < 0.3:
        tensor.contents.uint_contents.extend(data)
        tensor.contents.bytes_contents.append(picture)
    output = service_pb2.ModelInferRequest.InferRequestedOutputTensor(
        name=chance.choice(("probabilities", "label", ""))
    )
    output.parameters["classification"].int64_param = chance.choice(NUMBERS)
    request = service_pb2.ModelInferRequest(
        model_name="accrete",
        model_version=chance.choice(("", "", "", "", "", "1", "-1", "a\0b")),
        inputs=[tensor] * chance.choice((0, 1, 1, 1, 2)),
        outputs=[output] * chance.choice((0, 0, 1, 2)),
        raw_input_contents=[contents] * chance.choice((0, 1, 1, 1, 2)),
    )
    request.parameters["timeout"].int64_param = chance.choice((*NUMBERS, 2**62))
    return _wire(request)


def _shape(chance: random.Random) -> tuple[int, ...]:
    return tuple(chance.choice((1, 1, 2, 8, 8, *NUMBERS, 2**62)) for _ in range(chance.randrange(6)))


def _add(chance: random.Random, data: bytes) -> bytes:
    # Few labels, under a class's least number of examples together: nothing of this is learned.
    example = teaching_pb2.Example(label=f"hostile {chance.randrange(1000)}", image=types_pb2.Image(encoded=data))
    return _wire(teaching_pb2.AddExamplesRequest(examples=[example]))


def _wire(message: Message) -> bytes:
    """Return the same bytes in every process: maps have no order of their own."""
    return message.SerializeToString(deterministic=True)


def _varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])
