#!/usr/bin/env python3
"""Measure, and write the tables and the pictures of docs/experiments.md: `make_experiments.py lab`, `cvmfs2` or `sweep`, as root.

Each takes about five minutes on a quiet machine. An interrupted one is continued by the same command. The folders of the results stay in bench-out/.
`cvmfs2` measures the real client that CVTRACE_TEST_CVMFS2 names, or the one on PATH.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

from cvtrace.analysis.bench import is_bench, read_bench
from cvtrace.analysis.report.bench import render

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "experiments.md"
KINDS: Final = ("lab", "cvmfs2", "sweep")
PICTURES: Final = {"lab": ("load", "phases"), "cvmfs2": ("load", "phases"), "sweep": ("law",)}
"""Kind -> the pictures of its page that are kept."""
TITLES: Final = {
    "load": "every run as a point, with the box of half of the runs and the median",
    "phases": "where the time of the load went",
    "law": "load against size, with the law of each state",
}
WIDTH: Final = 110


def main() -> None:
    """Measure one kind, and write its block."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--repeats", type=int, help="runs in each state; default 10, of a sweep 5")
    parser.add_argument("--size", default="128MB", help="of the model; default 128MB")
    parser.add_argument("--sizes", default="32MB,64MB,128MB,256MB", help="of a sweep")
    parser.add_argument("--delay", default="20ms", help="before each first byte; default 20ms")
    parser.add_argument("--force", action="store_true", help="measure again what is finished")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("make_experiments: caches are emptied and looked at: run it as root")
    folder = ROOT / "bench-out" / f"experiment-{options.kind}"
    folder.parent.mkdir(exist_ok=True)
    measure(options, folder)
    write(options.kind, folder)


def command_of(options: argparse.Namespace) -> list[str]:
    """Return what is measured, as a user writes it."""
    repeats = options.repeats or (5 if options.kind == "sweep" else 10)
    words = ["bench", "--seed", "1", "--repeats", str(repeats)]
    if options.kind == "sweep":
        words += [
            "--states",
            "cold,warm-disk,hot",
            "--lab",
            f"delay={options.delay}",
            "--sweep",
            f"size={options.sizes}",
        ]
    else:
        client = "lab" if options.kind == "lab" else os.environ.get("CVTRACE_TEST_CVMFS2", "cvmfs2")
        words += ["--lab", f"size={options.size},delay={options.delay},client={client}"]
    return [
        *words,
        "examples/phi3-qa.py",
        "-m",
        "{model}",
        "-e",
        "cpu",
        "-g",
        "-p",
        "What is a muon?",
        "--tokens",
        "32",
    ]


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Measure, continue what was interrupted, or keep what is finished."""
    if is_bench(folder) and read_bench(folder).info.finished and not options.force:
        print(f"make_experiments: {folder} is finished, --force measures it again", file=sys.stderr)
        return
    words = command_of(options)
    words[1:1] = ["-o", str(folder), *(["--force"] if options.force else [])]
    environ = {**os.environ, "VIRTUAL_ENV": sys.prefix, "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([sys.executable, "-m", "cvtrace", *words], cwd=ROOT, env=environ, check=False)
    if done.returncode > 1:  # 1: a state has no run that counts, which the table says
        sys.exit(done.returncode)


def write(kind: str, folder: Path) -> None:
    """Write the table and the pictures of a kind into the page."""
    bench = read_bench(folder)
    shown = [word for word in bench.info.command if word not in (str(folder), "-o", "--force")]
    shown = [re.sub(r"client=/\S+", "client=cvmfs2", word) for word in shown]
    about = f"{bench.info.versions['client']}, Linux {bench.info.versions['kernel']}, {os.cpu_count()} cores. `cvtrace {shlex.join(shown)}`:\n"
    images = [f"\n![{kind}: {TITLES[key]}](img/bench-{kind}-{key}.png)\n" for key in take(kind, folder)]
    block = f"{about}\n```text\n{render(bench, WIDTH)}```\n{''.join(images)}"
    before = PAGE.read_text(encoding="utf-8")
    marks = re.compile(rf"(<!-- measured: {kind} -->\n).*?(<!-- end -->)", re.DOTALL)
    PAGE.write_text(marks.sub(lambda match: f"{match[1]}{block}{match[2]}", before), encoding="utf-8")


def take(kind: str, folder: Path) -> list[str]:
    """Take the pictures in headless Chromium; return the keys of those that the page has."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        sys.exit("make_experiments: no Chromium on PATH: scripts/setup.sh --tests installs it")
    taken = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 900}, color_scheme="light")
        page.goto((folder / "bench.html").as_uri())
        page.wait_for_selector("html[data-ready]")
        for key in PICTURES[kind]:
            place = page.locator(f"#plot-{key}")
            if place.count():
                place.scroll_into_view_if_needed()
                page.wait_for_timeout(800)  # it is drawn when it is in view
                place.screenshot(path=ROOT / "docs" / "img" / f"bench-{kind}-{key}.png")
                taken.append(key)
        browser.close()
    return taken


if __name__ == "__main__":
    main()
