"""Which functions of the kernel tell what its tracepoints do not, and how BPF programs are put on them.

Names, arguments and members differ between kernels: a function counts only if ftrace lists it and BTF shows the argument
wanted, and offsets of members are the running kernel's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cvtrace.probes.ebpf import btf


@dataclass(frozen=True)
class Hook:
    """A function of the kernel, and the function of our program that is called at its entry or return."""

    functions: tuple[str, ...]
    """Its names in different kernels, newest first."""
    argument: str | int
    """Struct a pointer to which is the argument of interest, or the argument's number where BTF does not tell."""
    entry: str
    leave: str = ""
    """"" where only the entry is of interest."""


@dataclass(frozen=True)
class Kprobes:
    """A program for kernels without the tracepoints, and all that it needs."""

    program: str
    module: str
    hooks: tuple[Hook, ...]
    members: tuple[tuple[str, str], ...]
    """Structs and members whose offsets BTF tells."""
    fixed: tuple[tuple[str, str, int], ...] = ()
    """Those it does not, and their offsets."""
    raw: tuple[tuple[str, str], ...] = ()
    """Tracepoints instead of functions, and the function of our program that gets their first argument."""
    since: tuple[int, int] = (0, 0)
    before: tuple[int, int] = (1000, 0)
    """The kernels for which this is meant."""

    def is_meant_for(self, version: tuple[int, int]) -> bool:
        return self.since <= version < self.before


@dataclass(frozen=True)
class Attachment:
    """Function of the kernel, program to run, and whether at its return."""

    function: str
    program: str
    at_return: bool


@dataclass(frozen=True)
class Chosen:
    """Text that goes before and after the program, and what to attach when it is loaded."""

    defines: tuple[str, ...]
    programs: tuple[str, ...]
    attachments: tuple[Attachment, ...]


FUSE_MEMBERS: Final = (
    ("fuse_req", "in.h"),
    ("fuse_req", "out.h.error"),
    ("fuse_req", "fm"),
    ("fuse_mount", "fc"),
    ("fuse_conn", "dev"),
)

FUSE: Final = Kprobes(
    "kprobes_fuse.bpf.c",
    "fuse",
    (
        Hook(("fuse_send_one", "queue_request_and_unlock"), "fuse_req", "fuse_request_queued"),
        Hook(("fuse_request_end",), "fuse_req", "fuse_request_done"),
    ),
    FUSE_MEMBERS,
)

FUSE_TRACED: Final = Kprobes(
    "kprobes_fuse.bpf.c",
    "fuse",
    (),
    FUSE_MEMBERS,
    raw=(("fuse_request_send", "fuse_request_queued"), ("fuse_request_end", "fuse_request_done")),
    before=(6, 18),
)
"""The tracepoints, read otherwise: on 6.12 fuse_request_send comes before the request has its unique number, and tells 0.

On 6.18 it tells the number; which of the kernels between are like which has not been looked at.
"""

FUSE_WITHOUT_BTF: Final = Kprobes(
    "kprobes_fuse.bpf.c",
    "vmlinux",
    (
        Hook(("queue_request_and_unlock",), 2, "fuse_request_queued"),
        Hook(("fuse_request_end",), 1, "fuse_request_done"),
    ),
    (("super_block", "s_dev"),),
    (
        ("fuse_req", "in.h", 56),
        ("fuse_req", "out.h.error", 100),
        ("fuse_req", "fm", 136),
        ("fuse_mount", "sb", 16),
    ),
    since=(5, 10),
    before=(5, 11),
)
"""Before 5.11 modules have no BTF, and fuse is a module in most kernels. Found out on Debian's 5.10."""

