"""Whether stacks can be sampled here, and how; or the sentence that says why not."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvtrace.probes.capabilities import Capability, held
from cvtrace.probes.command import SUDO
from cvtrace.probes.elf import Elf, NotElf
from cvtrace.probes.probe import CannotObserve
from cvtrace.probes.stacks.native import find_perf
from cvtrace.probes.stacks.python import find_py_spy

YAMA: Final = Path("/proc/sys/kernel/yama/ptrace_scope")
NOBODY: Final = 3
"""Of YAMA: no process may read the memory of another one, root's neither."""
NO_PY_SPY: Final = "--stacks needs py-spy for Python: pip install 'cvtrace[stacks]'"
NO_PERF: Final = "--stacks needs perf for a program that is not Python: apt install linux-perf (or linux-tools-generic, or dnf install perf)"
MUSL: Final = "--stacks does not work for {name}: it uses the C library musl, which has no tables to unwind stacks by; record without --stacks"
_PYTHON: Final = re.compile(r"python3?(\.\d+)?t?")
_LIBPYTHON: Final = re.compile(r"/libpython3[^/]*\.so")
_MOST_MAPS_BYTES: Final = 4 << 20


@dataclass(frozen=True)
class Samplers:
    """The programs that sample, None where they are not used, and whether reading the memory of another user's process takes a capability."""

    py_spy: str | None
    perf: str | None
    keeps: tuple[Capability, ...]


def samplers(name: str, *, is_python: bool, is_musl: bool) -> Samplers:
    """Return what samples the stacks of a program. Raises CannotObserve."""
    keeps = _permission()
    if is_musl:
        raise CannotObserve(MUSL.format(name=name))
    py_spy = find_py_spy()
    if is_python:
        if py_spy is None:
            raise CannotObserve(NO_PY_SPY)
        return Samplers(py_spy, None, keeps)
    perf = find_perf()
    if perf is None:
        raise CannotObserve(NO_PERF)
    if not held() >> Capability.SYS_ADMIN & 1:
        raise CannotObserve(f"--stacks of a program that is not Python needs root, for perf: {SUDO} run --stacks …")
    return Samplers(py_spy, perf, keeps)


def _permission() -> tuple[Capability, ...]:
    """Return the capability that reading memory takes. Raises CannotObserve if it is not there."""
    try:
        scope = int(YAMA.read_text())
    except (OSError, ValueError):  # a kernel without Yama: the same user may
        scope = 0
    if scope >= NOBODY:
        raise CannotObserve(
            f"--stacks cannot read the program's memory: {YAMA} is {scope}, which only a reboot changes"
        )
    if scope and not held() >> Capability.SYS_PTRACE & 1:
        raise CannotObserve(
            f"--stacks cannot read the program's memory: {YAMA} is {scope}; {SUDO} run --stacks …, or sudo sysctl kernel.yama.ptrace_scope=0"
        )
    return (Capability.SYS_PTRACE,) if scope else ()


def uses_musl(executable: str) -> bool:
    """Return whether a program asks for the C library musl; call it with the rights of the program's user."""
    try:
        return "/ld-musl-" in Elf(executable).interpreter()
    except (OSError, NotElf):  # a script, or not to be read: its interpreter decides
        return False


def is_python(pid: int) -> bool:
    """Return whether a process runs CPython 3: by the name of its program, or by the library that it has mapped."""
    try:
        program = str(Path(f"/proc/{pid}/exe").readlink()).removesuffix(" (deleted)")
        if _PYTHON.fullmatch(program.rpartition("/")[2]):
            return True
        with open(f"/proc/{pid}/maps", "rb") as maps:  # noqa: PTH123
            return _LIBPYTHON.search(maps.read(_MOST_MAPS_BYTES).decode(errors="replace")) is not None
    except OSError:
        return False


def execution(pid: int) -> tuple[str, int] | None:
    """Return what changes when a process executes another program: its file, and where its code begins; None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] == "Z" else (str(Path(f"/proc/{pid}/exe").readlink()), int(fields[23]))
    except (OSError, ValueError, IndexError):
        return None


def descendants(pid: int, most: int) -> Sequence[int]:
    """Return the process and those that it and they have started, as far as they are still its children."""
    family = [pid]
    for each in family:
        try:
            threads = os.listdir(f"/proc/{each}/task")  # noqa: PTH208
        except OSError:
            continue
        for thread in threads:
            try:
                children = Path(f"/proc/{each}/task/{thread}/children").read_text().split()
            except OSError:
                continue
            family.extend(int(child) for child in children if int(child) not in family)
        if len(family) > most:
            break
    return family[:most]
