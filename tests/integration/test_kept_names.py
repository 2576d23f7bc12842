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
def gone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, tuple[int, int]], bytes]:
    """Record with and without --keep-names; return both traces, what the onnx library says of the model, and a piece of its weights."""
    folder = tmp_path_factory.mktemp("kept")
    with temporary(Options(size_bytes=8_000_000, client="lab", chunk_bytes=1 << 20)) as stack:
        for name, more in (("with", ["--keep-names"]), ("without", [])):
            where = ["--probes", "ebpf", "-o", folder / name, "--python", sys.executable, "--mount", stack.mountpoint]
            done = cvtrace("run", *where, *more, "--no-summary", "--", *example(stack.model, 4))
            assert done.returncode == 0, done.stderr
            assert done.stderr == ""
        truth = places(stack)
        weights = (stack.model / "model.onnx.data").read_bytes()[1 << 20 :][:64]
    return folder / "with", folder / "without", truth, weights


def places(stack: Stack) -> dict[str, tuple[int, int]]:
    """Return offset and length of each external tensor, as the onnx library reads them."""
    model = onnx.load(stack.model / "model.onnx", load_external_data=False)
    told = {each.name: {entry.key: entry.value for entry in each.external_data} for each in model.graph.initializer}
    return {name: (int(each["offset"]), int(each["length"])) for name, each in told.items() if each}


def report(trace: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(cvtrace("report", trace, "--format", "json").stdout)
    return found


def test_tensors_are_named_when_the_mount_is_gone(gone: tuple[Path, Path, dict[str, tuple[int, int]], bytes]) -> None:
    kept, plain, truth, _ = gone

    told = {row["name"]: row for row in report(kept)["tensors"] if row["name"]}  # type: ignore[attr-defined]

    assert {
        name: (row["offset_bytes"], row["size_bytes"]) for name, row in told.items() if row["path"].endswith(".data")
    } == truth
    assert report(plain)["tensors"] == []
    assert "model.embed_tokens.weight" in cvtrace("report", kept).stdout


def test_no_weights_are_kept(gone: tuple[Path, Path, dict[str, tuple[int, int]], bytes]) -> None:
    kept, plain, _, weights = gone

    assert sorted(each.name for each in kept.iterdir()) == sorted(
        [*(each.name for each in plain.iterdir()), "tensors.json"]
    )
    content = (kept / "tensors.json").read_bytes()
    assert weights not in content
    assert np.unique(np.frombuffer(weights, dtype=np.uint8)).size > 8  # the piece is no filling
    assert len(content) < 100_000


def test_a_program_without_a_model_has_no_names_to_keep(tmp_path: Path) -> None:
    done = cvtrace(
        "run", "--probes", "portable", "-o", tmp_path / "trace", "--keep-names", "--no-summary", "--", "true"
    )

    assert done.returncode == 0
    assert "no names to keep" in done.stderr
    assert not (tmp_path / "trace" / "tensors.json").exists()
