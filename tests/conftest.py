"""What all tests share: who may run those that need root."""

import os
import signal

import pytest
from hypothesis import settings

# A run that was started in the background ignores Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every run of CI, so that it says the same of the same code; others look further each time.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `root` for everybody else."""
    if os.geteuid() != 0 and item.get_closest_marker("root"):
        pytest.skip("needs root: real BPF, real FUSE, memory limits or other users")
