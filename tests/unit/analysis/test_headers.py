"""Headers of model files, written by the formats' own libraries, damaged, or hostile."""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import onnx
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cvtrace.analysis.storage.headers import HeaderTensor, headers_on_mounts, headers_under
from cvtrace.analysis.storage.headers import gguf as gguf_header
from cvtrace.analysis.storage.headers import onnx as onnx_header
from cvtrace.analysis.storage.headers import safetensors as safetensors_header
from cvtrace.analysis.storage.headers import source as limits
from cvtrace.analysis.storage.headers.source import Source, Unreadable
from cvtrace.analysis.storage.headers.tensor import layer_of
from cvtrace.tracer.user import current_user

Parser = Callable[[Source, str], list[HeaderTensor]]
WEIGHT = np.arange(64 * 32, dtype=np.float32).reshape(64, 32)
SCALES = np.arange(40, dtype=np.float16)
NAMES = ("model.layers.0.attn.weight", "model.layers.11.mlp.scales")


def parsed(parser: Parser, path: Path) -> dict[str, HeaderTensor]:
    with path.open("rb") as file:
        return {item.name: item for item in parser(Source(file.fileno(), path.stat().st_size), str(path))}


def bytes_of(tensor: HeaderTensor) -> bytes:
    with Path(tensor.path).open("rb") as file:
        file.seek(tensor.offset)
        return file.read(tensor.size)


def onnx_model(path: Path, *, external: bool) -> Path:
    tensors = [numpy_helper.from_array(array, name) for name, array in zip(NAMES, (WEIGHT, SCALES), strict=True)]
    graph = helper.make_graph(
        [helper.make_node("Identity", [NAMES[0]], ["out"])],
        "graph",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, WEIGHT.shape)],
        initializer=tensors,
    )
    model = helper.make_model(graph)
    model.metadata_props.add(key="note", value="x" * 3000)
    options = {"all_tensors_to_one_file": True, "location": f"{path.name}.data", "size_threshold": 0}
    onnx.save_model(model, path, save_as_external_data=external, **(options if external else {}))
    return path


def safetensors_model(path: Path) -> Path:
    safetensors.numpy.save_file(dict(zip(NAMES, (WEIGHT, SCALES), strict=True)), path, metadata={"format": "pt"})
    return path