PAGES: Final = Kprobes(
    "kprobes_pages.bpf.c",
    "vmlinux",
    (
        Hook(("filemap_fault",), "vm_fault", "fault_begins", "fault_ends"),
        Hook(("filemap_map_pages",), "vm_fault", "fault_around_begins", "fault_around_ends"),
        Hook(("generic_file_read_iter",), "kiocb", "page_read_begins", "page_read_ends"),
    ),
    (
        ("vm_fault", "vma"),
        ("vm_fault", "pgoff"),
        ("vm_fault", "pte"),
        ("vm_area_struct", "vm_file"),
        ("file", "f_mapping"),
        ("address_space", "host"),
        ("inode", "i_sb"),
        ("inode", "i_ino"),
        ("super_block", "s_dev"),
        ("kiocb", "ki_filp"),
        ("kiocb", "ki_pos"),
    ),
)


class NoKprobes(Exception):
    """Why there can be none; a part of a sentence."""


def traceable(tracefs: Path) -> frozenset[str]:
    """Return the functions of the kernel that can be probed. Raises NoKprobes where it has none."""
    if not (tracefs / "kprobe_events").exists():
        raise NoKprobes("it has no kprobes")
    try:
        lines = (tracefs / "available_filter_functions").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError as error:
        raise NoKprobes(f"it does not list its functions ({error.strerror})") from error
    return frozenset(line.partition(" ")[0] for line in lines)


def release() -> tuple[int, int]:
    """Return version and patch level of the running kernel; distributions may have added to it what is newer."""
    first, second = re.findall(r"\d+", os.uname().release)[:2]
    return int(first), int(second)


def choose(kprobes: Kprobes, functions: frozenset[str], folder: Path) -> Chosen:
    """Return what puts `kprobes` on this kernel, whose BTF is in `folder`.

    Raises NoKprobes if it lacks a function, an argument or a member.
    """
    if not kprobes.is_meant_for(release()):
        raise NoKprobes("it is another kernel")
    programs = [
        f"RAW_TRACEPOINT_PROBE({tracepoint}) {{ return {entry}(ctx, ctx->args[0]); }}\n"
        for tracepoint, entry in kprobes.raw
    ]
    attachments: list[Attachment] = []
    try:
        types = btf.load(kprobes.module, folder)
        defines = [
            f"#define OFFSET_{name}_{path.replace('.', '_')} {types.offset(name, path)}"
            for name, path in kprobes.members
        ]
        defines += [f"#define OFFSET_{name}_{path.replace('.', '_')} {at}" for name, path, at in kprobes.fixed]
        for hook in kprobes.hooks:
            function = next((name for name in hook.functions if name in functions), None)
            if function is None:
                raise NoKprobes(f"its function {hook.functions[-1]} cannot be probed")
            number = hook.argument
            if isinstance(number, str):
                number = types.parameter(function, number)
            programs.append(
                f"int kprobe_{hook.entry}(struct pt_regs *ctx) {{ return {hook.entry}(ctx, PT_REGS_PARM{number}(ctx)); }}\n"
            )
            attachments.append(Attachment(function, f"kprobe_{hook.entry}", at_return=False))
            if hook.leave:
                defines.append(f"#define RETURNS_{function} {int(types.returns(function))}")
                programs.append(f"int kprobe_{hook.leave}(struct pt_regs *ctx) {{ return {hook.leave}(ctx); }}\n")
                attachments.append(Attachment(function, f"kprobe_{hook.leave}", at_return=True))
    except btf.NotInBtf as reason:
        raise NoKprobes(str(reason)) from reason
    return Chosen(tuple(defines), tuple(programs), tuple(attachments))


def attach(bpf: Any, attachments: Iterable[Attachment]) -> None:
    """Attach the programs of `bpf`, returns before entries: what is seen to enter is then seen to leave.

    The kernel keeps room for as many threads inside a function as it has CPUs, twice, and 10 at least; a return that found no
    room is noticed by the programs. More room could be had in tracefs only, where a recorder that is killed leaves it behind.
    """
    for attachment in sorted(attachments, key=lambda one: not one.at_return):
        attach_one = bpf.attach_kretprobe if attachment.at_return else bpf.attach_kprobe
        attach_one(event=attachment.function.encode(), fn_name=attachment.program.encode())
