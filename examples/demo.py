#!/usr/bin/env python3
"""`make demo`: trace phi3-qa.py four times on a model served from the embedded CVMFS, and put the four beside each other.

Cold: the client's cache is empty, everything comes over HTTP. Warm: all is in the client's cache, but not in memory. Hot: all is in
memory. Mapped: the weights are used from the mapping, and there is less memory than they need. Traces stay in demo-out/.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cvtrace.analysis.contract.quantities import seconds
from cvtrace.analysis.report.lines import columns
from cvtrace.lab.errors import LabError
from cvtrace.lab.memory import limited
from cvtrace.lab.stack import Options, Stack, forget_pages, temporary, warm, wipe_client_cache

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "demo-out"
SIZE_BYTES = 100_000_000
LIMIT_BYTES = 100_000_000
TOKENS = 24
RUNS = ("cold", "warm", "hot", "mapped")
QUESTION = "What does a muon decay into?"


def say(text: str) -> None:
    """Print a line of the demo itself."""
    print(f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text, flush=True)


def script(model: Path) -> list[str]:
    """Return the command of the user: nothing in it knows of cvtrace."""
    return ["examples/phi3-qa.py", "-m", str(model), "-e", "cpu", "-g", "-p", QUESTION, "--tokens", str(TOKENS)]


def traced(name: str, stack: Stack, argv: Sequence[str], *options: str, command: Sequence[str] | None = None) -> int:
    """Run `cvtrace run` as a user would; return its exit code. `shown` is printed in the place of `argv`."""
    command = argv if command is None else command
    trace = OUT / name
    if trace.exists():
        shutil.rmtree(trace)
    run = ["run", "-o", str(trace.relative_to(ROOT)), "--keep-names", "--mount", str(stack.mountpoint), *options, *argv]
    say(f"$ cvtrace {shlex.join([*run[: len(run) - len(argv)], *command])}")
    environ = {**os.environ, "VIRTUAL_ENV": sys.prefix, "ORT_DISABLE_TELEMETRY": "1"}
    return subprocess.run([sys.executable, "-m", "cvtrace", *run], check=False, cwd=ROOT, env=environ).returncode


@contextlib.contextmanager
def less_memory(argv: list[str]) -> Iterator[list[str]]:
    """Yield a command that runs `argv` with LIMIT_BYTES of memory, or `argv` where that cannot be had."""
    with contextlib.ExitStack() as exits:
        try:
            command = exits.enter_context(limited(argv, LIMIT_BYTES))
        except LabError as reason:
            say(f"({reason}; running without a limit)")
            command = argv
        yield command


def hot(stack: Stack) -> int:
    """Trace the run that needs nothing; once more if something else on this machine dropped the pages meanwhile."""
    code = 0
    for again in (False, True):
        if again:
            say("(Pages of the model were dropped from memory meanwhile, which the summary shows. Once more.)")
        warm(stack)
        code = traced("hot", stack, script(stack.model))
        if load_report("hot")["verdict"]["answer"] != "yes":
            break
    return code


def load_report(name: str) -> dict[str, Any]:
    """Return the report of a run, as `cvtrace report --format json` prints it."""
    report = [sys.executable, "-m", "cvtrace", "report", str(OUT / name), "--format", "json"]
    content: dict[str, Any] = json.loads(
        subprocess.run(report, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    )
    return content


def row(name: str) -> list[str]:
    """Return the row of a run in the last table, from its report."""
    report = load_report(name)
    verdict, phases = report["verdict"], {phase["name"]: phase for phase in report["phases"]}
    first, further = verdict["first_token"], verdict["further_tokens"]
    rate = (TOKENS - 1) / further["wall_s"] if further and further["wall_s"] else 0.0
    waited = "–" if verdict["blocked_s"] is None else seconds(verdict["blocked_s"])
    return [
        name,
        seconds(phases["load"]["wall_s"]),
        seconds(first["wall_s"]) if first else "–",
        f"{rate:.1f}",
        waited,
        f"{verdict['fuse_reads'] or 0:,}",
        f"{verdict['http_fetches'] or 0:,}",
        str(verdict["answer"]).upper(),
    ]


def show_table(names: Sequence[str]) -> None:
    """Print the runs beside each other: what changes when the caches are warmer, and when memory is short."""
    head = ["", "load", "first token", "tokens/s", "waited", "reads", "fetches", "hits CVMFS?"]
    for number, line in enumerate(columns([head, *map(row, names)], 80)):
        say(line) if number == 0 else print(line)


def main() -> int:
    """Bring the lab up, trace four runs, take the lab down, and compare."""
    parser = argparse.ArgumentParser(description="Trace phi3-qa.py four times on the embedded CVMFS.")
    parser.add_argument("--mount", type=Path, metavar="DIR", help="mountpoint; default: in a temporary folder")
    mount = parser.parse_args().mount
    OUT.mkdir(exist_ok=True)
    say(f"demo: building two models of {SIZE_BYTES // 10**6} MB, publishing and mounting them …")
    with temporary(Options(mount, SIZE_BYTES, mapped_too=True, client="lab")) as stack:
        say(f"\n1. Cold: {stack.mountpoint} was just mounted, nothing is cached.")
        codes = [traced("cold", stack, script(stack.model))]

        say("\n2. Warm: all is in the client's cache on disk, nothing of it in memory.")
        warm(stack)
        forget_pages(stack)
        codes.append(traced("warm", stack, script(stack.model)))

        say("\n3. Hot: all is in memory. Generation asks CVMFS for nothing, and that can be proven.")
        codes.append(hot(stack))

        say(f"\n4. Mapped: weights are used from the mapping, with {LIMIT_BYTES // 10**6} MB of memory for all.")
        stack = wipe_client_cache(stack)
        warm(stack, stack.mapped_model)
        forget_pages(stack)
        with less_memory([sys.executable, *script(stack.mapped_model)]) as command:
            plain = ["python", *script(stack.mapped_model)]
            codes.append(traced("mapped", stack, command, "--python", sys.executable, "--", command=plain))
    say(f"\nThe four runs, {TOKENS} tokens each; waited, reads and fetches are those of generation:")
    show_table(RUNS)
    say("\nThe traces are in demo-out/: try `.venv/bin/cvtrace report demo-out/cold --open`.")
    return max(codes)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        sys.exit(f"demo: {error}")