def gguf_model(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list([f"token {number}" for number in range(5000)])
    writer.add_array("some.scores", [0.5] * 3000)
    writer.add_custom_alignment(64)
    writer.add_tensor("blk.0.attn_q.weight", WEIGHT)
    writer.add_tensor("blk.1.ffn_up.weight", gguf.quants.quantize(WEIGHT, gguf.GGMLQuantizationType.Q8_0),
                      raw_dtype=gguf.GGMLQuantizationType.Q8_0)  # fmt: skip
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("external", [True, False])
def test_tensors_of_an_onnx_model_lie_where_their_bytes_are(tmp_path: Path, external: bool) -> None:
    path = onnx_model(tmp_path / "model.onnx", external=external)

    tensors = parsed(onnx_header.tensors, path)

    assert [(tensor.dtype, tensor.shape) for tensor in tensors.values()] == [("float32", (64, 32)), ("float16", (40,))]
    assert {Path(tensor.path).name for tensor in tensors.values()} == {"model.onnx.data" if external else "model.onnx"}
    assert [bytes_of(tensors[name]) for name in NAMES] == [WEIGHT.tobytes(), SCALES.tobytes()]


def test_tensors_of_a_safetensors_file_lie_where_their_bytes_are(tmp_path: Path) -> None:
    tensors = parsed(safetensors_header.tensors, safetensors_model(tmp_path / "model.safetensors"))

    assert {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()} == {
        NAMES[0]: ("float32", (64, 32)),
        NAMES[1]: ("float16", (40,)),
    }
    assert [bytes_of(tensors[name]) for name in NAMES] == [WEIGHT.tobytes(), SCALES.tobytes()]


def test_tensors_of_a_gguf_file_lie_where_their_bytes_are(tmp_path: Path) -> None:
    path = gguf_model(tmp_path / "model.gguf")

    tensors = parsed(gguf_header.tensors, path)

    reader = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert {name: tensor.offset for name, tensor in tensors.items()} == {
        name: tensor.data_offset for name, tensor in reader.items()
    }
    assert {name: tensor.size for name, tensor in tensors.items()} == {
        name: tensor.n_bytes for name, tensor in reader.items()
    }
    assert bytes_of(tensors["blk.0.attn_q.weight"]) == WEIGHT.tobytes()
    assert [(tensor.dtype, tensor.shape) for tensor in tensors.values()] == [("float32", (64, 32)), ("q8_0", (64, 32))]


def test_gguf_block_sizes_are_those_of_ggml() -> None:
    known_sizes = {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    cvtrace_sizes = {kind: (block, width) for kind, (_, block, width) in gguf_header.TYPES.items()}
    assert {kind: known_sizes[kind] for kind in cvtrace_sizes} == cvtrace_sizes


def test_onnx_element_types_are_those_of_onnx() -> None:
    for kind, (name, _) in onnx_header.TYPES.items():
        type_name = TensorProto.DataType.Name(kind).lower()
        assert type_name == {"float32": "float", "float64": "double"}.get(name, name)


def test_invalid_unicode_in_tensor_names_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    header = b'{"\\ud800w": {"dtype": "\\udfffX", "shape": [1], "data_offsets": [0, 4]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    (tensor,) = parsed(safetensors_header.tensors, path).values()
    assert (tensor.name, tensor.dtype) == ("?w", "?x")


def test_weights_inside_a_model_are_skipped_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a model of 64 MB and a limit of 1 MB
    path = tmp_path / "model.onnx"
    weight = numpy_helper.from_array(np.zeros(16 << 20, dtype=np.float32), NAMES[0])
    onnx.save_model(helper.make_model(helper.make_graph([], "graph", [], [], initializer=[weight])), path)
    monkeypatch.setattr(limits, "MOST_BYTES", 1 << 20)
    # WHEN
    (tensor,) = parsed(onnx_header.tensors, path).values()
    # THEN
    assert tensor.size == 64 << 20


@pytest.mark.parametrize("location", ["../../etc/shadow", "/etc/shadow", ".", "", "a/../../b"])
def test_external_data_outside_the_folder_of_the_model_is_ignored(tmp_path: Path, location: str) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    path = tmp_path / "model.onnx"
    graph = helper.make_graph([], "graph", [], [], initializer=[tensor])
    path.write_bytes(helper.make_model(graph).SerializeToString())
    assert parsed(onnx_header.tensors, path) == {}


def test_external_data_needs_no_length(tmp_path: Path) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.UINT4, dims=[3, 5], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="sub/../w.bin")
    path = tmp_path / "model.onnx"
    graph = helper.make_graph([], "graph", [], [], initializer=[tensor])
    path.write_bytes(helper.make_model(graph).SerializeToString())
    (laid_out,) = parsed(onnx_header.tensors, path).values()
    assert (laid_out.path, laid_out.offset, laid_out.size) == (str(tmp_path / "w.bin"), 0, 8)


GGUF_HEAD = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)


@pytest.mark.parametrize(
    "parser, content, reason",
    [
        (safetensors_header.tensors, struct.pack("<Q", 2**63) + b"{}", "larger than is looked at"),
        (safetensors_header.tensors, struct.pack("<Q", 100) + b"{}", "ends within its header"),
        (safetensors_header.tensors, struct.pack("<Q", 50_000) + b"[" * 50_000, "not JSON"),
        (safetensors_header.tensors, b"", "ends within"),
        (safetensors_header.tensors, struct.pack("<Q", 4) + b"[[]]", "not one of safetensors"),
        (gguf_header.tensors, b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "more tensors"),
        (gguf_header.tensors, b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "ends within"),
        (gguf_header.tensors, b"GGUF" + struct.pack("<I", 1), "version 1"),
        (gguf_header.tensors, b"ONNX" + bytes(100), "no GGUF"),
        (gguf_header.tensors, GGUF_HEAD + struct.pack("<Q1sIIQ", 1, b"k", 9, 8, 2**60), "ends within"),
        (
            gguf_header.tensors,
            GGUF_HEAD + struct.pack("<Q1sI", 1, b"k", 9) + struct.pack("<IQ", 9, 1) * 9,
            "unknown type",
        ),
        (onnx_header.tensors, b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7fxxxx", "cut off"),
        (onnx_header.tensors, b"\xff" * 100, "not made as it should be"),
        (onnx_header.tensors, b"#!/bin/sh\nexit\n", "no ONNX model"),
    ],
)
def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path, parser: Parser, content: bytes, reason: str) -> None:
    path = tmp_path / "model"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=reason):
        parsed(parser, path)


def test_a_tensor_ends_where_its_file_ends(tmp_path: Path) -> None:
    # GIVEN a tensor of 2**60 elements in a file of some bytes
    path = tmp_path / "model.gguf"
    info = struct.pack("<Q1sIQIQ", 1, b"w", 1, 2**60, 0, 0)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + info + bytes(100))
    # WHEN / THEN
    (tensor,) = parsed(gguf_header.tensors, path).values()
    assert tensor.offset + tensor.size == path.stat().st_size


