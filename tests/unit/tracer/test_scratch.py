"""Numbers that are kept while they are not needed: in memory, and beyond some size in a file."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from cvtrace.tracer import scratch
from cvtrace.tracer.scratch import Scratch


@pytest.mark.parametrize("room", [0, 100, 1 << 20])
def test_what_is_kept_is_read_as_it_was(room: int) -> None:
    kept = Scratch(room)
    columns = [np.arange(50, dtype=np.uint8), np.arange(0, 9_000, 3, dtype=np.int64), np.empty(0, dtype=np.uint16)]
    held = [kept.keep(column) for column in columns]
    for column, each in zip(columns, held, strict=True):
        assert len(each) == len(column)
        assert each.read().dtype == column.dtype
        assert each.read().tolist() == column.tolist()


def test_what_is_beyond_the_room_lies_in_a_file_that_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    kept = Scratch(8_000)
    first, second = kept.keep(np.arange(1_000)), kept.keep(np.arange(1_000) * 2)
    assert first.in_memory
    assert not second.in_memory
    assert not list(tmp_path.iterdir())
    assert second.read().tolist() == list(range(0, 2_000, 2))


def test_numbers_stay_in_memory_if_no_file_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch.tempfile, "TemporaryFile", full)
    held = Scratch(0).keep(np.arange(10))
    assert held.in_memory
    assert held.read().tolist() == list(range(10))
