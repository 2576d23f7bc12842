"""Tensors by name: a model of the lab, loaded from a mount by onnxruntime-genai, traced with eBPF."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from cvtrace_run import cvtrace, example
from tiny import open_to_all
from unprivileged import NOBODY

from cvtrace.lab.stack import Options, Stack, temporary

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with temporary(Options(size_bytes=20_000_000, client="lab", chunk_bytes=1 << 20)) as up:
        yield up


@pytest.fixture(scope="module")
def traced(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Record a cold load and 8 tokens; return the trace and the summary."""
    trace = tmp_path_factory.mktemp("tensors") / "trace"
    options = ["--probes", "ebpf", "-o", trace, "--python", sys.executable, "--mount", stack.mountpoint]
    return trace, cvtrace("run", *options, "--", *example(stack.model, 8)).stderr


def report(trace: Path, *options: str, **environ: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(cvtrace("report", trace, "--format", "json", *options, **environ).stdout)
    return document


def by_path(rows: list[dict[str, Any]], path: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["path"] == path]


def test_reads_by_tensor_add_up_to_those_of_the_file(stack: Stack, traced: tuple[Path, str]) -> None:
    # GIVEN a cold load of a model with external data
    trace, _ = traced
    data = str(stack.model / "model.onnx.data")

    # WHEN
    document = report(trace)

    # THEN its tensors are those that the onnx library finds
    loaded = onnx.load(stack.model / "model.onnx", load_external_data=False)
    external = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data} for tensor in loaded.graph.initializer
    }
    tensors = {row["name"]: row for row in by_path(document["tensors"], data) if row["name"]}
    assert {name: (str(row["offset_bytes"]), str(row["size_bytes"])) for name, row in tensors.items()} == {
        name: (entry_["offset"], entry_["length"]) for name, entry_ in external.items() if entry_
    }
    assert {name: row["shape"] for name, row in tensors.items()} == {
        tensor.name: list(tensor.dims) for tensor in loaded.graph.initializer if external[tensor.name]
    }
    # AND what is told of them adds up to what is told of the file
    (file,) = by_path(document["files"], data)
    rows = by_path(document["tensors"], data)
    assert file["reads"] > 50
    for column in ("reads", "read_bytes", "fetched_bytes"):
        assert sum(row[column] for row in rows) == file[column], column
    assert sum(row["blocked_s"] for row in rows) == pytest.approx(file["blocked_s"], abs=1e-6)
    # AND generation touched the embeddings only, one row for each word that came up
    assert {row["name"] for row in rows if row["generation_reads"]} == {"model.embed_tokens.weight"}
    layers = [row["layer"] for row in document["layers"]]
    assert layers == [*range(len(layers) - 1), None]
    assert sum(row["read_bytes"] for row in document["layers"] if row["layer"] is not None) > 0


def test_chunks_lie_in_the_file_as_they_were_published(stack: Stack, traced: tuple[Path, str]) -> None:
    data = stack.model / "model.onnx.data"
    listed = os.getxattr(data, "user.chunk_list").decode()
    published = dict(line.split(",")[:2] for line in listed.splitlines() if line[:1].isalnum() and "," in line)

    chunks = by_path(report(traced[0])["chunks"], str(data))

    assert len(chunks) > 10
    assert {row["object"]: str(row["offset_bytes"]) for row in chunks} == {
        name: offset for name, offset in published.items() if name in {row["object"] for row in chunks}
    }
    assert all(row["kind"] == "chunk" and row["fetches"] == 1 and row["evictions"] == 0 for row in chunks)
    assert sum(row["read_bytes"] for row in chunks) == by_path(report(traced[0])["files"], str(data))[0]["read_bytes"]


def test_the_summary_names_the_tensors_that_were_waited_for(traced: tuple[Path, str]) -> None:
    assert "model.embed_tokens.weight" in traced[1]


def test_a_trace_read_on_another_machine_needs_the_folder_of_the_model(
    stack: Stack, traced: tuple[Path, str], tmp_path: Path
) -> None:
    # GIVEN a copy of the trace whose mount is somewhere else, and a copy of the model's header
    trace = tmp_path / "trace"
    shutil.copytree(traced[0], trace)
    meta = json.loads((trace / "meta.json").read_text())
    meta["mounts"][0]["path"] = "/nowhere"
    copy = tmp_path / "model"
    copy.mkdir()
    shutil.copy(stack.model / "model.onnx", copy)
    (trace / "meta.json").write_text(json.dumps(meta))
    # WHEN / THEN without the folder one sentence says what is missing, and with it nothing is
    alone, helped = report(trace), report(trace, "--model", str(copy))
    assert alone["tensors"] == []
    assert "the tensors of model.onnx (" in alone["trace"]["missing"][-1]
    assert len(helped["tensors"]) > 50
    assert helped["trace"]["missing"] == alone["trace"]["missing"][:-1]
    assert helped["files"] == alone["files"]


def test_under_sudo_the_model_is_read_with_the_rights_of_the_caller(
    stack: Stack, traced: tuple[Path, str], tmp_path: Path
) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    shutil.copy(stack.model / "model.onnx", copy)
    trace = tmp_path / "trace"
    shutil.copytree(traced[0], trace)
    for path in (trace, *trace.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    open_to_all(tmp_path)
    caller = {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}

    readable = report(trace, "--model", str(copy), **caller)
    (copy / "model.onnx").chmod(0o600)
    secret = report(trace, "--model", str(copy), **caller)

    assert readable["tensors"]
    assert secret["tensors"] == []
    assert "(Permission denied)" in secret["trace"]["missing"][-1]
