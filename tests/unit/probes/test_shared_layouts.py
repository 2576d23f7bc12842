"""Numbers and layouts that more than one place has: C, the kernel's headers, and what runs in the target without cvtrace."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cvtrace import marking
from cvtrace.probes import wire
from cvtrace.probes.ebpf.loader import PROGRAMS
from cvtrace.probes.ebpf.records import CLIENT_FUNCTIONS, CONSTANTS, PHASE_FUNCTIONS, STRUCTS, declarations
from cvtrace.probes.ebpf.ring import record_bytes
from cvtrace.probes.events import EVENT, NO_MOUNT, TEXT, TEXT_MAX, UNFINISHED, Kind, Opcode
from cvtrace.probes.layouts import struct_format
from cvtrace.probes.phases import hook
from cvtrace.probes.phases.functions import FUNCTIONS, INDEX, USER_PHASE
from cvtrace.probes.phases.runtimes.declaration import MANY
from cvtrace.probes.portable.counts import COUNTS
from cvtrace.probes.portable.counts import INDEX as COUNT

TYPES = PROGRAMS.parent / "include" / "include"
KERNEL = {"fuse_in": "fuse_in_header", "fuse_read_in": "fuse_read_in", "fuse_out": "fuse_out_header"}
"""Structs of linux/fuse.h; its first and last members have had other names."""
STATX_SINCE = 39
"""Minor version of the FUSE protocol that has the opcode STATX."""
NAMED_OTHERWISE = {"pad"}


def compile_c(source: str, folder: Path, *options: str) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    (folder / "layouts.c").write_text(source)
    command = [compiler, "-std=gnu11", "-fsyntax-only", *options, str(folder / "layouts.c")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def asserts(struct: str, record: np.dtype[Any], skipped: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield C that compiles only if a struct has the size of the record, and each member the place and size of its field."""
    yield f'_Static_assert(sizeof(struct {struct}) == {record.itemsize}, "size of {struct}");'
    for field, (type_, offset, *_) in (record.fields or {}).items():
        if field not in skipped:
            member = f"(struct {struct} *)0)->{field}"
            yield f'_Static_assert(__builtin_offsetof(struct {struct}, {field}) == {offset}, "{struct}.{field}");'
            yield f'_Static_assert(sizeof(({member}) == {type_.itemsize}, "size of {struct}.{field}");'


def test_structs_of_the_programs_are_laid_out_as_the_recorder_reads_them(tmp_path: Path) -> None:
    lines = [line for name, record in STRUCTS.items() for line in asserts(name, record)]
    lines += [
        f'_Static_assert({name} == {value}{"ULL" * (value >= 1 << 31)}, "{name}");' for name, value in CONSTANTS.items()
    ]
    compile_c("\n".join(["#include <linux/types.h>", declarations(), *lines]), tmp_path, f"-I{TYPES}", "-nostdinc")


def test_a_different_struct_layout_is_detected(tmp_path: Path) -> None:
    wrong = np.dtype([("len", "<u4"), ("unique", "<u8"), ("error", "<i4")])
    lines = [declarations(), *asserts("fuse_out", wrong)]
    with pytest.raises(AssertionError, match="fuse_out"):
        compile_c("\n".join(["#include <linux/types.h>", *lines]), tmp_path, f"-I{TYPES}", "-nostdinc")


def test_fuse_constants_are_those_of_the_kernel_header(tmp_path: Path) -> None:
    if not Path("/usr/include/linux/fuse.h").exists():
        pytest.skip("no linux/fuse.h")
    lines = [
        line for name, kernel in KERNEL.items() for line in asserts(kernel, STRUCTS[name], frozenset(NAMED_OTHERWISE))
    ]
    for opcode in Opcode:
        line = f'_Static_assert(FUSE_{opcode.name} == {int(opcode)}, "{opcode.name}");'
        newer = f"#if FUSE_KERNEL_MINOR_VERSION >= {STATX_SINCE}\n{line}\n#endif"
        lines.append(newer if opcode is Opcode.STATX else line)
    compile_c("\n".join(["#include <linux/fuse.h>", *lines]), tmp_path)


def test_no_program_defines_what_is_shared() -> None:
    for path in sorted(PROGRAMS.iterdir()):
        text = path.read_text()
        assert set(re.findall(r"^ *# *define +(\w+)", text, re.MULTILINE)).isdisjoint(CONSTANTS), path.name
        assert set(re.findall(r"^struct (\w+) \{", text, re.MULTILINE)).isdisjoint(STRUCTS), path.name


