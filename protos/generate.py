"""Generates the typed Python stubs in clients/python/accrete from protos/accrete.

Run it after every change of a .proto file:

    python protos/generate.py

The generator's versions are pinned, and it runs in an environment of its own: generated code refuses to load beside
an older protobuf than it was made with, so it is made with the oldest one that is supported. A test compares the
committed stubs with the sources (their digests, and the descriptors that the stubs build at import).
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import subprocess
import tempfile
import venv

TOOLCHAIN = ("grpcio-tools==1.76.0", "mypy-protobuf==5.1.0", "setuptools<81")
SOURCES = pathlib.Path(__file__).resolve().parent
TARGET = SOURCES.parent / "clients" / "python"
DIGESTS = TARGET / "accrete" / "v1" / "sources.json"


def proto_files() -> list[pathlib.Path]:
    """The .proto files, sorted, relative to `protos/`."""
    return sorted(path.relative_to(SOURCES) for path in SOURCES.rglob("*.proto"))


def source_digests() -> dict[str, str]:
    """SHA-256 in hex of each .proto file, comments and all, by its path relative to `protos/`."""
    return {str(path): hashlib.sha256((SOURCES / path).read_bytes()).hexdigest() for path in proto_files()}


def generate(python: pathlib.Path) -> None:
    """Runs protoc and its plug-ins from the environment of `python` over every source."""
    subprocess.run(
        [
            str(python),
            "-m",
            "grpc_tools.protoc",
            f"-I{SOURCES}",
            f"--plugin=protoc-gen-mypy={python.parent / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={python.parent / 'protoc-gen-mypy_grpc'}",
            f"--python_out={TARGET}",
            f"--grpc_python_out={TARGET}",
            f"--mypy_out={TARGET}",
            f"--mypy_grpc_out={TARGET}",
            *map(str, proto_files()),
        ],
        check=True,
    )
    for path in proto_files():
        _drop_grpc_of_messages(path)
    DIGESTS.write_text(json.dumps(source_digests(), indent=2) + "\n")


def _drop_grpc_of_messages(path: pathlib.Path) -> None:
    """protoc writes an empty `_pb2_grpc` for a file that declares no service."""
    if "\nservice " not in (SOURCES / path).read_text():
        for suffix in ("_pb2_grpc.py", "_pb2_grpc.pyi"):
            (TARGET / path.with_name(path.stem + suffix)).unlink(missing_ok=True)


def main() -> None:
    """Makes the pinned environment in a temporary folder and generates with it."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = pathlib.Path(folder) / "bin" / "python"
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *TOOLCHAIN], check=True)
        generate(python)


if __name__ == "__main__":
    main()
