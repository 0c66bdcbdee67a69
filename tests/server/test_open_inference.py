"""The Open Inference Protocol, end to end: another form of what Predict answers."""

from __future__ import annotations

import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families as parsed

from accrete.inference import model_config_pb2, service_pb2, service_pb2_grpc
from accrete.v1 import prediction_pb2, types_pb2
from accrete_server.metrics.statistics import KEPT, Statistics
from accrete_storage.versions.prototypes import Prototype
from benchmarks.waiting import until
from tests.model.artifacts import Recipe, class_row
from tests.server.pictures import encode, picture
from tests.server.world import Blocked, Running, World, failure, pixels
from tests.support.store import SharedStore

FOUR = ("cat", "dog", "owl", "yak")
CODES = grpc.StatusCode
Tensor = service_pb2.ModelInferRequest.InferInputTensor
Output = service_pb2.ModelInferRequest.InferRequestedOutputTensor
Contents = service_pb2.InferTensorContents
Request = service_pb2.ModelInferRequest


def stub(running: Running) -> service_pb2_grpc.GRPCInferenceServiceStub:
    return service_pb2_grpc.GRPCInferenceServiceStub(running.channel)


def packed(*elements: bytes) -> bytes:
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def unpacked(data: bytes) -> list[str]:
    found = []
    while data:
        length = int.from_bytes(data[:4], "little")
        found.append(data[4 : 4 + length].decode())
        data = data[4 + length :]
    return found


def of_pixels(*seeds: int, **fields: Any) -> Request:
    batch = np.stack([pixels(seed) for seed in seeds or (0,)])
    tensor = Tensor(name="image", datatype="UINT8", shape=batch.shape)
    return Request(**{"model_name": "accrete", "inputs": [tensor], "raw_input_contents": [batch.tobytes()]} | fields)


def outputs(response: service_pb2.ModelInferResponse) -> dict[str, Any]:
    """Each output as an array or as texts, by name."""
    found: dict[str, Any] = {}
    for tensor, data in zip(response.outputs, response.raw_output_contents, strict=True):
        kind = {"BYTES": "", "FP32": "<f4", "BOOL": "?"}[tensor.datatype]
        values = np.frombuffer(data, kind) if kind else np.array(unpacked(data))
        found[tensor.name] = values.reshape(tensor.shape)
    return found


def infer(running: Running, request: Request, timeout: float | None = 10) -> service_pb2.ModelInferResponse:
    return stub(running).ModelInfer(request, timeout=timeout)


def assert_as_predicted(response: service_pb2.ModelInferResponse, predicted: prediction_pb2.PredictResponse) -> None:
    """The outputs say what Predict says of the same images."""
    found = outputs(response)
    assert response.model_version == str(predicted.version)
    for index, prediction in enumerate(predicted.predictions):
        assert found["label"][index, 0] == prediction.labels[0].label
        assert found["provisional"][index, 0] == prediction.labels[0].provisional
        assert found["unknown"][index, 0] == prediction.unknown
        ranked = sorted((ranked.probability for ranked in prediction.labels), reverse=True)
        np.testing.assert_allclose(np.sort(found["probabilities"][index])[::-1], ranked, rtol=1e-6)


def test_raw_pixels_are_answered_as_predict_answers_them(world: World) -> None:
    world.publish(1, Recipe(labels=FOUR))
    running = world.server()
    response = infer(running, of_pixels(1, 2, 3, id="mine"))
    assert (response.model_name, response.id) == ("accrete", "mine")
    assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [
        ("label", "BYTES", [3, 1]),
        ("probabilities", "FP32", [3, 4]),
        ("provisional", "BOOL", [3, 1]),
        ("unknown", "BOOL", [3, 1]),
    ]
    assert_as_predicted(response, running.predict(1, 2, 3))


