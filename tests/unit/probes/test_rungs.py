"""Programs chosen for what the kernel offers: tracepoints, else kprobes, else a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from btf_writer import Writer

from cvtrace.probes.ebpf.kprobes import Attachment
from cvtrace.probes.ebpf.loader import RUNGS, Rung, climb

FUNCTIONS = "queue_request_and_unlock [fuse]\nfuse_request_end [fuse]\nfilemap_fault\nfilemap_map_pages\ngeneric_file_read_iter\n"


def rung(program: str) -> Rung:
    return next(rung for rung in RUNGS if rung.program == program)


def tracefs(folder: Path, *tracepoints: str, functions: str | None = FUNCTIONS) -> Path:
    """Return a folder with what tracefs shows of a kernel; without `functions` one that has no kprobes."""
    for name in tracepoints:
        (folder / "events" / name).mkdir(parents=True)
        (folder / "events" / name / "format").touch()
    if functions is not None:
        (folder / "kprobe_events").touch()
        (folder / "available_filter_functions").write_text(functions)
    return folder


def btf(folder: Path, *, module: bool = True, void: bool = False) -> Path:
    """Return a folder with the types of a kernel, those of fuse in its module."""
    kernel = Writer()
    number = kernel.integer("u64", 8)
    for name, members in {
        "vm_fault": ("vma", "pgoff", "pte"),
        "vm_area_struct": ("vm_file",),
        "file": ("f_mapping",),
        "address_space": ("host",),
        "inode": ("i_sb", "i_ino"),
        "super_block": ("s_dev",),
        "kiocb": ("ki_filp", "ki_pos"),
    }.items():
        kernel.struct(name, 8 * len(members), [(member, number, 8 * at) for at, member in enumerate(members)])
    fault, read = (kernel.pointer(kernel.number(name)) for name in ("vm_fault", "kiocb"))
    kernel.function("filemap_fault", number, [fault])
    kernel.function("filemap_map_pages", 0 if void else number, [fault, number, number])
    kernel.function("generic_file_read_iter", number, [read, number])
    fuse = Writer(kernel)
    head = fuse.struct("fuse_in_header", 16, [("unique", number, 8)])
    answer = fuse.struct("fuse_out_header", 16, [("error", number, 4)])
    inside, outside = fuse.struct("", 16, [("h", head, 0)]), fuse.struct("", 16, [("h", answer, 0)])
    request = fuse.struct("fuse_req", 72, [("in", inside, 32), ("out", outside, 48), ("fm", number, 64)])
    fuse.struct("fuse_mount", 8, [("fc", number, 0)])
    fuse.struct("fuse_conn", 24, [("dev", number, 16)])
    fuse.function("queue_request_and_unlock", 0, [number, fuse.pointer(request)])
    fuse.function("fuse_request_end", 0, [fuse.pointer(request)])
    (folder / "vmlinux").write_bytes(kernel.data())
    if module:
        (folder / "fuse").write_bytes(fuse.data())
    return folder


def test_tracepoints_are_used_where_they_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvtrace.probes.ebpf.kprobes.release", lambda: (6, 18))
    for rung in RUNGS:
        step = climb(rung, tracefs(tmp_path / rung.program, *rung.tracepoints), tmp_path)

        assert step.programs == (*rung.shared, rung.program)
        assert step.kprobes is None
        assert step.missing == ""


def test_requests_are_known_by_their_address_where_tracepoints_come_before_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a kernel whose fuse_request_send tells 0 for the unique number
    monkeypatch.setattr("cvtrace.probes.ebpf.kprobes.release", lambda: (6, 12))
    root = tracefs(tmp_path, *rung("fuse.bpf.c").tracepoints, functions=None)

    # WHEN it tells its types, and when it does not
    with_types, without = (
        climb(rung("fuse.bpf.c"), root, btf(tmp_path)),
        climb(rung("fuse.bpf.c"), root, tmp_path / "no"),
    )

    # THEN the request itself is read; numbers that are 0 are not taken for an observation
    assert with_types.programs == ("kprobes.h", "fuse_requests.h", "kprobes_fuse.bpf.c")
    assert with_types.kprobes is not None
    assert with_types.kprobes.attachments == ()
    assert with_types.kprobes.programs == (
        "RAW_TRACEPOINT_PROBE(fuse_request_send) { return fuse_request_queued(ctx, ctx->args[0]); }\n",
        "RAW_TRACEPOINT_PROBE(fuse_request_end) { return fuse_request_done(ctx, ctx->args[0]); }\n",
    )
    assert without.programs == ()
    assert "the kernel does not tell its types" in without.missing


def test_kprobes_are_used_where_tracepoints_are_missing(tmp_path: Path) -> None:
    # GIVEN a kernel with kprobes, and one of the two tracepoints
    root = tracefs(tmp_path, "fuse/fuse_request_send")

    # WHEN
    step = climb(rung("fuse.bpf.c"), root, btf(tmp_path))

    # THEN the program gets this kernel's offsets, and the second argument where the request is the second
    assert step.programs == ("kprobes.h", "fuse_requests.h", "kprobes_fuse.bpf.c")
    assert step.missing == ""
    assert step.kprobes is not None
    assert "#define OFFSET_fuse_req_in_h 32" in step.kprobes.defines
    assert "#define OFFSET_fuse_req_out_h_error 52" in step.kprobes.defines
    assert "#define OFFSET_fuse_conn_dev 16" in step.kprobes.defines
    assert step.kprobes.attachments == (
        Attachment("queue_request_and_unlock", "kprobe_fuse_request_queued", False),
        Attachment("fuse_request_end", "kprobe_fuse_request_done", False),
    )
    assert "fuse_request_queued(ctx, PT_REGS_PARM2(ctx))" in step.kprobes.programs[0]
    assert "fuse_request_done(ctx, PT_REGS_PARM1(ctx))" in step.kprobes.programs[1]


def test_faults_are_observed_at_entry_and_return(tmp_path: Path) -> None:
    step = climb(rung("pages.bpf.c"), tracefs(tmp_path), btf(tmp_path))

    assert step.kprobes is not None
    assert {(probe.function, probe.at_return) for probe in step.kprobes.attachments} == {
        (name, at_return)
        for name in ("filemap_fault", "filemap_map_pages", "generic_file_read_iter")
        for at_return in (False, True)
    }


@pytest.mark.parametrize("void", [False, True])
def test_the_program_learns_whether_a_function_returns_a_value(tmp_path: Path, void: bool) -> None:
    # GIVEN kernels since and before 5.12
    step = climb(rung("pages.bpf.c"), tracefs(tmp_path), btf(tmp_path, void=void))

    assert step.kprobes is not None
    assert f"#define RETURNS_filemap_map_pages {int(not void)}" in step.kprobes.defines


@pytest.mark.parametrize(
    "functions, module, reason",
    [
        (None, True, "it has no kprobes"),
        ("filemap_fault\n", True, "its function queue_request_and_unlock cannot be probed"),
        (FUNCTIONS.replace("unlock", "unlock.isra.0"), True, "its function queue_request_and_unlock cannot be probed"),
        (FUNCTIONS, False, "struct fuse_req is not in the kernel's BTF"),
    ],
)
def test_a_missing_rung_is_reported_with_the_reason(
    tmp_path: Path, functions: str | None, module: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a kernel too old for what is known of those whose modules do not tell their types
    monkeypatch.setattr("cvtrace.probes.ebpf.kprobes.release", lambda: (4, 18))

    step = climb(rung("fuse.bpf.c"), tracefs(tmp_path, functions=functions), btf(tmp_path, module=module))

    assert step.programs == ()
    assert step.kprobes is None
    assert "how long a request waits for the daemon is not seen" in step.missing
    assert reason in step.missing


def test_without_module_btf_known_layouts_are_used_since_5_10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvtrace.probes.ebpf.kprobes.release", lambda: (5, 10))

    step = climb(rung("fuse.bpf.c"), tracefs(tmp_path), btf(tmp_path, module=False))

    assert step.kprobes is not None
    assert "#define OFFSET_fuse_req_in_h 56" in step.kprobes.defines
    assert "#define OFFSET_super_block_s_dev 0" in step.kprobes.defines
    assert "fuse_request_queued(ctx, PT_REGS_PARM2(ctx))" in step.kprobes.programs[0]


def test_without_kernel_btf_the_reason_is_reported(tmp_path: Path) -> None:
    step = climb(rung("fuse.bpf.c"), tracefs(tmp_path), tmp_path / "nothing")

    assert "the kernel does not tell its types" in step.missing


def test_scheduler_tracepoints_have_no_alternative(tmp_path: Path) -> None:
    step = climb(rung("sched.bpf.c"), tracefs(tmp_path), btf(tmp_path))

    assert step.programs == ()
    assert step.missing == rung("sched.bpf.c").hides
