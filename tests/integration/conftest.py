"""Where most recordings of these tests are made: a folder of their own, on a mount of one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import open_to_all, tiny_mount


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Mount one file."""
    folder = tmp_path_factory.mktemp("mount")
    open_to_all(folder)
    with tiny_mount(folder) as (path, _):
        yield path


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder that other users may enter, called by nobody through sudo."""
    open_to_all(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUDO_UID", raising=False)
    return tmp_path