def test_every_form_of_an_input_says_the_same(world: World) -> None:
    world.publish(1, Recipe(labels=FOUR))
    running = world.server()
    files = [encode(picture(9, 7), "PNG"), encode(picture(40, 30), "JPEG")]
    images = [types_pb2.Image(encoded=file) for file in files]
    predicted = running.prediction.Predict(prediction_pb2.PredictRequest(images=images), timeout=300)
    raw = [Tensor(name="image", datatype="BYTES", shape=[2])]
    assert_as_predicted(infer(running, of_pixels(inputs=raw, raw_input_contents=[packed(*files)])), predicted)
    typed = [Tensor(name="image", datatype="BYTES", shape=[2, 1], contents=Contents(bytes_contents=files))]
    assert_as_predicted(infer(running, of_pixels(inputs=typed, raw_input_contents=[])), predicted)
    flat = Contents(uint_contents=pixels(5).ravel().tolist())
    numbers = [Tensor(name="image", datatype="UINT8", shape=[1, 4, 4, 3], contents=flat)]
    assert_as_predicted(infer(running, of_pixels(inputs=numbers, raw_input_contents=[])), running.predict(5))
    large = np.asarray(picture(9, 7))
    sized = [Tensor(name="image", datatype="UINT8", shape=[1, *large.shape])]
    response = infer(running, of_pixels(inputs=sized, raw_input_contents=[large.tobytes()]))
    np.testing.assert_array_equal(outputs(response)["label"], [[predicted.predictions[0].labels[0].label]])


def test_a_model_of_embeddings_takes_vectors(world: World) -> None:
    recipe = Recipe(shape=(6,))
    world.publish(1, recipe)
    running = world.server(recipe)
    vector = class_row("dog", 6)
    for contents, raw in ((None, [vector.tobytes()]), (Contents(fp32_contents=vector.tolist()), [])):
        tensor = Tensor(name="embedding", datatype="FP32", shape=[1, 6], contents=contents)
        response = infer(running, Request(model_name="accrete", inputs=[tensor], raw_input_contents=raw))
        assert outputs(response)["label"].tolist() == [["dog"]]
    told = stub(running).ModelMetadata(service_pb2.ModelMetadataRequest(name="accrete"), timeout=300)
    assert [(t.name, t.datatype, list(t.shape)) for t in told.inputs] == [("embedding", "FP32", [-1, 6])]


def test_the_classification_extension_ranks_classes_with_index_and_label(world: World) -> None:
    world.publish(1, Recipe(labels=FOUR))
    running = world.server()
    wanted = Output(name="probabilities", parameters={"classification": service_pb2.InferParameter(int64_param=3)})
    response = infer(running, of_pixels(1, 2, outputs=[wanted]))
    assert (response.outputs[0].datatype, list(response.outputs[0].shape)) == ("BYTES", [2, 3])
    for row, prediction in zip(
        outputs(response)["probabilities"], running.predict(1, 2, top_k=3).predictions, strict=True
    ):
        for text, ranked in zip(row, prediction.labels, strict=True):
            value, index, label = text.split(":")
            assert FOUR[int(index)] == label == ranked.label
            assert float(value) == pytest.approx(ranked.probability, abs=1e-6)
    many = Output(name="probabilities", parameters={"classification": service_pb2.InferParameter(int64_param=99)})
    assert list(infer(running, of_pixels(1, outputs=[many])).outputs[0].shape) == [1, 4]


def test_an_image_near_no_class_is_marked_as_predict_marks_it(world: World) -> None:
    world.publish_with_holdout(np.stack([pixels(seed) for seed in range(20)]))
    running = world.server()
    predicted = running.predict(*range(20), unknown_rate=0.06)
    assert sum(prediction.unknown for prediction in predicted.predictions) == 10
    for rate in (_rate(double_param=0.06), _rate(string_param="0.06")):
        response = infer(running, of_pixels(*range(20), **rate))
        assert_as_predicted(response, predicted)
        assert response.parameters["false_alarm_rate"].double_param == pytest.approx(0.05)
    response = infer(running, of_pixels(*range(20), **_rate(double_param=0.06), outputs=[Output(name="label")]))
    assert "false_alarm_rate" not in response.parameters
    response = infer(running, of_pixels(*range(20)))
    assert not outputs(response)["unknown"].any()
    assert "false_alarm_rate" not in response.parameters
    by_itself = world.server(unknown_rate=0.06)
    for rate in ({}, _rate(int64_param=0)):
        assert_as_predicted(infer(by_itself, of_pixels(*range(20), **rate)), predicted)


def test_only_the_outputs_that_were_named_come_in_the_order_of_their_naming(world: World) -> None:
    world.publish(1)
    response = infer(world.server(), of_pixels(outputs=[Output(name="provisional"), Output(name="label")]))
    assert list(outputs(response)) == ["provisional", "label"]


