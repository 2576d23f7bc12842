"""From a size to a folder that onnxruntime-genai loads."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from onnx import helper

from cvtrace.lab.errors import LabError
from cvtrace.lab.model import config, files, graph, tokenizer, weights
from cvtrace.lab.model.shape import Shape, fit

DEFAULT_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class Built:
    """A model on disk."""

    directory: Path
    shape: Shape
    size_bytes: int
    """Bytes of all files together."""
    tensors: int


def build(
    directory: str | Path,
    size_bytes: int = DEFAULT_BYTES,
    *,
    inline: bool = False,
    mapped: bool = False,
    seed: int = 0,
) -> Built:
    """Build a decoder model of about `size_bytes` in `directory`, which must not exist or be empty.

    `inline` puts the weights into model.onnx. `mapped` makes generation use them straight from the mapped file:
    float32 matrices, which onnxruntime multiplies in place when told not to pack copies of them (int4 ones it
    would unpack anew for every token, 40 times slower). Same arguments, same bytes.
    Raises LabError when the folder is taken, the size impossible or the disk full.
    """
    directory = Path(directory)
    if inline and mapped:
        raise LabError("weights inside model.onnx cannot be used from a mapping: choose --inline or --mapped")
    shape = fit(size_bytes, bits=32 if mapped else 4)
    unfinished = directory.with_name(f"{directory.name}.unfinished")
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise LabError(f"{directory} is there already: choose another folder or remove it")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        listed = weights.tensors(shape, seed)
        _write(unfinished, shape, listed, inline=inline, mapped=mapped)
        unfinished.replace(directory)
    except OSError as error:
        raise LabError(f"cannot build a model in {directory}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    written_bytes = sum(path.stat().st_size for path in directory.iterdir())
    return Built(directory, shape, written_bytes, len(listed))


def _write(directory: Path, shape: Shape, listed: list[weights.Tensor], *, inline: bool, mapped: bool) -> None:
    """Write all files of the model into `directory`."""
    if inline:
        initializers = files.inline(listed)
    else:
        initializers = files.external(listed, directory / "model.onnx.data")
    onnx_graph = helper.make_graph(
        graph.nodes(shape),
        "main_graph",
        graph.inputs(shape),
        graph.outputs(shape),
        initializer=[*graph.constants(), *initializers],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(graph.MS, 1)]
    model = helper.make_model(onnx_graph, opset_imports=opsets, ir_version=8, producer_name="cvtrace-lab")
    onnx.save_model(model, directory / "model.onnx")
    tokenizer.write(directory, shape.vocabulary, shape.context)
    config.write(directory, shape, mapped=mapped)
