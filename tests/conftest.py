"""What all tests share: who may run those that need root."""

import os

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `root` for everybody else."""
    if os.geteuid() != 0 and item.get_closest_marker("root"):
        pytest.skip("needs root: real BPF, real FUSE, memory limits or other users")