def test_a_class_known_by_its_prototype_is_marked_provisional(world: World) -> None:
    world.publish(1)
    running = world.server()
    row = class_row("yak", 6)
    prototype = Prototype(vector=row / np.linalg.norm(row), count=3)
    world.store.prototypes.put(1, {"yak": prototype}, 0.0)
    world.store.events.append("provisional", {"label": "yak", "examples": 3})
    until(lambda: running.status().provisional_classes == 1)
    seeds = range(60)
    found = outputs(infer(running, of_pixels(*seeds)))
    assert found["probabilities"].shape == (60, 3)
    assert {bool(mark) for mark in found["provisional"].ravel()} == {False, True}
    assert_as_predicted(infer(running, of_pixels(*seeds)), running.predict(*seeds))


def test_the_live_version_may_be_named_and_no_other(world: World) -> None:
    world.publish(7)
    running = world.server()
    assert infer(running, of_pixels(model_version="7")).model_version == "7"
    for asked in (
        lambda: infer(running, of_pixels(model_version="6")),
        lambda: stub(running).ModelMetadata(service_pb2.ModelMetadataRequest(name="accrete", version="6")),
        lambda: stub(running).ModelConfig(service_pb2.ModelConfigRequest(name="accrete", version="6")),
    ):
        failed = failure(asked)
        assert failed.code is CODES.NOT_FOUND
        assert "version '6' of 'accrete' is not live; the live one: 7" in failed.details
    ready = stub(running).ModelReady
    asked_for = (("accrete", ""), ("accrete", "7"), ("accrete", "6"), ("other", ""))
    told = [ready(service_pb2.ModelReadyRequest(name=name, version=version)).ready for name, version in asked_for]
    assert told == [True, True, False, False]


def test_a_version_that_goes_while_a_call_stands_in_line_is_not_answered_by_another(world: World) -> None:
    world.publish(1)
    running = world.server(concurrency=1)
    line, blocked = running.server.predict_line, Blocked(running)
    blocked.take_turn()
    with ThreadPoolExecutor() as callers:
        named = callers.submit(failure, lambda: infer(running, of_pixels(model_version="1"), timeout=300))
        unnamed = callers.submit(infer, running, of_pixels(), 30)
        until(lambda: line.waiting == 2)
        world.publish(2)
        running.serves(2)
        blocked.gate.set()
        assert named.result().code is CODES.NOT_FOUND
        assert unnamed.result().model_version == "2"


def test_the_server_is_not_ready_while_it_shuts_down(world: World) -> None:
    running = world.server(drain_s=1.0)
    ready = stub(running).ServerReady
    assert ready(service_pb2.ServerReadyRequest(), timeout=300).ready
    with ThreadPoolExecutor() as stopping:
        stopped = stopping.submit(running.server.stop)
        until(lambda: not ready(service_pb2.ServerReadyRequest(), timeout=300).ready)
        stopped.result()


def test_another_model_is_not_found_and_the_name_is_a_setting(world: World) -> None:
    world.publish(1)
    running = world.server(model_name="shelf")
    assert infer(running, of_pixels(model_name="shelf")).model_name == "shelf"
    failed = failure(lambda: infer(running, of_pixels()))
    assert (failed.code, failed.details) == (CODES.NOT_FOUND, "there is no model 'accrete' here, only 'shelf'")
    asked = service_pb2.ModelStatisticsRequest(name="accrete")
    assert failure(lambda: stub(running).ModelStatistics(asked)).code is CODES.NOT_FOUND


def test_before_the_first_version_the_server_is_ready_and_the_model_is_not(world: World) -> None:
    running = world.server()
    told = stub(running)
    assert told.ServerLive(service_pb2.ServerLiveRequest()).live
    assert told.ServerReady(service_pb2.ServerReadyRequest()).ready
    assert not told.ModelReady(service_pb2.ModelReadyRequest(name="accrete")).ready
    assert not told.ModelMetadata(service_pb2.ModelMetadataRequest(name="accrete")).versions
    assert not told.ModelStatistics(service_pb2.ModelStatisticsRequest()).model_stats
    failed = failure(lambda: infer(running, of_pixels()))
    assert failed.code is CODES.UNAVAILABLE
    assert "add examples" in failed.details
    index = told.RepositoryIndex(service_pb2.RepositoryIndexRequest())
    assert [(model.name, model.state) for model in index.models] == [("accrete", "UNAVAILABLE")]
    assert not told.RepositoryIndex(service_pb2.RepositoryIndexRequest(ready=True)).models
    world.publish(1)
    running.serves(1)
    assert told.ModelReady(service_pb2.ModelReadyRequest(name="accrete")).ready
    index = told.RepositoryIndex(service_pb2.RepositoryIndexRequest(ready=True))
    assert [(model.version, model.state) for model in index.models] == [("1", "READY")]


