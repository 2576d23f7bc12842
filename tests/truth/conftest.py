"""A lab for the truth tests, and runs of the example script in it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE, example, succeed
from laboratory import Laboratory, Truth

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.lab.origin import AccessEntry, control, read_access_log
from cvtrace.lab.stack import Options, Stack, drop_mount_cache, temporary, warm, wipe_client_cache
from cvtrace.tracer.store import read_trace

TOKENS = 16
TABLE = pytest.StashKey[list[Truth]]()


@dataclass
class Bench:
    """A lab that is up, and where traces go."""

    stack: Stack
    folder: Path
    runs: int = 0

    def cold(self) -> None:
        """Nothing is cached: not by the client, not by the kernel."""
        self.stack = wipe_client_cache(self.stack)

    def warm(self) -> None:
        """All is in the client's cache, nothing in the kernel's."""
        warm(self.stack)
        self.drop()

    def hot(self) -> None:
        """All is in the kernel's page cache, too."""
        self.drop()
        warm(self.stack)

    def drop(self) -> None:
        """Drop what the kernel has of the mount and of the client's cache."""
        drop_mount_cache(self.stack.mountpoint, self.stack.workspace)

    def inject(self, *injections: dict[str, object]) -> None:
        """Make the origin slow or wrong from now on."""
        control(self.stack.control, {"command": "inject", "injections": list(injections)})

    def log(self) -> list[AccessEntry]:
        """Return what the origin served so far."""
        control(self.stack.control, {"command": "wait_idle"})
        return read_access_log(self.stack.access_log)

    def argv(self, model: Path, tokens: int = TOKENS) -> list[str]:
        """Return the command line that asks the model for so many tokens."""
        return example(model, tokens)

    def command(self, probes: str, trace: Path, argv: Sequence[str] | None = None) -> list[str]:
        """Return the command line that records `argv` (default: the example) into `trace`."""
        options = ["--no-summary", "--probes", probes, "-o", str(trace), "--mount", str(self.stack.mountpoint)]
        return [*CVTRACE, "run", *options, "--python", sys.executable, "--", *(argv or self.argv(self.stack.model))]

    def run(self, probes: str = "ebpf", *, argv: Sequence[str] | None = None) -> Report:
        """Run the example under `cvtrace run`; return its analysis."""
        self.runs += 1
        trace = self.folder / f"trace-{self.runs}"
        succeed(self.command(probes, trace, argv))
        meta = json.loads((trace / "meta.json").read_text())
        assert meta["lost"] == {}
        return analyse(read_trace(trace))


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    if os.geteuid() != 0:
        pytest.skip("truth tests mount a file system and load BPF programs: they need root")
    options = Options(size_bytes=60_000_000, mapped_too=True, client="lab", chunk_bytes=4 << 20)
    with temporary(options) as stack:
        yield Bench(stack, tmp_path_factory.mktemp("traces"))


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> list[Truth]:
    """What is printed at the end."""
    return pytestconfig.stash.setdefault(TABLE, [])


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory: pytest.TempPathFactory, table: list[Truth]) -> Iterator[Laboratory]:
    if os.geteuid() != 0:
        pytest.skip("truth tests mount a file system and load BPF programs: they need root")
    with temporary(Options(size_bytes=4_000_000, client="lab")) as stack:
        yield Laboratory.set_up(stack, tmp_path_factory.mktemp("acts"), table)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was injected and what was found, and keep it where `table.py` asks for it."""
    table = config.stash.get(TABLE, [])
    if table:
        terminalreporter.section("injected and found")
        for line in table:
            terminalreporter.line(
                f"{line.delay:<58} {line.class_:<17} {line.injected_s:8.3f} s {line.found_s:8.3f} s {line.error:+7.1%}"
            )
    if table and "CVTRACE_TRUTH_TABLE" in os.environ:
        Path(os.environ["CVTRACE_TRUTH_TABLE"]).write_text(json.dumps([asdict(line) for line in table]))
