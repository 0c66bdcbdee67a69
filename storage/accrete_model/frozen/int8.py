"""A frozen backbone with 8-bit integers in place of floats: about half the processor time, a quarter of the file.

Static quantisation by ONNX Runtime (Jacob et al., "Quantization and training of neural networks for efficient
integer-arithmetic-only inference", CVPR 2018, section 2): each channel of weights has a scale of its own, each tensor
of activations a range that calibration images gave it. Its features are others, so it is another backbone: what is
learned on one is not what the other needs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

_KINDS = ["Conv", "Gemm", "MatMul", "Add", "Clip", "Relu"]
"""What is computed in integers: nearly all of a network's time, and what lies between, so that nothing is converted."""


def quantized(graph: bytes, images: Iterable[NDArray[Any]], scratch: Path) -> bytes:
    """Return a backbone's graph in integers, from the same input to features of the same length.

    Args:
        graph: ONNX, from "input" to "features".
        images: uint8 [H, W, C], of the kind that it will see; some hundred are enough.
        scratch: a folder for what lies on disk meanwhile; nothing is left in it.

    Raises:
        Exception: whatever ONNX Runtime raises for a graph that it cannot quantise.
    """
    with tempfile.TemporaryDirectory(prefix=".accrete-int8-", dir=scratch) as folder, _temporary_files_in(folder):
        prepared, written = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        # Batch norms become part of the layers before them. Shapes need no symbols here.
        quant_pre_process(onnx.load_from_string(graph), prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            written,
            _Images(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_KINDS,
            per_channel=True,
            activation_type=QuantType.QUInt8,  # with int8 weights the one pair that has fast kernels on x86
            weight_type=QuantType.QInt8,
            # Seven bits of weight: a processor without VNNI adds two products in 16 bits, and would clip them. So
            # features are the same wherever they are computed.
            reduce_range=True,
        )
        return written.read_bytes()


@contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    """Have ONNX Runtime put its own temporary files there: the machine may have no folder for such."""
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


class _Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: Iterable[NDArray[Any]]) -> None:
        self._left: Iterator[NDArray[Any]] = iter(images)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next batch, which is one image, as ONNX Runtime asks for it."""
        image = next(self._left, None)
        return None if image is None else {"input": image[None]}