def test_reading_a_header_has_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_SECONDS", -1.0)
    with pytest.raises(Unreadable, match="not read within"):
        parsed(gguf_header.tensors, gguf_model(tmp_path / "model.gguf"))


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[Parser, bytes]:
    folder = tmp_path_factory.mktemp("models")
    return {
        onnx_header.tensors: onnx_model(folder / "model.onnx", external=True).read_bytes(),
        safetensors_header.tensors: safetensors_model(folder / "m.safetensors").read_bytes()[:600],
        gguf_header.tensors: gguf_model(folder / "m.gguf").read_bytes()[:200],
    }


@given(st.data())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_headers_are_reported_in_one_sentence(
    tmp_path: Path, originals: dict[Parser, bytes], data: st.DataObject
) -> None:
    # GIVEN a good file, cut and with some bytes changed
    parser = data.draw(st.sampled_from(sorted(originals, key=repr)))
    content = bytearray(originals[parser])
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "model"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    # WHEN it is read THEN it gives sound tensors, or a reason, and nothing else
    tensors = {}
    with contextlib.suppress(Unreadable):
        tensors = parsed(parser, path)
    for tensor in tensors.values():
        assert 0 <= tensor.offset < 2**62
        assert 0 <= tensor.size < 2**62
        assert json.dumps(tensor.shape)
        layer_of(tensor.name)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arbitrary_bytes_are_reported_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model"
    for parser in (onnx_header.tensors, safetensors_header.tensors, gguf_header.tensors):
        path.write_bytes(GGUF_HEAD + content if parser is gguf_header.tensors else content)
        with contextlib.suppress(Unreadable):
            parsed(parser, path)


@pytest.mark.parametrize(
    "name, layer",
    [
        ("model.layers.17.attn.qkv_proj.qweight", 17),
        ("/model/layers.3/mlp/gate_proj/MatMul", 3),
        ("model_layers_9_self_attn_q_proj_weight_Q4", 9),
        ("blk.31.ffn_up.weight", 31),
        ("transformer.h.5.attn.c_attn.weight", 5),
        ("encoder.layer.2.output.dense.bias", 2),
        ("model.embed_tokens.weight", None),
        ("lm_head.qweight", None),
        ("match.7.weight", None),
        ("layers.99999999999999999999.x", None),
    ],
)
def test_layers_are_parsed_from_tensor_names(name: str, layer: int | None) -> None:
    assert layer_of(name) == layer


# Which files are read


def test_a_model_is_located_where_it_was_and_in_another_folder(tmp_path: Path) -> None:
    folder, copy = tmp_path / "mount" / "models", tmp_path / "copy"
    for directory in (folder, copy):
        directory.mkdir(parents=True)
        onnx_model(directory / "model.onnx", external=True)
    path = str(folder / "model.onnx")

    on_mount, _ = headers_on_mounts([str(tmp_path / "mount")], current_user())([path, str(folder / "config.json")])
    (copy / "model.onnx.data").unlink()  # only the header is looked at
    elsewhere, troubles = headers_under(copy, current_user())([path])

    assert [item.name for item in on_mount] == [item.name for item in elsewhere] == list(NAMES)
    assert {item.path for item in on_mount} == {item.path for item in elsewhere} == {f"{path}.data"}
    assert troubles == []


@pytest.mark.parametrize("kind", ["missing", "fifo", "folder", "link out", "other mount", "garbage", "secret"])
def test_an_unreadable_model_is_reported_in_one_sentence(tmp_path: Path, kind: str) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    path = mount / "model.onnx"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link out":
        path.symlink_to(onnx_model(tmp_path / "outside.onnx", external=False))
    elif kind == "other mount":
        path = onnx_model(tmp_path / "model.onnx", external=False)
    elif kind == "garbage":
        path.write_bytes(b"\x3a\xff")
    elif kind == "secret":
        onnx_model(path, external=False).chmod(0)
        if os.geteuid() == 0:
            pytest.skip("root may read everything; tests/integration has it with a user's rights")

    tensors, troubles = headers_on_mounts([str(mount)], current_user())([str(path)])

    assert tensors == []
    assert len(troubles) == 1
    assert troubles[0].startswith("the tensors of model.onnx (")


def test_a_link_within_the_mount_is_followed(tmp_path: Path) -> None:
    blob = onnx_model(tmp_path / "blob", external=False)
    (tmp_path / "model.onnx").symlink_to(blob)
    tensors, troubles = headers_on_mounts([str(tmp_path)], current_user())([str(tmp_path / "model.onnx")])
    assert (len(tensors), troubles) == (2, [])


def test_without_a_model_there_are_no_tensors_and_no_error(tmp_path: Path) -> None:
    assert headers_on_mounts([str(tmp_path)], current_user())([str(tmp_path / "script.py")]) == ([], [])