def test_health_knows_the_service(world: World) -> None:
    check = health_pb2_grpc.HealthStub(world.server().channel).Check
    asked = health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService")
    assert check(asked, timeout=300).status == health_pb2.HealthCheckResponse.SERVING


def test_metadata_and_configuration_say_what_an_answer_looks_like(world: World) -> None:
    world.publish(3, Recipe(labels=FOUR))
    running = world.server(max_images=16, concurrency=3)
    server = stub(running).ServerMetadata(service_pb2.ServerMetadataRequest())
    assert (server.name, set(server.extensions)) == (
        "accrete",
        {"classification", "model_configuration", "statistics", "system_shared_memory"},
    )
    model = stub(running).ModelMetadata(service_pb2.ModelMetadataRequest(name="accrete"))
    config = stub(running).ModelConfig(service_pb2.ModelConfigRequest(name="accrete")).config
    assert list(model.versions) == ["3"]
    assert [(t.name, t.datatype, list(t.shape)) for t in model.inputs] == [("image", "UINT8", [-1, 4, 4, 3])]
    assert config.max_batch_size == 16
    assert [list(tensor.dims) for tensor in config.input] == [[4, 4, 3]]
    assert config.input[0].format == model_config_pb2.ModelInput.FORMAT_NHWC
    assert (config.instance_group[0].count, config.HasField("dynamic_batching")) == (3, False)
    names = {"TYPE_STRING": "BYTES", "TYPE_FP32": "FP32", "TYPE_BOOL": "BOOL"}
    answered = infer(running, of_pixels(1, 2)).outputs
    for told, configured, given in zip(model.outputs, config.output, answered, strict=True):
        assert told.name == configured.name == given.name
        kind = model_config_pb2.DataType.Name(configured.data_type)
        assert told.datatype == names[kind] == given.datatype
        assert all(size in (-1, real) for size, real in zip(told.shape, given.shape, strict=True))


def _input(**changed: Any) -> dict[str, Any]:
    return {"inputs": [Tensor(**{"name": "image", "datatype": "UINT8", "shape": [1, 4, 4, 3]} | changed)]}


def _rate(**given: Any) -> dict[str, Any]:
    return {"parameters": {"unknown_rate": service_pb2.InferParameter(**given)}}


