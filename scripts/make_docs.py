#!/usr/bin/env python3
"""`make docs`: record real runs, and write the output, the tables, the reports and the pictures of the documentation from them.

Needs root, for eBPF and for a /cvmfs of its own in a mount namespace. Every number, picture and report of a page is from the same
runs, so they cannot disagree. Reports in docs/reports are not kept in git, except cold.html.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent))

import blocks
import pictures

from cvtrace.analysis.contract.quantities import seconds
from cvtrace.lab.stack import Options, Stack, forget_pages, temporary, warm, wipe_client_cache

ROOT: Final = blocks.ROOT
REPORTS: Final = blocks.DOCS / "reports"
DEMO: Final = ROOT / "demo-out"
MOUNT: Final = Path("/cvmfs/models.cvtrace.test")
INSIDE: Final = "CVTRACE_DOCS_INSIDE"
HERE: Final = Path("/opt/cvtrace")
"""Place of the project in the reports."""
RUNS_COMPARED: Final = 3
QUESTION: Final = "What is a muon?"
TOKENS: Final = 32


def main() -> None:
    """Make everything; the order is that of the pages."""
    if os.geteuid() != 0:
        sys.exit("make docs: records with eBPF and mounts below /cvmfs: run it as root (sudo make docs)")
    if INSIDE not in os.environ:
        sys.exit(in_own_namespace())
    REPORTS.mkdir(exist_ok=True)
    texts = demo()
    with tempfile.TemporaryDirectory(prefix="cvtrace-docs-") as folder:
        texts |= answers(Path(folder))
        compare(Path(folder))
    blocks.fill(texts)
    pictures.main()
    blocks.remember()


def in_own_namespace() -> int:
    """Run this program again in a mount namespace with an empty /cvmfs, so that no other process sees the mounts.

    The project is mounted on HERE there, so that no report contains the path of this clone.
    """
    made = [folder for folder in (Path("/cvmfs"), HERE) if not folder.exists()]
    for folder in made:
        folder.mkdir(parents=True)
    prepare = f'mount -t tmpfs tmpfs /cvmfs && mount --bind {shlex.quote(str(ROOT))} {HERE} && cd {HERE} && exec "$@"'
    program = [str(HERE / ".venv" / "bin" / "python"), str(HERE / "scripts" / "make_docs.py"), *sys.argv[1:]]
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", prepare, "sh", *program]
    try:
        return subprocess.run(command, check=False, env={**os.environ, INSIDE: "1"}).returncode
    finally:
        for folder in made:
            folder.rmdir()


def cvtrace(*words: str | Path, cwd: Path = ROOT) -> str:
    """Run cvtrace; return what it printed on stdout. Raises CalledProcessError."""
    environ = {**os.environ, "VIRTUAL_ENV": sys.prefix, "ORT_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "cvtrace", *map(str, words)]
    print(f"make docs: cvtrace {shlex.join(map(str, words))}", flush=True)
    return subprocess.run(command, check=True, cwd=cwd, env=environ, stdout=subprocess.PIPE, text=True).stdout


def demo() -> dict[str, str]:
    """Run `make demo`; return its blocks, and write the reports of its runs."""
    command = [sys.executable, "examples/demo.py", "--mount", str(MOUNT)]
    result = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    table = result.stdout.partition("\nThe four runs")[2].partition("\nThe traces are")[0]
    for name in ("cold", "warm", "mapped"):
        cvtrace("report", DEMO / name, "-o", REPORTS / f"{name}.html", "--force")
    return {
        "cold-answer": blocks.console(shorter(cvtrace("report", "demo-out/cold"))),
        "cold-summary": blocks.console(cvtrace("report", "demo-out/cold")),
        "four-runs": blocks.console(f"The four runs{table}"),
    }


def shorter(summary: str) -> str:
    """Return the answer and the phases of a summary, without its advice."""
    return summary.partition("\nWhat to do")[0].rstrip()


def traced(stack: Stack, trace: Path, model: Path | None = None) -> None:
    """Record the example on the stack's model, or on another copy of it."""
    model = model or stack.model
    script = ("examples/phi3-qa.py", "-m", model, "-e", "cpu", "-g", "-p", QUESTION, "--tokens", str(TOKENS))
    cvtrace("run", "--no-summary", "-o", trace, "--mount", MOUNT, *script)


