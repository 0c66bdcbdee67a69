"""The committed stubs are what the .proto files say."""

from __future__ import annotations

import importlib
import json
import pathlib

import generate
import pytest
from google.protobuf import descriptor_pb2


def test_stubs_were_made_from_these_sources():
    recorded = json.loads(generate.DIGESTS.read_text())
    assert recorded == generate.source_digests(), "a .proto file changed: run python protos/generate.py"


def _compiled(tmp_path: pathlib.Path) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    protoc = pytest.importorskip("grpc_tools.protoc", reason="grpcio-tools is not installed")
    target = tmp_path / "descriptors"
    arguments = ["protoc", f"-I{generate.SOURCES}", f"--descriptor_set_out={target}", *map(str, generate.proto_files())]
    assert protoc.main(arguments) == 0
    files = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file
    return {file.name: file for file in files}


def test_stubs_describe_the_same_messages_as_the_sources(tmp_path: pathlib.Path):
    for name, expected in _compiled(tmp_path).items():
        module = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
        actual = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for file in (expected, actual):
            for message in file.message_type:
                _drop_json_names(message)
        assert actual == expected, f"{name} differs from its stub: run python protos/generate.py"


def _drop_json_names(message: descriptor_pb2.DescriptorProto) -> None:
    """Whether they are written out depends on protoc's version; they derive from the names."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        _drop_json_names(nested)
