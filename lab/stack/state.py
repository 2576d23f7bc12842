"""What a stack is made of, and what it remembers in its state folder between calls.

lock            held while something is changed
stack.json      options, mountpoint and processes; written before each step, so that a crash leaves a trace
built.json      with which parameters the models were built and published
models/ store/  the models, and the repository they are published in
cache/          the client's
access.log  origin.sock  origin.log
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from cvtrace.lab.client import DEFAULT_RELEASE
from cvtrace.lab.errors import LabError

FQRN: Final = "models.cvtrace.test"
PATIENCE_S: Final = 120.0


def default_state() -> Path:
    """Return where the state is kept when nobody says: /var/lib for root, else where XDG wants it."""
    named = os.environ.get("XDG_STATE_HOME")
    if named:
        return Path(named) / "cvtrace-lab"
    return Path("/var/lib/cvtrace-lab") if os.geteuid() == 0 else Path.home() / ".local/state/cvtrace-lab"


@dataclass(frozen=True)
class Options:
    """What is to be brought up; two calls with equal options want the same stack."""

    mount: Path | None = None
    """Mountpoint; None: /cvmfs/<fqrn> where that can be made, else in the state folder."""
    size_bytes: int = 64_000_000
    mapped_too: bool = False
    """Build a second model, whose weights are used from the mapping."""
    client: str = "auto"
    """lab, cvmfs2, the path of a cvmfs2, or auto: cvmfs2 if it is on PATH, else lab."""
    cache: Path | None = None
    """The client's cache; None: in the state folder."""
    quota_bytes: int = 4_000_000_000
    chunk_bytes: int = 8 << 20
    port: int = 0
    """Of the origin; 0: a free one."""
    delay_s: float = 0.0
    """Before the first byte of each answer."""
    like: str = DEFAULT_RELEASE
    """Which release the lab's client plays."""
    bandwidth_bytes_per_s: float | None = None

    def client_of_release(self) -> str:
        """Return the client to use where a release is to be played, which only the lab's can do; raises LabError where another is named."""
        if self.client not in ("auto", "lab"):
            raise LabError(f"{self.client} is of the release that it is: leave --like out, or use --client lab")
        return "lab"

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON values."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Stack:
    """A stack that is up."""

    fqrn: str
    mountpoint: Path
    url: str
    """Of the origin, without a path."""
    origin_pid: int
    client: str
    """`lab`, or the path of the cvmfs2 that serves the mount."""
    client_pid: int
    workspace: Path
    """The client's folder: cached objects and talk socket."""
    access_log: Path
    control: Path
    """Socket of the origin, see cvtrace.lab.origin.control."""
    state: Path
    store: Path
    key: Path
    """Public key of the repository."""
    quota_bytes: int
    like: str = DEFAULT_RELEASE
    """Which release the lab's client plays."""
    models: dict[str, Path] = field(default_factory=dict)
    """Name -> folder in the mount."""

    @property
    def model(self) -> Path:
        """The model whose weights are packed when it is loaded."""
        return next(iter(self.models.values()))

    @property
    def mapped_model(self) -> Path:
        """The model whose weights are used from the mapping; raises LabError when it was not asked for."""
        for name, path in self.models.items():
            if name.endswith("-mapped"):
                return path
        raise LabError("there is no model with mapped weights: bring the lab up with --mapped-too")

    def to_json(self) -> dict[str, Any]:
        """Return the stack as JSON values."""
        values = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}
        return values | {"models": {name: str(path) for name, path in self.models.items()}}


class StateFolder:
    """The state folder of one stack."""

    def __init__(self, folder: Path) -> None:
        self.path = folder.absolute()
        self.access_log = self.path / "access.log"
        self.control = self.path / "origin.sock"
        self.origin_log = self.path / "origin.log"
        self.store = self.path / "store"
        self._stack = self.path / "stack.json"
        self._built = self.path / "built.json"

    def read(self) -> dict[str, Any]:
        """Return what was remembered of the stack; empty when nothing is up or was."""
        return self._read(self._stack)

    def read_built(self) -> dict[str, Any]:
        """Return what was built and published: model name -> parameters."""
        return self._read(self._built)

    def remember(self, **values: Any) -> None:
        """Add to what is remembered."""
        self._write(self._stack, self.read() | values)

    def remember_built(self, built: dict[str, Any]) -> None:
        """Replace what was built and published."""
        self._write(self._built, built)

    def forget(self) -> None:
        """Nothing is up any more."""
        self._stack.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep others from changing it meanwhile; raises LabError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LabError(
                f"cannot keep the lab's state in {self.path}: {error.strerror}; name another folder with --state"
            ) from error
        try:
            self._wait_for_lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _wait_for_lock(self, descriptor: int) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    raise LabError(f"another cvtrace lab is at work in {self.path}: wait for it") from None
                time.sleep(0.05)

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        try:
            values = json.loads(path.read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}  # half of a file cannot be there (it is replaced), so it is not ours
        except OSError as error:
            raise LabError(f"cannot read {path}: {error.strerror}") from error
        return values if isinstance(values, dict) else {}

    @staticmethod
    def _write(path: Path, values: dict[str, Any]) -> None:
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(values, indent=1))
        fresh.replace(path)