def answers(folder: Path) -> dict[str, str]:
    """Make the runs of docs/answers.md; return its blocks."""
    options = Options(mount=MOUNT, size_bytes=200_000_000, delay_s=0.02, client="lab")
    with temporary(options) as stack:
        traced(stack, folder / "cold")
        warm(stack)
        traced(stack, folder / "hot")
        forget_pages(stack)
        traced(stack, folder / "warm")
        copy = folder / "copy"
        shutil.copytree(stack.model, copy)
        traced(stack, folder / "local", copy)
        log = folder / "access.log"
        shutil.copy(stack.access_log, log)
    checked = cvtrace("report", "cold", "-v", "--access-log", log.name, cwd=folder)
    proven = cvtrace("report", "hot", "-v", cwd=folder)
    return {
        "answers-cold": blocks.console(cvtrace("report", "cold", cwd=folder)),
        "answers-sources": blocks.console(sources(folder)),
        "answers-hot": blocks.console(part(proven, "Does generation", "\n\n", 6)),
        "answers-log": blocks.console(part(checked, "Access log", "\n\n", 2)),
        "answers-table": beside(folder),
        "answers-what-if": blocks.console(
            part(cvtrace("report", "cold", "--what-if", "--scale", "10", cwd=folder), "what if ", "\n\n", 12)
        ),
    }


def part(text: str, begin: str, end: str, lines: int) -> str:
    """Return the lines of a text from one that begins so, up to an end or so many lines."""
    _, marker, tail = text.partition(begin)
    return "\n".join(f"{marker}{tail.partition(end)[0]}".splitlines()[:lines])


def report_of(trace: Path) -> dict[str, Any]:
    """Return the JSON report of a trace."""
    report: dict[str, Any] = json.loads(cvtrace("report", trace, "--format", "json"))
    return report


def phase_of(report: dict[str, Any], name: str) -> dict[str, Any]:
    """Return one row of the phases."""
    row: dict[str, Any] = next(phase for phase in report["phases"] if phase["name"] == name)
    return row


def sources(folder: Path) -> str:
    """Return where the bytes of load and decode came from in each run, as `report -v` prints it."""
    lines = []
    for run in ("cold", "warm", "hot"):
        for line in cvtrace("report", run, "-v", cwd=folder).splitlines():
            if (line.startswith(("load ", "decode ")) and "%" in line) or (line.startswith("phase") and not lines):
                lines.append(f"{run if not line.startswith('phase') else 'run':<6}{line}")
    return "\n".join(lines)


def beside(folder: Path) -> str:
    """Return the table of the four runs of docs/answers.md."""
    lines = [
        "| run | load | waited for CVMFS | first token | further tokens | waited for CVMFS |",
        "|---|---|---|---|---|---|",
    ]
    sections = {
        "cold": "cold: nothing in the client's cache",
        "warm": "warm: in the client's cache, not in memory",
        "hot": "hot: in memory",
        "local": "a local copy, in memory",
    }
    for name, section in sections.items():
        report = report_of(folder / name)
        load, decode, prefill = (phase_of(report, name) for name in ("load", "decode", "prefill"))
        waits = [seconds(phase["network_s"] + phase["cache_s"]) for phase in (load, decode)]
        rate = f"{decode['count'] / decode['wall_s']:.0f} tokens/s"
        lines.append(
            f"| {section} | {seconds(load['wall_s'])} | {waits[0]} | {seconds(prefill['wall_s'])} | {rate} | {waits[1]} |"
        )
    return "\n".join(lines) + "\n"


def compare(folder: Path) -> None:
    """Write the comparison of several cold with several warm runs."""
    with temporary(Options(mount=MOUNT, size_bytes=100_000_000, client="lab")) as up:
        stack = up
        for state in ("cold", "warm"):
            (folder / "sets" / state).mkdir(parents=True)
        for number in range(RUNS_COMPARED):
            stack = wipe_client_cache(stack)
            traced(stack, folder / "sets" / "cold" / str(number))
            forget_pages(stack)
            traced(stack, folder / "sets" / "warm" / str(number))
    output = REPORTS / "comparison.html"
    cvtrace("compare", "cold", "warm", "-o", output, "--force", cwd=folder / "sets")


if __name__ == "__main__":
    main()
