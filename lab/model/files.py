"""The tensors on disk: in model.onnx.data beside the graph, or inside model.onnx."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

from onnx import TensorProto, helper

from cvtrace.lab.errors import LabError
from cvtrace.lab.model.weights import Tensor

ALIGNMENT: Final = 4096
"""Offsets are multiples of a page, so that every tensor can be mapped on its own."""

INLINE_LIMIT: Final = 2**31 - 1
"""A protobuf message cannot be larger."""


def _proto(tensor: Tensor) -> TensorProto:
    kind = helper.np_dtype_to_tensor_dtype(tensor.dtype)
    return TensorProto(name=tensor.name, data_type=kind, dims=tensor.dims)


def _pour(tensor: Tensor, stream: BinaryIO) -> None:
    for chunk in tensor.chunks():
        stream.write(chunk.data)


def external(tensors: Sequence[Tensor], path: Path) -> list[TensorProto]:
    """Write the tensors to `path`, each at a page of its own, and return initializers that point there."""
    protos = []
    with path.open("wb") as stream:
        for tensor in tensors:
            offset = -(-stream.tell() // ALIGNMENT) * ALIGNMENT
            stream.seek(offset)
            _pour(tensor, stream)
            proto = _proto(tensor)
            proto.data_location = TensorProto.EXTERNAL
            for key, value in (("location", path.name), ("offset", offset), ("length", tensor.size_bytes)):
                proto.external_data.add(key=key, value=str(value))
            protos.append(proto)
    return protos


def inline(tensors: Sequence[Tensor]) -> list[TensorProto]:
    """Return initializers that hold their bytes; raises LabError where protobuf could not."""
    total_bytes = sum(tensor.size_bytes for tensor in tensors)
    if total_bytes > INLINE_LIMIT - (16 << 20):
        raise LabError(
            f"weights of {total_bytes / 1e9:.1f} GB do not fit into model.onnx (protobuf ends at 2 GiB): "
            "build it smaller or without --inline"
        )
    protos = []
    for tensor in tensors:
        proto = _proto(tensor)
        proto.raw_data = b"".join(chunk.data for chunk in tensor.chunks())
        protos.append(proto)
    return protos
