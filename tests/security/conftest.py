"""Fixtures of attacks: two users that exist for the tests only, a mount, a working folder, and a secret file of root.

Every test in this folder runs an attack. Its docstring says what the attack got before it was stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from shared_fixtures import mount, workdir
from throwaway import SECRET, Somebody, cannot, somebody
from tiny import open_to_all

__all__ = ["ann", "ben", "mount", "secret", "workdir"]


@pytest.fixture(scope="session")
def ann() -> Iterator[Somebody]:
    """Add a user: the attacker, or who called sudo."""
    yield from _added()


@pytest.fixture(scope="session")
def ben() -> Iterator[Somebody]:
    """Add another user, who has nothing to do with the first."""
    yield from _added()


def _added() -> Iterator[Somebody]:
    if reason := cannot():
        pytest.skip(reason)
    with somebody() as user:
        yield user


@pytest.fixture
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file that only root may read, in a folder that everybody may enter."""
    folder = tmp_path_factory.mktemp("root")
    open_to_all(folder)
    path = folder / "shadow"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path
