"""The local copy of a script's files: made once, used by every run in the state `local`, and removed at the end.

As root, each run in that state has a mount namespace of its own, in which the copy is bound over the files: the script, its arguments and the paths
that it has inside stay as they are, and no other process sees the copy. Without root the copy's path takes the place of the path in the arguments.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvtrace.analysis.contract.quantities import size
from cvtrace.experiment.errors import WrongExperiment
from cvtrace.experiment.files import Place
from cvtrace.probes.residency.page_cache import cached_bytes
from cvtrace.tracer.safe_open import open_folder
from cvtrace.tracer.user import User, acting_as

NEW_NAMESPACE: Final = 0x00020000
"""CLONE_NEWNS (sched.h)."""
BIND, RECURSIVE, PRIVATE = 4096, 16384, 1 << 18
"""MS_BIND, MS_REC, MS_PRIVATE (mount(2))."""
PART_BYTES: Final = 4 << 20
PLACE: Final = os.O_PATH | os.O_CLOEXEC
MARGIN_BYTES: Final = 64 << 20
"""What has to stay free on the disk."""


@dataclass(frozen=True)
class LocalCopy:
    """A copy: the paths as the script names them, and where each is copied."""

    folder: Path
    pairs: tuple[tuple[str, str], ...]
    bytes: int
    user: User
    """Whose the copy is."""
    devices: frozenset[int] = frozenset()
    """Those of the mounts that the files are on (st_dev)."""

    def files(self) -> Iterator[Path]:
        """Yield the regular files of the copy."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield path

    def read(self) -> None:
        """Have all of it in the page cache. Raises OSError."""
        buffer = bytearray(PART_BYTES)
        with acting_as(self.user):
            for path in self.files():
                with path.open("rb", buffering=0) as stream:
                    while stream.readinto(buffer):
                        pass

    def resident_bytes(self) -> int | None:
        """Return how much of it is in the page cache, None if the kernel does not tell."""
        total = 0
        with acting_as(self.user):
            for path in self.files():
                with path.open("rb", buffering=0) as stream:
                    length = os.fstat(stream.fileno()).st_size
                    answer = cached_bytes(stream.fileno(), [(0, length)]) if length else [0]
                    if answer is None:
                        return None
                    total += answer[0]
        return total

    def substituted(self, argv: Sequence[str], directory: Path) -> tuple[str, ...]:
        """Return arguments with the copy's paths in the place of the files'."""
        words = list(argv)
        for source, target in sorted(self.pairs, key=lambda pair: -len(pair[0])):
            words = [_replaced(word, source, target, directory) for word in words]
        return tuple(words)

    def bind(self) -> None:
        """Give this process, which is about to run the script, a mount namespace with the copy over the files; as root. Raises OSError."""
        libc = ctypes.CDLL(None, use_errno=True)
        _check(libc.unshare(NEW_NAMESPACE))
        _check(libc.mount(None, b"/", None, RECURSIVE | PRIVATE, None))
        for path, copied in self.pairs:
            # By descriptors: the user may have put a link in the place of either, and root would bind over what it leads to.
            source, target = self._open_copy(copied), self._open_original(path)
            names = (f"/proc/self/fd/{each}".encode() for each in (source, target))
            _check(libc.mount(*names, None, BIND | RECURSIVE, None))
            os.close(source)
            os.close(target)

    def _open_copy(self, path: str) -> int:
        folder = open_folder(Path(path).parent)
        try:
            place = os.open(Path(path).name, PLACE | os.O_NOFOLLOW, dir_fd=folder)
        finally:
            os.close(folder)
        if os.fstat(place).st_uid != self.user.uid:
            raise OSError(errno.EPERM, f"{path} is not the copy any more")
        return place

    def _open_original(self, path: str) -> int:
        place = os.open(path, PLACE)
        if os.fstat(place).st_dev not in self.devices:
            raise OSError(errno.EPERM, f"{path} is not on the CVMFS mount any more")
        return place


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _replaced(word: str, source: str, target: str, directory: Path) -> str:
    if not word.startswith("-") and os.path.normpath(directory / word) == source:
        return target
    place = word.find(source)
    after = word[place + len(source) : place + len(source) + 1]
    return word[:place] + target + word[place + len(source) :] if place >= 0 and after in ("", "/") else word


@contextlib.contextmanager
def local_copy(place: Place, parent: Path, user: User, step: Callable[[int], None]) -> Iterator[LocalCopy]:
    """Copy the files below `parent` as a user, and remove the copy at the end, also if making it fails.

    `step` takes the bytes that were copied since the last call. Raises WrongExperiment if there is no room, or the disk becomes full.
    """
    with acting_as(user):
        try:
            free = shutil.disk_usage(parent).free
        except OSError as failure:
            raise WrongExperiment(
                f"the local copy cannot be made in {parent}: {failure.strerror}: name another folder with --copy-to"
            ) from None
        if free < place.bytes + MARGIN_BYTES:
            raise WrongExperiment(
                f"the local copy needs {size(place.bytes)} and {parent} has {size(free)} free: name another folder with --copy-to, or leave `local` out with --states"
            )
        folder = Path(tempfile.mkdtemp(prefix="local-copy-", dir=parent))
    try:
        with acting_as(user):
            pairs = _copied(place, folder, parent, step)
        yield LocalCopy(folder, pairs, place.bytes, user, frozenset(file.device for file in place.files))
    finally:
        with acting_as(user):
            shutil.rmtree(folder, ignore_errors=True)


def _copied(place: Place, folder: Path, parent: Path, step: Callable[[int], None]) -> tuple[tuple[str, str], ...]:
    pairs = []
    try:
        for number, path in enumerate(_parents_first(place.paths)):
            # Files that lie beside each other stay so: a model looks for its weights in the folder that it is in.
            inside = folder / f"{_group(place.paths, path)}"
            inside.mkdir(exist_ok=True)
            target = inside / (Path(path).name or f"root-{number}")
            _copy(Path(path), target, step)
            pairs.append((path, str(target)))
    except OSError as failure:
        reason = "it is full" if failure.errno in (errno.ENOSPC, errno.EDQUOT) else failure.strerror or str(failure)
        raise WrongExperiment(
            f"the local copy could not be made in {parent} ({reason}) and is removed: name another folder with --copy-to, or leave `local` out with --states"
        ) from None
    return tuple(pairs)


def _parents_first(paths: Sequence[str]) -> list[str]:
    return sorted(dict.fromkeys(paths))


def _group(paths: Sequence[str], path: str) -> int:
    return sorted({str(Path(each).parent) for each in paths}).index(str(Path(path).parent))


def _copy(source: Path, target: Path, step: Callable[[int], None]) -> None:
    if source.is_dir():
        target.mkdir()
        for entry in sorted(source.iterdir()):
            _copy(entry, target / entry.name, step)
        return
    if not source.is_file():  # a link that leads nowhere
        return
    with source.open("rb", buffering=0) as reading, target.open("wb", buffering=0) as writing:
        while part := reading.read(PART_BYTES):
            view = memoryview(part)
            while view:
                view = view[writing.write(view) :]
            step(len(part))
        os.fdatasync(writing.fileno())
    shutil.copymode(source, target)
