"""`make test-install`: installs cvtrace in fresh roots of distributions, in each way that docs/install.md describes.

    python -m tests.install [--verbose] [--write] [NAME …]       NAME: debian-12, debian-13, ubuntu-24.04; default is all of them

A root is made with debootstrap and holds what the README asks for (Python, git, make) and nothing else. A clean clone of the
committed project is put into it. The commands run in it as root, in a mount namespace of their own, on this machine's kernel.
--write puts the results into the table of docs/install.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.install.results import write_results
from tests.kernels.machine import NotThere, mirror

ROOT: Final = Path(__file__).resolve().parents[2]
SUITES: Final = {"debian-12": "bookworm", "debian-13": "trixie", "ubuntu-24.04": "noble"}
"""Distribution -> its name of the release."""
UBUNTU: Final = "http://archive.ubuntu.com/ubuntu/"
UBUNTU_KEYS: Final = Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg")
UBUNTU_SCRIPT: Final = "/usr/share/debootstrap/scripts/gutsy"
"""The steps of debootstrap for every Ubuntu since; an older debootstrap does not know the name of a newer release."""
NEEDED: Final = ("ca-certificates", "git", "make", "python3")
"""What the README asks for before its first command, and what TLS needs."""
PROJECT: Final = "/home/user/cvtrace"
LAB: Final = 'answer=$({program} lab up 2>&1); [ $? = 2 ] || exit 70; echo "$answer"; eval "${{answer##*: }} >/dev/null" || exit 71; '
"""Where the lab is missing, its message ends with the command that adds it: that very command is run."""
CHECK: Final = (
    "cd /tmp && {program} --version && {program} lab up --size 4MB --mount /tmp/mnt --client lab && {program} doctor && "
    "{program} run --probes ebpf --force -o /tmp/trace \"$({program} lab example)\" -m /tmp/mnt/models/lab-4mb -e cpu -g -p 'What is a muon?' --tokens 4"
    " && {program} report /tmp/trace -o /tmp/trace.html --force && {program} lab down --purge"
)
"""What every installation has to do, outside of the clone: record the example that it contains on the lab."""
VENV: Final = (
    "python3 -m venv /root/{name} && /root/{name}/bin/pip install -q --disable-pip-version-check {what} && "
    "PATH=/root/{name}/bin:$PATH && " + LAB + CHECK
)
PIPX: Final = "apt-get install -y -qq --no-install-recommends pipx >/dev/null && pipx install . && PATH=/root/.local/bin:$PATH && "
COMMANDS: Final = (
    ("clone", "make demo && make demo && " + CHECK.format(program=f"{PROJECT}/.venv/bin/cvtrace"), 1800.0),
    ("venv", VENV.format(name="venv", what=".", program="cvtrace"), 900.0),
    ("pipx", PIPX + (LAB + CHECK).format(program="cvtrace"), 900.0),
    ("wheel", "make dist && " + VENV.format(name="whl", what="dist/*.whl", program="cvtrace"), 900.0),
    ("source distribution", VENV.format(name="sdist", what="dist/*.tar.gz", program="cvtrace"), 900.0),
)
"""Way to install, shell command, and how many seconds it may take, in this order. The second demo finds everything installed."""
CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_SETTINGS: Final = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_DEFAULT_TIMEOUT",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)

INSIDE: Final = """
set -e
mount --rbind /sys "$ROOT/sys"
mount --rbind /dev "$ROOT/dev"
mount -t proc proc "$ROOT/proc"
mount -t tmpfs tmpfs "$ROOT/tmp"
mount -t tmpfs tmpfs "$ROOT/run"
exec chroot "$ROOT" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"
"""
"""Run with $ROOT in a new mount namespace, so that nothing stays mounted."""


@dataclass(frozen=True)
class Outcome:
    """How one command ended."""

    name: str
    command: str
    seconds: float
    exit_code: int
    output: str


def make_root(suite: str, root: Path) -> None:
    """Make a minimal root of `suite`, with what the README asks for. Raises NotThere."""
    if shutil.which("debootstrap") is None:
        raise NotThere("debootstrap is not there: apt install debootstrap")
    if os.geteuid() != 0:
        raise NotThere("only root can make a root: sudo make test-install")
    include = ",".join(NEEDED)
    command = ["debootstrap", "--variant=minbase", f"--include={include}"]
    if suite == "noble":
        checked = [f"--keyring={UBUNTU_KEYS}"] if UBUNTU_KEYS.is_file() else ["--no-check-gpg"]
        command += ["--components=main,universe", *checked, suite, str(root), UBUNTU, UBUNTU_SCRIPT]
    else:
        command += ["--components=main", suite, str(root), mirror()]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise NotThere(f"debootstrap of {suite} failed: {result.stdout[-300:]}{result.stderr[-300:]}")
    if CERTIFICATES.is_file():  # a machine behind a proxy of its own trusts more than the distribution does
        shutil.copy(CERTIFICATES, root / str(CERTIFICATES).lstrip("/"))
    clone = root / PROJECT.lstrip("/")
    subprocess.run(["git", "clone", "-q", "--no-local", str(ROOT), str(clone)], check=True)


def run_in(root: Path, command: str, limit_s: float) -> tuple[int, str]:
    """Run a shell command in the project's folder of the root; return the exit code and what it printed."""
    settings = [f"{name}={os.environ[name]}" for name in PIP_SETTINGS if name in os.environ]
    if CERTIFICATES.is_file():
        settings.append(f"PIP_CERT={CERTIFICATES}")
    words: Sequence[str] = (*settings, "sh", "-c", f"cd {PROJECT} && {command}")
    try:
        result = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", INSIDE, "sh", *words],
            env={**os.environ, "ROOT": str(root)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return 124, f"{(late.output or b'').decode(errors='replace')}\nnot done after {limit_s:.0f} s"
    return result.returncode, result.stdout.decode(errors="replace")


def install(name: str, folder: Path) -> list[Outcome]:
    """Make a root, install in it in each way, also after one failed, and remove the root."""
    root = folder / name
    try:
        began_s = time.monotonic()
        make_root(SUITES[name], root)
        outcomes = [Outcome(name, "debootstrap", time.monotonic() - began_s, 0, "")]
        for title, command, limit_s in COMMANDS:
            began_s = time.monotonic()
            exit_code, output = run_in(root, command, limit_s)
            outcomes.append(Outcome(name, title, time.monotonic() - began_s, exit_code, output))
            report(outcomes[-1])
        return outcomes
    finally:
        shutil.rmtree(root, ignore_errors=True)


def report(outcome: Outcome) -> None:
    """Print one line on a way to install."""
    verdict = "ok" if outcome.exit_code == 0 else f"failed with exit code {outcome.exit_code}"
    print(f"{outcome.name:12} {outcome.command:24} {outcome.seconds:6.0f} s  {verdict}", flush=True)


def main() -> int:
    """Install everywhere; print what was run, and all output of what failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.install", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *SUITES], default=[], metavar="NAME")
    parser.add_argument("--verbose", action="store_true", help="print what every command printed")
    parser.add_argument("--write", action="store_true", help="write the results into the table of docs/install.md")
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="cvtrace-install-", dir="/var/tmp") as folder:
        for name in arguments.names or SUITES:
            try:
                outcomes = install(name, Path(folder))
            except NotThere as reason:
                print(f"{name}: {reason}", flush=True)
                return 1
            for outcome in outcomes:
                if arguments.verbose or outcome.exit_code:
                    print(outcome.output)
                failed += outcome.exit_code != 0
            if arguments.write:
                write_results(name, {outcome.command: (outcome.exit_code, outcome.seconds) for outcome in outcomes})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
