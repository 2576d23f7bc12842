"""A repository, served, and mounted by the lab's client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from client_files import FILES
from lab_mount import Lab, LabMount, lab


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Lab]:
    """Publish the files and serve them."""
    with lab(tmp_path, FILES) as served:
        (tmp_path / "source/models/link").symlink_to("config.json")
        yield served


@pytest.fixture
def mounted(served: Lab) -> Iterator[LabMount]:
    """Mount them."""
    with served.mount() as mounted:
        yield mounted
