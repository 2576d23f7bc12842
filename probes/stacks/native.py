"""Frames of C, C++ and other compiled code: perf copies registers and stack whenever a thread blocks, and unwinds them afterwards.

Unwinding goes by the tables for exceptions (DWARF), which compilers write by default; frame pointers, by which the kernel itself could walk, are
left out of most libraries. A copy takes the kernel some microseconds, and the thread is not stopped for it.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import IO, Final

from cvtrace.probes.stacks.executed import without_former_mappings
from cvtrace.probes.stacks.frames import LONGEST_FILE, LONGEST_FUNCTION, Frame, Samples, safe_frame
from cvtrace.probes.stacks.process import Identity, end, start

EVENT: Final = "context-switches"
"""Not the tracepoint sched_switch: while a BPF program is attached to that, the kernel keeps it from perf (perf_trace_run_bpf_submit)."""
STACK_BYTES: Final = 8192
"""Of the stack that is copied, from its top; deeper frames are not seen."""
MOST_BYTES: Final = 1 << 30
PATIENCE_S: Final = 10.0
UNWIND_S: Final = 120.0
READY_S: Final = 20.0

_SAMPLE: Final = re.compile(r"\s*(-?\d+)/(-?\d+)\s+(\d+)\.(\d{9}):")
_FRAME: Final = re.compile(r"\t\s*([0-9a-f]+) (.*)$")
_SOURCE: Final = re.compile(r"  (\S.*?):(\d+)( \(inlined\))?$")
_OBJECT: Final = re.compile(r" \(([^()]*)\)$")
_INLINED: Final = " (inlined)"
_LONGEST_LINE: Final = 2 * (LONGEST_FILE + LONGEST_FUNCTION)


def find_perf() -> str | None:
    """Return where perf is."""
    return shutil.which("perf")


@dataclass
class NativeSampler:
    """Records the stacks at the waits of a process, and of those that it starts, from `begin` until `stop`."""

    program: str
    pid: int
    identity: Identity
    problem: str = ""
    """Why there are no stacks, or not all."""
    _process: subprocess.Popen[bytes] | None = None
    _control: int = -1
    _recorded: IO[bytes] | None = field(default=None, repr=False)

    def begin(self) -> None:
        """Start perf, and return when it records. Raises OSError with the message of perf."""
        control, self._control = os.pipe()  # perf records for as long as this end is open
        acknowledged, by_perf = os.pipe()
        self._recorded = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it has been unwound
        argv = [self.program, "record", "--quiet", "--output", "-", "--clockid", "CLOCK_MONOTONIC"]
        argv += ["--event", EVENT, "--count", "1", "--pid", str(self.pid)]
        argv += ["--call-graph", f"dwarf,{STACK_BYTES}", "--user-callchains", "--mmap-pages", "16M"]
        argv += ["--no-buildid", "--no-buildid-cache", "--delay=-1", f"--control=fd:{control},{by_perf}"]
        with tempfile.TemporaryFile() as messages:
            try:
                self._process = start(
                    argv, identity=None, most_bytes=MOST_BYTES, stdout=self._recorded, stderr=messages,
                    pass_fds=(control, by_perf),
                )  # fmt: skip
            finally:
                os.close(control)
                os.close(by_perf)
            os.write(self._control, b"enable\n")
            is_ready = select.select([acknowledged], [], [], READY_S)[0] and os.read(acknowledged, 16)
            os.close(acknowledged)
            if not is_ready:
                self.stop()
                messages.seek(0)
                words = messages.read(2000).decode(errors="replace").split("\n")
                raise OSError(next((line.strip() for line in words if line.strip()), "it does not start"))

    def stop(self) -> None:
        """End the recording."""
        if self._process is not None:
            end(self._process, signal.SIGINT, PATIENCE_S)
            os.close(self._control)
            self._process = None

    def add_to(self, samples: Samples) -> None:
        """Unwind what was recorded, as the target's user: the tables are read from files that are the target's."""
        if self._recorded is None:
            return
        without_former_mappings(self._recorded)
        perf = [
            self.program,
            "script",
            "--input",
            "-",
            "--ns",
            "--full-source-path",
            "--max-stack",
            "64",
            "--no-inline",
        ]
        with self._recorded, tempfile.TemporaryFile() as unwound:
            for fields in ("pid,tid,time,ip,sym,dso,srcline", "pid,tid,time,ip,sym,dso"):
                self._recorded.seek(0)
                unwound.truncate(0)
                unwound.seek(0)
                process = start(
                    [*perf, "--fields", fields], identity=self.identity, most_bytes=MOST_BYTES,
                    stdin=self._recorded, stdout=unwound,
                )  # fmt: skip
                try:
                    process.wait(UNWIND_S)
                    break
                except subprocess.TimeoutExpired:
                    end(process, signal.SIGKILL, 1.0)
                    self.problem = f"lines were not looked up, as this took longer than {UNWIND_S:.0f} s"
            unwound.seek(0)
            add_script(
                (line.decode("utf-8", "replace") for line in iter(lambda: unwound.readline(_LONGEST_LINE), b"")),
                samples,
            )
        self._recorded = None


def add_script(lines: Iterable[str], samples: Samples) -> None:
    """Add the stacks that `perf script` prints: a head with thread and time, then the frames, the innermost first."""
    head: re.Match[str] | None = None
    block: list[str] = []
    for line in chain(lines, "\n"):
        text = line.rstrip("\n")
        if text:
            if head is None:
                head = _SAMPLE.match(text)
            else:
                block.append(text)
            continue
        if head is not None:
            frames = _frames(block)
            if frames:
                samples.add(int(head[3]) * 1_000_000_000 + int(head[4]), 0, int(head[2]), frames)
        head, block = None, []


def _frames(block: list[str]) -> list[Frame]:
    """Return the frames, outermost first. A function that was inlined is in the library of the one around it."""
    parsed: list[tuple[str, str, int, str]] = []
    for text in block:
        frame = _FRAME.match(text)
        if frame:
            name = frame[2].removesuffix(_INLINED)
            library = _OBJECT.search(name)
            parsed.append((name[: library.start()] if library else name, "", 0, library[1] if library else ""))
        elif parsed and (source := _SOURCE.match(text)):
            function, _, _, library_name = parsed[-1]
            if source[1].strip("?"):
                parsed[-1] = (function, source[1], int(source[2][:9]), library_name)
    frames, around = [], ""
    for function, file, line, library_name in reversed(parsed):
        around = library_name or around
        frames.append(safe_frame(function, file, line, around))
    return frames
