"""`make test-kernels`: traces a model load in virtual machines with other kernels, and writes down what ran.

python -m tests.kernels [NAME …]       NAME: debian-11, debian-12, debian-13; default is all of them
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.kernels.machine import CACHE, Kernel, NotThere, kernel, run

ROOT: Final = Path(__file__).resolve().parents[2]
HIDDEN: Final = ("/tmp", "/run", "/dev/shm")
"""Folders of this machine that the emulated one does not see."""
KERNELS: Final = {
    "debian-11": ("bullseye", r"linux-image-5\.10\.0-\d+-amd64"),
    "debian-12": ("bookworm", r"linux-image-6\.1\.0-\d+-amd64"),
    "debian-13": ("trixie", r"linux-image-6\.12\.\d+\+deb13-amd64"),
}
"""Distribution -> Debian's name of it, and the package of its kernel."""
EXPECTED: Final = {
    "debian-11": {"fuse": "kprobes", "pages": "kprobes", "sched": "tracepoints"},
    "debian-12": {"fuse": "kprobes", "pages": "kprobes", "sched": "tracepoints"},
    "debian-13": {"fuse": "tracepoints", "pages": "tracepoints", "sched": "tracepoints"},
}
DEADLINE_S: Final = 1800.0
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def observe(name: str, booted: Kernel) -> dict[str, Any]:
    """Run guest.py on that kernel; return its result (see Seen there), with `error` if there is none."""
    words = [
        "env",
        "PYTHONDONTWRITEBYTECODE=1",
        "HOME=/root",
        f"PATH={PATH}",
        sys.executable,
        "-m",
        "tests.kernels.guest",
    ]
    command = f"cd {shlex.quote(str(ROOT))} && {shlex.join(words)}"
    log = CACHE / f"{name}.log"
    with (
        tempfile.TemporaryDirectory(prefix="cvtrace-kernel-") as folder,
        contextlib.suppress(subprocess.TimeoutExpired),
    ):
        run(booted, command, Path(folder), log, DEADLINE_S)
    console = log.read_text(errors="replace")
    result = next((line for line in reversed(console.splitlines()) if line.startswith("RESULT ")), None)
    if result is None:
        return {"kernel": booted.release, "rungs": {}, "checks": {}, "notes": {}, "error": f"no result; see {log}"}
    observation: dict[str, Any] = json.loads(result.removeprefix("RESULT "))
    return observation


def wrong(name: str, observation: dict[str, Any]) -> list[str]:
    """Return what is not as it must be, one sentence each."""
    problems = [observation["error"]] if observation["error"] else []
    for facility, expected in EXPECTED[name].items():
        by = observation["rungs"].get(facility, "nothing")
        if not by.startswith(expected):
            problems.append(f"{facility} is observed by {by}, not by {expected}")
    problems += [
        f"{check}: {count} traced, {right} expected"
        for check, (count, right) in observation["checks"].items()
        if count != right
    ]
    if not observation["error"] and observation["notes"].get("verdict") != "yes":
        problems.append(
            f"the verdict is {observation['notes'].get('verdict')}: {observation['notes'].get('verdict missing')}"
        )
    return problems


def row(observation: dict[str, Any], problems: list[str]) -> str:
    """Return a row of the table in docs/kernels.md."""
    names = ("fuse", "pages", "sched")
    by = [observation["rungs"].get(name, "–").partition(":")[0] for name in names]
    checks = observation["checks"].values()
    equal = f"{sum(count == right for count, right in checks)} of {len(checks)}"
    events = observation["notes"].get("events", {})
    counts = [f"{events.get(kind, 0):,}" for kind in ("FUSE_SEND", "FAULT", "PAGE_MAP", "PAGE_READ", "PHASE")]
    cells = [
        observation["kernel"],
        *by,
        *counts,
        equal,
        observation["notes"].get("verdict", "–"),
        "no" if problems else "yes",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Run the kernels asked for, one after the other; print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernels", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(KERNELS)}; default: all")
    names = parser.parse_args().names or list(KERNELS)
    if unknown := set(names) - set(KERNELS):
        parser.error(f"no kernel is called {', '.join(sorted(unknown))}")
    hidden = [place for place in HIDDEN if ROOT.is_relative_to(place)]
    if hidden:
        print(f"the emulated machine has a {hidden[0]} of its own: run this from a copy elsewhere", file=sys.stderr)
        return 3
    rows, failed = [], False
    for name in names:
        try:
            booted = kernel(*KERNELS[name])
        except (NotThere, subprocess.CalledProcessError) as reason:
            print(f"{name}: {reason}", file=sys.stderr)
            return 3
        print(f"{name}: {booted.release} under emulation, this takes some minutes …", flush=True)
        observation = observe(name, booted)
        problems = wrong(name, observation)
        for problem in problems:
            print(f"  {problem}", flush=True)
        print(f"  {json.dumps(observation['notes'])}", flush=True)
        rows.append(row(observation, problems))
        failed = failed or bool(problems)
    print(
        "\n| kernel | FUSE requests | pages | scheduler | FUSE_SEND | FAULT | PAGE_MAP | PAGE_READ | PHASE | counts equal | verdict | passed |"
    )
    print("|---" * 12 + "|")
    print("\n".join(rows))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
