"""Where most recordings of these tests and of tests/security are made: a folder of their own, on a mount of one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import open_to_all, tiny_mount


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Mount one file, for everybody."""
    folder = tmp_path_factory.mktemp("mount")
    open_to_all(folder)
    with tiny_mount(folder) as (path, _):
        yield path


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder that other users may enter; nobody called cvtrace through sudo."""
    open_to_all(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("SUDO_UID", "SUDO_GID", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path
