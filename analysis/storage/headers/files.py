"""Which files are looked at, with whose rights, and for how long.

The files are the target's: they may be anything by now. A child process looks at their headers, with the rights of the user who asked,
and is left behind when a mount does not answer. Only plain files that lie on the mounts (or in the folder given) are opened.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from cvtrace.analysis.storage.headers import gguf, onnx, safetensors
from cvtrace.analysis.storage.headers.in_trace import has_tensors, tensors_in_trace
from cvtrace.analysis.storage.headers.source import Source, Unreadable
from cvtrace.analysis.storage.headers.tensor import HeaderTensor
from cvtrace.probes.cvmfs.deadline import NoAnswer, within
from cvtrace.tracer.safe_open import NotRegular, WrongPlace, open_followed
from cvtrace.tracer.store import Trace
from cvtrace.tracer.user import User, switch_user

PARSERS: Final = {".onnx": onnx.tensors, ".safetensors": safetensors.tensors, ".gguf": gguf.tensors}
ALL_SECONDS: Final = 15.0
MOST_FILES: Final = 64
MOST_BYTES: Final = 128 << 20
"""Of what the child tells of all tensors: half a million of them."""

Tensors = tuple[list[HeaderTensor], list[str]]
"""Tensors, and a sentence for each file that could not be read."""


class Headers(Protocol):
    """Looks up the tensors of models whose paths a trace names."""

    def __call__(self, paths: Sequence[str]) -> Tensors: ...


def is_model(path: str) -> bool:
    """Return whether a file is one with a header that can be read, by its name."""
    return posixpath.splitext(path)[1].lower() in PARSERS


def headers_of(trace: Trace, user: User, folder: Path | None = None) -> Headers:
    """Look in `folder`, else in what the trace keeps, else where it says, on its mounts only; with the rights of `user`."""
    if folder is not None:
        return headers_under(folder, user)
    if has_tensors(trace):
        return partial(tensors_in_trace, trace)
    return headers_on_mounts([str(mount.get("path") or "") for mount in trace.meta["mounts"]], user)


def headers_on_mounts(mounts: Sequence[str], user: User) -> Headers:
    """Look at the paths themselves, on these mounts only, with the rights of `user`."""
    return partial(_all, place=lambda path: path, roots=tuple(mounts), user=user)


def headers_under(folder: Path, user: User) -> Headers:
    """Look in a folder for files of the same names, with the rights of `user`: for a trace that is read elsewhere."""
    return partial(_all, place=partial(_place_under, folder), roots=(str(folder),), user=user)


def _place_under(folder: Path, path: str) -> str:
    """Return where below `folder` the file is: with as much of its path as there is, at least its name."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for first in range(len(parts)):
        if (folder / posixpath.join(*parts[first:])).exists():
            return str(folder / posixpath.join(*parts[first:]))
    return str(folder / parts[-1]) if parts else str(folder)


def _all(paths: Sequence[str], *, place: Callable[[str], str], roots: tuple[str, ...], user: User) -> Tensors:
    chosen = sorted({path for path in paths if is_model(path)})
    if not chosen:
        return [], []
    try:
        rows, troubles = within(
            ALL_SECONDS, lambda: _read_all(chosen[:MOST_FILES], place, roots, user), most_bytes=MOST_BYTES
        )
        tensors = [HeaderTensor(name, kind, tuple(shape), *place_of) for name, kind, shape, *place_of in rows]
    except NoAnswer:
        return [], [_sentence(chosen[0], f"nothing answered within {ALL_SECONDS:.0f} s")]
    except OSError as failure:
        return [], [_sentence(chosen[0], os.strerror(failure.errno or 0))]
    if len(chosen) > MOST_FILES:
        troubles.append(f"the tensors of {len(chosen) - MOST_FILES} more files, of which no more are looked at")
    return tensors, troubles


def _read_all(
    paths: Sequence[str], place: Callable[[str], str], roots: tuple[str, ...], user: User
) -> tuple[list[list[Any]], list[str]]:
    """In the child. A FUSE mount asks for the user of a process, not only for whom it acts."""
    tensors: list[HeaderTensor] = []
    troubles: list[str] = []
    if user.is_other:
        switch_user(user)
    for path in paths:
        try:
            tensors += _read(path, place(path), roots)
        except Unreadable as reason:
            troubles.append(_sentence(path, str(reason)))
        except OSError as failure:
            troubles.append(_sentence(path, os.strerror(failure.errno or 0)))
    rows = [[each.name, each.dtype, each.shape, each.path, each.offset, each.size] for each in tensors]
    return rows, troubles


def _sentence(path: str, reason: str) -> str:
    name = posixpath.basename(path)
    return f"the tensors of {name} ({reason}): `cvtrace report --model DIR` looks for it in another folder"


def _read(path: str, where: str, roots: tuple[str, ...]) -> list[HeaderTensor]:
    try:
        file = open_followed(where, lambda place: _lies_below(place, roots))
    except NotRegular:
        raise Unreadable("it is not a file") from None
    except WrongPlace:
        raise Unreadable("it is a link that leads out of its mount") from None
    with file:
        size = os.fstat(file.fileno()).st_size
        return PARSERS[posixpath.splitext(path)[1].lower()](Source(file.fileno(), size), path)


def _lies_below(fd: int, roots: tuple[str, ...]) -> bool:
    """Return whether an open file lies below one of the folders, whatever links led to it."""
    real = str(Path(f"/proc/self/fd/{fd}").readlink())
    return any(real.startswith(f"{os.path.realpath(root).rstrip('/')}/") for root in roots if root)