def test_every_shared_name_is_used_by_a_program() -> None:
    text = "\n".join(path.read_text() for path in PROGRAMS.iterdir())
    words = set(re.findall(r"\w+", text))
    made = ("KIND_", "OP_")  # for every member of an enumeration
    assert [name for name in CONSTANTS if not name.startswith(made) and name not in words] == []
    assert [name for name in STRUCTS if not re.search(rf"struct {name}\b", text) and name != "request_key"] == []
    assert {f"FUNCTION_{name}" for name in PHASE_FUNCTIONS} == set(re.findall(r"\bFUNCTION_\w+", text))
    assert {f"CLIENT_{name}" for name in CLIENT_FUNCTIONS} == set(re.findall(r"\bCLIENT_\w+", text))


def test_a_record_of_a_ring_has_room_for_its_header() -> None:
    assert (record_bytes(EVENT), record_bytes(TEXT)) == (64, 520)
    assert wire.FUSE_HEAD.itemsize == wire.FUSE_IN.fields["nodeid"][1]  # type: ignore[index]


SCHEMA: dict[str, object] = {
    "PHASE": int(Kind.PHASE),
    "IMPORT": int(Kind.IMPORT),
    "COUNTER": int(Kind.COUNTER),
    "NO_MOUNT": NO_MOUNT,
    "UNFINISHED": UNFINISHED,
    "TEXT_MAX": TEXT_MAX,
    "USER_PHASE": USER_PHASE,
    "FIRST_TOKEN": INDEX["cvtrace.first_token"],
    "TOKEN": INDEX["cvtrace.token"],
    "NAME": hook.NAME,
    "IMPORT_NAME": hook.IMPORT_NAME,
    "NAME_BYTES": hook.NAME_BYTES,
    "ARMED": hook.ARMED,
    "OFTEN": tuple(each.index for each in FUNCTIONS if each.phase in ("decode", "run")),
    "HITRATE": COUNT["hitrate"],
    "CPU": COUNT["process.cpu_ns"],
    "MAJOR": COUNT["process.major_faults"],
    "MINOR": COUNT["process.minor_faults"],
    "READ_BYTES": COUNT["process.read_bytes"],
    "XATTRS": tuple((count.attribute, COUNT[count.name]) for count in COUNTS if count.attribute),
    "MASK": 2**64 - 1,
    "MANY": MANY,
    "OWN_DECODE": INDEX["own.decode"],
}
"""Numbers that a trace has; modules that run in the target have copies of some."""
ITS_OWN = {
    "COROUTINE",
    "HIGH_FD",
    "WRITE_EVERY_NS",
    "TRIED_FDS",
    "EVERY_NS",
    "SHARE",
    "TALK_S",
    "MOST_BYTES",
    "MOST_DIGITS",
    "MOST",
}
"""Numbers that concern nothing but the module that has them."""


@pytest.fixture
def injected(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ModuleType]]:
    monkeypatch.syspath_prepend(str(hook.INJECT))
    names = sorted(path.stem for path in hook.INJECT.glob("*.py") if path.stem not in ("__init__", "sitecustomize"))
    yield [importlib.import_module(name) for name in names]
    for name in names:
        sys.modules.pop(name, None)


def test_every_number_of_what_runs_in_the_target_is_that_of_the_schema_or_its_own(injected: list[ModuleType]) -> None:
    copies = 0
    for module in (*injected, marking):
        for name, value in vars(module).items():
            if name.isupper() and isinstance(value, int | float | tuple) and not isinstance(value, bool):
                if name in SCHEMA:
                    assert value == SCHEMA[name], (module.__name__, name)
                    copies += 1
                else:
                    is_table = isinstance(value, tuple) and any(not isinstance(each, int) for each in value)
                    assert is_table or name in ITS_OWN, (module.__name__, name)
    assert copies > 20


def test_marks_are_packed_as_events(injected: list[ModuleType], tmp_path: Path) -> None:
    by_name = {module.__name__: module for module in injected}
    marks = marking.Marks(str(tmp_path / "marks"))
    event, cell = struct_format(EVENT), f"{struct_format(EVENT, fields=7)}{hook.NAME_BYTES}s"
    assert by_name["_cvtrace_marks"].RECORD.format == event
    assert by_name["_cvtrace_imports"].pack.__self__.format == event
    assert by_name["_cvtrace_imports"].pack_name.__self__.format == cell
    assert marks.record.__self__.format == event  # type: ignore[attr-defined]


def test_text_records_are_distinguished_from_events_by_flags_above_the_kind() -> None:
    kind_of_mark = int(re.search(r"KIND_OF_MARK (0x\w+)", (PROGRAMS / "syscalls.bpf.c").read_text())[1], 16)  # type: ignore[index]
    assert hook.NAME & kind_of_mark == Kind.PHASE
    assert hook.IMPORT_NAME & kind_of_mark == Kind.IMPORT


def test_the_three_copies_of_the_phase_helper_are_one_file() -> None:
    root = Path(__file__).parents[3]
    copies = [root / "phase" / "cvtrace_phase.py", root / "cvtrace" / "marking.py", hook.INJECT / "cvtrace_phase.py"]
    assert len({path.resolve() for path in copies}) == 1
