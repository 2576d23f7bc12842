"""A model for what observes ONNX Runtime in a process."""

from pathlib import Path

import pytest

from cvtrace.lab.model import build


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a small model."""
    directory = tmp_path_factory.mktemp("model") / "tiny"
    build(directory, 2 << 20)
    return directory
