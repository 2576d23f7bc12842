"""Files that the model builder writes, without running the model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest

from cvtrace.lab.errors import LabError
from cvtrace.lab.model import build, weights
from cvtrace.lab.model.shape import SMALLEST_VOCABULARY, fit
from cvtrace.lab.model.tokenizer import BYTES, byte_characters, special_ids, words


@pytest.mark.parametrize("bits", [4, 32])
@pytest.mark.parametrize("size_bytes", [4_000_000, 64_000_000, 400_000_000, 2_000_000_000, 10_000_000_000])
def test_a_model_has_the_requested_size(size_bytes: int, bits: int) -> None:
    # WHEN
    shape = fit(size_bytes, bits)

    # THEN
    listed = weights.tensors(shape, seed=0)
    assert sum(tensor.size_bytes for tensor in listed) == pytest.approx(size_bytes, rel=0.03)
    assert shape.vocabulary >= SMALLEST_VOCABULARY
    assert shape.heads % shape.kv_heads == 0
    embedding = next(tensor for tensor in listed if "embed" in tensor.name)
    assert 0.08 < embedding.size_bytes / size_bytes < 0.5


@pytest.mark.parametrize("size_bytes, bits", [(0, 4), (500_000, 4), (1_000_000, 32)])
def test_an_impossible_size_is_refused_with_the_way_out(size_bytes: int, bits: int) -> None:
    with pytest.raises(LabError, match="too small: ask for"):
        fit(size_bytes, bits)


@pytest.mark.parametrize("mapped", [False, True])
def test_chunks_fill_every_tensor_exactly(mapped: bool) -> None:
    # GIVEN
    shape = fit(6_000_000, 32 if mapped else 4)

    # WHEN
    for tensor in weights.tensors(shape, seed=3):
        chunks = list(tensor.chunks())

        # THEN
        assert sum(chunk.nbytes for chunk in chunks) == tensor.size_bytes, tensor.name
        assert {chunk.dtype for chunk in chunks} == {tensor.dtype}


def test_embedding_rows_can_be_drawn_again_in_any_range() -> None:
    # GIVEN
    shape = fit(4_000_000)
    table = weights.embedding_rows(shape, 7, 0, shape.vocabulary)

    # WHEN
    part = weights.embedding_rows(shape, 7, 500, 1100)

    # THEN
    np.testing.assert_array_equal(part, table[500:1100])
    assert float(np.sqrt((table**2).mean())) == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("count", [1, 2, 379, 5239, 100_000])
def test_the_stride_of_the_walk_visits_each_word(count: int) -> None:
    assert math.gcd(weights.stride(count), count) == 1


def test_external_weights_lie_on_pages_of_their_own(tmp_path: Path) -> None:
    # WHEN
    built = build(tmp_path / "model", 1_000_000)

    # THEN
    model = onnx.load(built.directory / "model.onnx", load_external_data=False)
    ends = [0]
    for initializer in model.graph.initializer:
        entries = {entry.key: entry.value for entry in initializer.external_data}
        if entries:
            assert entries["location"] == "model.onnx.data"
            assert int(entries["offset"]) % 4096 == 0
            assert int(entries["offset"]) >= ends[-1]
            ends.append(int(entries["offset"]) + int(entries["length"]))
    assert ends[-1] == (built.directory / "model.onnx.data").stat().st_size


def test_same_arguments_give_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    # WHEN
    first, second, third = (
        build(tmp_path / name, 1_000_000, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )

    # THEN
    for path in first.directory.iterdir():
        assert path.read_bytes() == (second.directory / path.name).read_bytes(), path.name
    data = "model.onnx.data"
    assert (first.directory / data).read_bytes() != (third.directory / data).read_bytes()


def test_inline_weights_leave_no_data_file(tmp_path: Path) -> None:
    # WHEN
    built = build(tmp_path / "model", 1_000_000, inline=True)

    # THEN
    assert not (built.directory / "model.onnx.data").exists()
    assert (built.directory / "model.onnx").stat().st_size > 900_000


def test_inline_weights_beyond_protobuf_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"2 GiB.*without --inline"):
        build(tmp_path / "model", 3_000_000_000, inline=True)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_unchanged(tmp_path: Path) -> None:
    # GIVEN
    (tmp_path / "mine.txt").write_text("mine")

    # WHEN / THEN
    with pytest.raises(LabError, match="is there already"):
        build(tmp_path, 1_000_000)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_impossible_folder_is_reported_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match=r"cannot build a model in .*: Not a directory"):
        build(tmp_path / "file" / "model", 1_000_000)


def test_the_tokenizer_reaches_every_word_and_numbers_without_gaps(tmp_path: Path) -> None:
    # WHEN
    built = build(tmp_path / "model", 4_000_000)

    # THEN
    content = json.loads((built.directory / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary, merges = content["model"]["vocab"], content["model"]["merges"]
    size = built.shape.vocabulary
    assert sorted(vocabulary.values()) == list(range(size))
    assert len(merges) == words(size)
    characters = set(byte_characters())
    for left, right in (merge.split(" ") for merge in merges):
        assert {left, right} <= characters
        characters.add(left + right)
    assert special_ids(size)["<|endoftext|>"] == BYTES + words(size)
