"""The rung `ebpf`: every program type is loaded, attached and detached for real, nothing is concluded from versions."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cvtrace.probes.command import SUDO
from cvtrace.probes.doctor.finding import FAILED, OK, UNKNOWN, WARNING, Finding
from cvtrace.probes.ebpf import bcc, loader, uprobes
from cvtrace.probes.ebpf.probe import EbpfProbe
from cvtrace.probes.probe import CannotObserve, Scope

PROGRAM: Final = """
BPF_RINGBUF_OUTPUT(ring, 1);
int at_tracepoint(struct bpf_raw_tracepoint_args *ctx) {
  u64 word = 0;
  bpf_probe_read_kernel(&word, sizeof(word), (void *)ctx->args[0]);
  return 0;
}
int phase_enter_any(struct pt_regs *ctx) { return 0; }
int phase_exit_any(struct pt_regs *ctx) { return 0; }
int phase_enter_0(struct pt_regs *ctx) { return 0; }
int phase_exit_0(struct pt_regs *ctx) { return 0; }
"""
"""A ring, a program that reads kernel memory (which lockdown forbids), and the programs of a uprobe."""

CAPABILITIES: Final = {"CAP_SYS_ADMIN": 21, "CAP_SYS_PTRACE": 19, "CAP_PERFMON": 38, "CAP_BPF": 39}
RING_BYTES: Final = 1 << 20
"""Nothing is recorded."""
LOCKDOWN: Final = Path("/sys/kernel/security/lockdown")
BTF: Final = Path("/sys/kernel/btf/vmlinux")
BTF_MAGIC: Final = 0xEB9F
NAMES: Final = {
    "fuse.bpf.c": "fuse_tracepoints",
    "pages.bpf.c": "filemap_tracepoints",
    "sched.bpf.c": "sched_tracepoints",
}
_GROUP: Final = "ebpf"


def examine_kernel(libraries: tuple[str, ...]) -> list[Finding]:
    """Try all that the eBPF probe needs; `libraries` are the GenAI libraries a target may map."""
    findings = [_root(), _capabilities(), _tracefs(), _btf(), _lockdown()]
    module, usable = _bcc()
    findings.append(module)
    if not usable or os.geteuid() != 0:
        why = "not tried without root" if os.geteuid() != 0 else "not tried without bcc"
        names = ("programs", "recorder", "raw_syscalls", *NAMES.values(), "uprobes")
        return [*findings, *(Finding(_GROUP, name, UNKNOWN, why) for name in names), _library(None, libraries)]
    with _silence():
        try:
            bpf = bcc.compile_program(PROGRAM)
            program = bpf.load_func(b"at_tracepoint", bcc.load().BPF.RAW_TRACEPOINT)
        except Exception as refusal:  # bcc raises plain Exception for everything
            first = str(refusal).splitlines()[0] if str(refusal) else type(refusal).__name__
            return [*findings, _refused(first), _library(None, libraries)]
        findings.append(Finding(_GROUP, "programs", OK, "BPF programs load, with a ring, and may read kernel memory"))
        findings.append(_recorder())
        findings += _tracepoints(bpf, program)
        findings.append(_uprobes(bpf))
        findings.append(_library(bpf, libraries))
        bpf.cleanup()
    return findings


def _root() -> Finding:
    if os.geteuid() == 0:
        return Finding(_GROUP, "root", OK, "runs as root")
    sentence = "not root: single reads, fetches and page faults are not seen"
    return Finding(_GROUP, "root", FAILED, sentence, f"{SUDO} run …")


def _capabilities() -> Finding:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return Finding(_GROUP, "capabilities", UNKNOWN, "this system does not say")
    have = int(status.partition("CapEff:")[2].split()[0], 16)
    missing = [name for name, bit in CAPABILITIES.items() if not have >> bit & 1]
    if not missing:
        return Finding(_GROUP, "capabilities", OK, "all needed capabilities are there")
    mend = f"{SUDO} run …; in a container: --privileged, or --cap-add of these"
    return Finding(_GROUP, "capabilities", FAILED, f"missing: {', '.join(missing)}", mend)


def _tracefs() -> Finding:
    try:
        return Finding(_GROUP, "tracefs", OK, f"mounted at {loader.tracefs()}")
    except (CannotObserve, OSError):
        if os.geteuid() != 0:
            return Finding(_GROUP, "tracefs", UNKNOWN, "only root can read it")
        mend = "mount -t tracefs tracefs /sys/kernel/tracing"
        return Finding(_GROUP, "tracefs", FAILED, "not mounted: there are no tracepoints", mend)


def _btf() -> Finding:
    try:
        with BTF.open("rb") as file:
            magic = int.from_bytes(file.read(2), "little")
    except OSError:
        magic = 0
    if magic == BTF_MAGIC:
        return Finding(_GROUP, "btf", OK, "the kernel has type information (BTF)")
    return Finding(_GROUP, "btf", WARNING, "the kernel has no type information (CONFIG_DEBUG_INFO_BTF)")


def _lockdown() -> Finding:
    try:
        text = LOCKDOWN.read_text()
    except OSError:
        return Finding(_GROUP, "lockdown", OK, "the kernel reports none")
    mode = text.partition("[")[2].partition("]")[0]
    if mode == "confidentiality":
        sentence = "mode confidentiality: programs may not read kernel memory"
        return Finding(_GROUP, "lockdown", FAILED, sentence, "boot with lockdown=integrity, or without Secure Boot")
    return Finding(_GROUP, "lockdown", OK, f"mode {mode or 'none'}")


def _bcc() -> tuple[Finding, bool]:
    try:
        module = bcc.load()
    except CannotObserve as refusal:
        sentence, _, mend = str(refusal).rpartition(": install it with ")
        return Finding(_GROUP, "bcc", FAILED, sentence or str(refusal), mend.replace("`", "") or None), False
    return Finding(_GROUP, "bcc", OK, f"imported from {Path(module.__file__ or '?').parent}"), True


def _refused(reason: str) -> Finding:
    sentence = f"the kernel or bcc refused a BPF program: {reason}"
    return Finding(
        _GROUP, "programs", FAILED, sentence, "sysctl kernel.unprivileged_bpf_disabled; check seccomp and lockdown"
    )


def _recorder() -> Finding:
    """Start and stop the recorder itself: the verifier may refuse its programs where it accepts a small one."""
    probe = EbpfProbe(RING_BYTES)
    try:
        probe.start(Scope(daemons=(), devices=()))
    except Exception as refusal:  # bcc raises plain Exception for everything
        first = (str(refusal).splitlines() or [type(refusal).__name__])[0]
        sentence = f"this kernel or compiler refuses the programs that record: {first}"
        mend = "report it with the output of `cvtrace run --probes ebpf …`; until then --probes strace works"
        return Finding(_GROUP, "recorder", FAILED, sentence, mend)
    probe.stop()
    return Finding(_GROUP, "recorder", OK, "the programs that record load and attach")


def _tracepoints(bpf: Any, program: Any) -> list[Finding]:
    groups: list[tuple[str, tuple[str, ...], str]] = [
        ("raw_syscalls", loader.BASE, "system calls are not seen: `--probes strace` does")
    ]
    groups += [(NAMES.get(rung.program, rung.program), rung.tracepoints, rung.hides) for rung in loader.RUNGS]
    findings = []
    for name, tracepoints, hides in groups:
        refused = [each for each in tracepoints if not _attaches(bpf, program, each.partition("/")[2])]
        if refused:
            findings.append(Finding(_GROUP, name, FAILED, f"{', '.join(refused)} cannot be attached to; {hides}"))
        else:
            findings.append(Finding(_GROUP, name, OK, f"attached to all {len(tracepoints)}"))
    return findings


def _attaches(bpf: Any, program: Any, tracepoint: str) -> bool:
    try:
        bpf.attach_raw_tracepoint(tp=tracepoint.encode(), fn_name=program.name)
        bpf.detach_raw_tracepoint(tp=tracepoint.encode())
    except Exception:  # bcc raises plain Exception for everything
        return False
    return True


def _uprobes(bpf: Any) -> Finding:
    """Attach to a function of the C library, which every process has."""
    try:
        address = bcc.load().BPF._check_path_symbol(b"c", b"getppid", None, 0)
        _attach_and_detach(bpf, os.fsdecode(address[0]), address[1])
    except Exception as refusal:
        first = (str(refusal).splitlines() or ["?"])[0]
        sentence = f"refused ({first}): load, prefill and tokens are marked by an import hook, in Python only"
        return Finding(_GROUP, "uprobes", FAILED, sentence)
    return Finding(_GROUP, "uprobes", OK, "attached to a function of the C library and detached")


def _library(bpf: Any, libraries: tuple[str, ...]) -> Finding:
    name = "genai_library"
    if not libraries:
        sentence = (
            "no libonnxruntime-genai in the active environment: phases of another one are marked by an import hook"
        )
        return Finding(
            _GROUP, name, WARNING, sentence, "pip install onnxruntime-genai, or cvtrace doctor --python PATH"
        )
    if bpf is None:
        return Finding(_GROUP, name, UNKNOWN, f"{libraries[0]} found; its functions were not tried")
    functions = _functions(libraries[0])
    if len(functions) < 2:
        sentence = f"{libraries[0]} exports no OgaGenerator_GenerateNextToken: an import hook marks phases"
        return Finding(_GROUP, name, WARNING, sentence, "pip install -U onnxruntime-genai (0.7 and newer export it)")
    try:
        _attach_and_detach(bpf, libraries[0], functions[1])
    except Exception as refusal:
        return Finding(_GROUP, name, FAILED, f"{libraries[0]}: {(str(refusal).splitlines() or ['?'])[0]}")
    return Finding(_GROUP, name, OK, f"attached to {Path(libraries[0]).name} and detached")


def _functions(library: str) -> dict[int, int]:
    try:
        return uprobes.functions(library, ["OgaCreateModel", "OgaGenerator_GenerateNextToken"])
    except OSError:
        return {}


def _attach_and_detach(bpf: Any, library: str, offset: int) -> None:
    links = uprobes.attach(bpf, library, {0: offset})
    for link in links:
        os.close(link)
    if not links:  # perf events
        path = os.fsencode(library)
        bpf.detach_uprobe(name=path, addr=offset)
        bpf.detach_uretprobe(name=path, addr=offset)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep what bcc and LLVM write to standard error to themselves."""
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)
