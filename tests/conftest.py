"""What all tests share: who may run those that need root."""

import os
import shutil
import signal
import tempfile

import pytest
from hypothesis import settings

# A run that was started in the background ignores Ctrl-C, and one under nohup a lost terminal; all that the tests start would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
for ignored in (signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(ignored, signal.SIG_DFL)

# The same examples on every run of CI, so that it says the same of the same code; others look further each time.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


# A folder of this run's own: pytest closes its usual one to other users anew whenever another run begins, and tests open it.
TEMPORARY = None if "PYTEST_DEBUG_TEMPROOT" in os.environ else tempfile.mkdtemp(prefix="cvt-")
if TEMPORARY:
    os.chmod(TEMPORARY, 0o755)  # noqa: PTH101 - a text; other users enter it, too
    os.environ["PYTEST_DEBUG_TEMPROOT"] = TEMPORARY


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Shorten the folder of a worker of pytest-xdist: paths of sockets below it have at most 107 bytes."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(config, "workerinput"):
        config.option.basetemp = os.path.join(os.environ["PYTEST_DEBUG_TEMPROOT"], worker)  # noqa: PTH118 - a text


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove the temporary files of a run that passed."""
    if TEMPORARY and exitstatus == pytest.ExitCode.OK:
        shutil.rmtree(TEMPORARY, ignore_errors=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `root` for everybody else."""
    if os.geteuid() != 0 and item.get_closest_marker("root"):
        pytest.skip("needs root: real BPF, real FUSE, memory limits or other users")
