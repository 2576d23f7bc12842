"""`run --keep-names`: a trace names its tensors when the model is gone, and keeps nothing of the model but its headers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from cvtrace_run import cvtrace, example

from cvtrace.lab.stack import Options, Stack, temporary


@pytest.fixture(scope="module")
def unmounted_traces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, tuple[int, int]], bytes]:
    """Record with and without --keep-names; return both traces, what the onnx library says of the model, and a piece of its weights."""
    folder = tmp_path_factory.mktemp("kept")
    with temporary(Options(size_bytes=8_000_000, client="lab", chunk_bytes=1 << 20)) as stack:
        for name, more in (("with", ["--keep-names"]), ("without", [])):
            options = ["--probes", "ebpf", "-o", folder / name, "--python", sys.executable, "--mount", stack.mountpoint]
            result = cvtrace("run", *options, *more, "--no-summary", "--", *example(stack.model, 4))
            assert result.returncode == 0, result.stderr
            assert result.stderr == ""
        truth = places(stack)
        weights = (stack.model / "model.onnx.data").read_bytes()[1 << 20 :][:64]
    return folder / "with", folder / "without", truth, weights


def places(stack: Stack) -> dict[str, tuple[int, int]]:
    """Return offset and length of each external tensor, as the onnx library reads them."""
    model = onnx.load(stack.model / "model.onnx", load_external_data=False)
    locations = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data} for tensor in model.graph.initializer
    }
    return {
        name: (int(location["offset"]), int(location["length"])) for name, location in locations.items() if location
    }


def report(trace: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads(cvtrace("report", trace, "--format", "json").stdout)
    return document


def test_tensors_are_named_when_the_mount_is_gone(
    unmounted_traces: tuple[Path, Path, dict[str, tuple[int, int]], bytes],
) -> None:
    with_names, plain, truth, _ = unmounted_traces

    tensors = {row["name"]: row for row in report(with_names)["tensors"] if row["name"]}  # type: ignore[attr-defined]

    assert {
        name: (row["offset_bytes"], row["size_bytes"]) for name, row in tensors.items() if row["path"].endswith(".data")
    } == truth
    assert report(plain)["tensors"] == []
    assert "model.embed_tokens.weight" in cvtrace("report", with_names).stdout


def test_no_weights_are_kept(unmounted_traces: tuple[Path, Path, dict[str, tuple[int, int]], bytes]) -> None:
    with_names, plain, _, weights = unmounted_traces

    assert sorted(path.name for path in with_names.iterdir()) == sorted(
        [*(path.name for path in plain.iterdir()), "tensors.json"]
    )
    content = (with_names / "tensors.json").read_bytes()
    assert weights not in content
    assert np.unique(np.frombuffer(weights, dtype=np.uint8)).size > 8  # the piece is no filling
    assert len(content) < 100_000


def test_a_program_without_a_model_has_no_names_to_keep(tmp_path: Path, mount: Path) -> None:
    options = ["--probes", "portable", "--mount", mount, "-o", tmp_path / "trace", "--keep-names", "--no-summary"]
    result = cvtrace("run", *options, "--", "true")

    assert result.returncode == 0
    assert "no names to keep" in result.stderr
    assert not (tmp_path / "trace" / "tensors.json").exists()