_REGION = {"shared_memory_region": service_pb2.InferParameter(string_param="region")}
_CLASSES = {"classification": service_pb2.InferParameter(int64_param=1)}
_NO_CLASSES = {"classification": service_pb2.InferParameter(int64_param=0)}
_BYTES = {"datatype": "BYTES", "shape": [2]}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"inputs": []}, "inputs: 0 tensors"),
        ({"inputs": [Tensor(), Tensor()]}, "inputs: 2 tensors"),
        (_input(name="pixels"), "'pixels' of 'UINT8'; this model takes 'image' of UINT8 or BYTES"),
        (_input(datatype="FP32"), "'image' of 'FP32'"),
        (_input(shape=[]), "shape []"),
        (_input(shape=[-1, 4, 4, 3]), "image: empty"),
        (_input(shape=[1, 4, -4, 3]), "shape [1, 4, -4, 3]"),
        (_input(shape=[1, 4, 4, 2]), "48 bytes; the shape says 1 times 32"),
        (_input(shape=[1, 48]), "image[0]: uint8 shape [48]"),
        (_input(shape=[2, 4, 4, 3]), "48 bytes; the shape says 2 times 48"),
        (_input(shape=[1, 2**62, 2**62]), "the shape says"),
        (_input(shape=[0, 4, 4, 3]) | {"raw_input_contents": [b""]}, "image: empty"),
        (_input(parameters=_REGION) | {"raw_input_contents": []}, "shared_memory_byte_size, 1 or more"),
        (_input(contents=Contents(uint_contents=[1])), "both given"),
        (_input(contents=Contents(uint_contents=[256] * 48)) | {"raw_input_contents": []}, "a UINT8 of 256"),
        ({"raw_input_contents": [b"a", b"b"]}, "raw_input_contents: 2"),
        ({"raw_input_contents": []}, "0 bytes"),
        (_input(**_BYTES) | {"raw_input_contents": [packed(b"a")]}, "image[1]: the raw content ends"),
        (_input(**_BYTES) | {"raw_input_contents": [packed(b"a", b"b")[:-1]]}, "image[1]: the raw content ends"),
        (_input(**_BYTES) | {"raw_input_contents": [packed(b"a", b"b", b"c")]}, "5 bytes are left after 2 elements"),
        (_input(**_BYTES) | {"raw_input_contents": [packed(b"a", b"b")]}, "image[0]: not a JPEG, PNG, WebP or BMP"),
        (_input(datatype="BYTES", shape=[1, 2]), "BYTES of shape [1, 2]"),
        (
            _input(**_BYTES, contents=Contents(bytes_contents=[b"a"])) | {"raw_input_contents": []},
            "1 elements; the shape says 2",
        ),
        ({"outputs": [Output(name="logits")]}, "'logits'; there are label, probabilities, provisional, unknown"),
        ({"outputs": [Output(name="label", parameters=_CLASSES)]}, "label: classification 1"),
        ({"outputs": [Output(name="probabilities", parameters=_NO_CLASSES)]}, "classification 0"),
        ({"outputs": [Output(name="label", parameters=_REGION)]}, "shared memory is not offered"),
        (_rate(double_param=0.6), "unknown_rate: 0.6; 0 to 0.5 are allowed"),
        (_rate(double_param=float("nan")), "unknown_rate: nan"),
        (_rate(bool_param=True), "unknown_rate: 1.0; 0 to 0.5"),
        (_rate(string_param="few"), "unknown_rate: 'few'; a number is allowed"),
        (_rate(), "unknown_rate: ''; a number is allowed"),
        ({"parameters": {"sequence_id": service_pb2.InferParameter(int64_param=4)}}, "keeps no state"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(fields: dict[str, Any], told: str, answering: Running) -> None:
    failed = failure(lambda: infer(answering, of_pixels(**fields)))
    assert failed.code is CODES.INVALID_ARGUMENT
    assert told in failed.details


@pytest.fixture(scope="module")
def answering(shared_store: SharedStore, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One server for requests that change nothing."""
    world = World(tmp_path_factory.mktemp("w"), shared_store.config())
    world.publish(1)
    yield world.server(max_images=8)
    world.close()


def test_limits_are_those_of_predict(world: World) -> None:
    world.publish(1)
    running = world.server(max_images=2, queue=1, concurrency=1)
    failed = failure(lambda: infer(running, of_pixels(1, 2, 3)))
    assert (failed.code, "max_images is 2" in failed.details) == (CODES.RESOURCE_EXHAUSTED, True)
    line, blocked = running.server.predict_line, Blocked(running)
    first = blocked.take_turn()
    hurried = of_pixels(parameters={"timeout": service_pb2.InferParameter(int64_param=60_000)})
    assert failure(lambda: infer(running, hurried, timeout=None)).code is CODES.DEADLINE_EXCEEDED
    with ThreadPoolExecutor() as callers:
        in_line = callers.submit(infer, running, of_pixels(), 30)
        until(lambda: line.waiting == 1)
        for call in (lambda: infer(running, of_pixels()), running.predict):
            failed = failure(call)
            assert (failed.code, "queue is 1" in failed.details) == (CODES.RESOURCE_EXHAUSTED, True)
            assert int(failed.trailers["retry-after-ms"]) > 0
        blocked.gate.set()
        assert in_line.result().model_version == "1"
    assert first.result().version == 1


def sums(running: Running, version: str = "") -> list[service_pb2.ModelStatistics]:
    asked = service_pb2.ModelStatisticsRequest(name="accrete", version=version)
    return list(stub(running).ModelStatistics(asked, timeout=300).model_stats)


def test_statistics_count_every_answer_and_failure_of_each_version(world: World) -> None:
    world.publish(1)
    running = world.server()
    infer(running, of_pixels(1, 2, 3))
    infer(running, of_pixels(1))
    running.predict(1, 2, 3)
    failure(lambda: infer(running, of_pixels(model_name="other")))
    (first,) = sums(running)
    assert (first.name, first.version, first.inference_count, first.execution_count) == ("accrete", "1", 7, 3)
    parts = first.inference_stats
    waits = (parts.queue, parts.compute_input, parts.compute_infer, parts.compute_output)
    assert {parts.success.count, *(part.count for part in waits)} == {3}
    assert parts.compute_infer.ns > 0
    assert sum(part.ns for part in waits) == pytest.approx(parts.success.ns, abs=4)
    assert parts.fail.count == 1
    assert {batch.batch_size: batch.compute_infer.count for batch in first.batch_stats} == {1: 1, 3: 2}
    assert sum(batch.compute_infer.ns for batch in first.batch_stats) == pytest.approx(parts.compute_infer.ns, abs=4)
    assert first.last_inference > 1_700_000_000_000
    world.publish(2)
    running.serves(2)
    infer(running, of_pixels(1))
    assert [(one.version, one.inference_count) for one in sums(running)] == [("1", 7), ("2", 1)]
    assert [one.version for one in sums(running, "2")] == ["2"]
    assert failure(lambda: sums(running, "3")).code is CODES.NOT_FOUND


def test_statistics_of_old_versions_are_dropped() -> None:
    statistics = Statistics()
    for version in range(1, 100):
        statistics.answered(version, 1, total_s=1.0, queue_s=0.0, decode_s=0.0, compute_s=0.0)
    assert [own.version for own in statistics.snapshot()] == list(range(100 - KEPT, 100))


def test_calls_are_counted_and_timed_like_all_others(world: World) -> None:
    world.publish(1)
    running = world.server()
    infer(running, of_pixels(1, 2))
    failure(lambda: infer(running, of_pixels(model_name="other")))
    text = page(running)
    assert 'accrete_requests_total{code="OK",method="ModelInfer",phase=' in text
    assert 'accrete_requests_total{code="NOT_FOUND",method="ModelInfer",phase=' in text
    assert "accrete_images_total 2.0" in text
    assert 'accrete_request_seconds_count{code="OK",method="ModelInfer",phase=' in text


def page(running: Running) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{running.server.metrics_port}/metrics", timeout=300) as answer:
        return str(answer.read().decode())


def test_triton_named_metrics_are_there_when_asked_for_and_say_what_the_statistics_say(world: World) -> None:
    world.publish(1)
    running = world.server(triton_metrics=True)
    infer(running, of_pixels(1, 2, 3))
    running.predict(1)
    failure(lambda: infer(running, of_pixels(model_name="other")))
    failure(lambda: infer(running, of_pixels(*range(65))))
    found = {
        sample.name: sample for family in parsed(page(running)) for sample in family.samples if "nv_" in sample.name
    }
    counted = found["nv_inference_request_success"]
    assert (counted.labels, counted.value) == ({"model": "accrete", "version": "1"}, 2)
    assert (found["nv_inference_count"].value, found["nv_inference_exec_count"].value) == (4, 2)
    (told,) = sums(running)
    parts = {
        "request": told.inference_stats.success,
        "queue": told.inference_stats.queue,
        "compute_input": told.inference_stats.compute_input,
        "compute_infer": told.inference_stats.compute_infer,
        "compute_output": told.inference_stats.compute_output,
    }
    for name, part in parts.items():
        assert found[f"nv_inference_{name}_duration_us"].value == pytest.approx(part.ns / 1000, abs=0.01)
    assert found["nv_inference_pending_request_count"].value == 0
    assert {
        reason: f'nv_inference_request_failure{{model="accrete",reason="{reason}",version="1"}} 1.0' in page(running)
        for reason in ("OTHER", "REJECTED", "CANCELED", "BACKEND")
    } == {"OTHER": True, "REJECTED": True, "CANCELED": False, "BACKEND": False}
    assert "nv_" not in page(world.server())


@pytest.mark.parametrize("method", ["ModelStreamInfer", "RepositoryModelLoad", "CudaSharedMemoryRegister"])
def test_what_is_not_offered_is_unimplemented(method: str, answering: Running) -> None:
    path = f"/inference.GRPCInferenceService/{method}"
    call = answering.channel.unary_unary(path, lambda data: data, lambda data: data)
    assert failure(lambda: call(b"", timeout=300)).code is CODES.UNIMPLEMENTED
