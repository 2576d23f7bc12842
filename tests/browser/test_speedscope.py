"""speedscope reads the folded stacks and the speedscope files that cvtrace writes; what it exports again has each stack with its time."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import hostile_run
from playwright.sync_api import Browser
from runs import cold_run
from trace_processor import served

from benchmarks.big_trace import big_trace
from cvtrace.analysis.report import folded, speedscope
from cvtrace.analysis.report.names import printable
from cvtrace.analysis.storage.stacks import Stacks, stacks
from cvtrace.analysis.summary.assemble import full_analysis

PACKAGE = "speedscope@1.25.0"
TRACES = {"cold": cold_run().trace, "hostile": hostile_run().trace, "big": lambda: big_trace(3000, tokens=40, files=4)}
Times = dict[tuple[str, ...], int]
Reader = Callable[[str, str], dict[str, Any]]
every_trace = pytest.mark.parametrize("name", TRACES)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fetch speedscope's pages, which its npm package brings along; npm compares them with the checksum of the registry."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on PATH to fetch speedscope with")
    folder = tmp_path_factory.mktemp("speedscope")
    done = subprocess.run([npm, "pack", PACKAGE], cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        pytest.skip(f"npm cannot fetch {PACKAGE}: {done.stderr.strip().splitlines()[-1:]}")
    shutil.unpack_archive(next(folder.glob("*.tgz")), folder)
    return folder / "package" / "dist" / "release"


@pytest.fixture
def read(browser: Browser, program: Path) -> Iterator[Reader]:
    """Let speedscope open a file by its address, and export it."""
    page = browser.new_page(accept_downloads=True)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    def read_it(name: str, content: str) -> dict[str, Any]:
        (program / name).write_text(content, encoding="utf-8")
        with served(program) as address:
            page.goto(f"{address}/index.html#profileURL={address}/{name}")
            page.get_by_text("Export").wait_for(timeout=30_000)
            with page.expect_download() as download:
                page.keyboard.press("Control+s")
        times: dict[str, Any] = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
        assert not errors
        return times

    yield read_it
    page.close()


def times_of(content: dict[str, Any], number: int = 0) -> Times:
    """Return the time of each stack of a profile that speedscope exported: of events that open and close frames, or of samples."""
    names = [frame["name"] for frame in content["shared"]["frames"]]
    profile, times = content["profiles"][number], defaultdict[tuple[str, ...], int](int)
    if profile["type"] == "sampled":
        for sample, weight in zip(profile["samples"], profile["weights"], strict=True):
            times[tuple(names[frame] for frame in sample)] += weight
        return dict(times)
    open_now: list[str] = []
    last = profile["startValue"]
    for event in profile["events"]:
        if event["at"] > last:
            times[tuple(open_now)] += event["at"] - last
            last = event["at"]
        if event["type"] == "O":
            open_now.append(names[event["frame"]])
        else:
            assert open_now.pop() == names[event["frame"]]
    assert not open_now
    assert last == profile["endValue"]
    return dict(times)


def expected(of: Stacks, choice: str = "both") -> Times:
    times = {tuple(printable(each) for each in of.frames(row)): int(of.ns[row]) for row in of.rows(choice).tolist()}
    assert len(times) > 3
    return times


@every_trace
def test_speedscope_reads_the_folded_stacks(name: str, read: Reader) -> None:
    of = stacks(full_analysis(TRACES[name]())[0])

    content = read("our.folded", folded.render(of, "both"))

    times = {tuple(each.replace(";", "\\x3b") for each in frames): ns for frames, ns in expected(of).items()}
    assert times_of(content) == times


@every_trace
def test_speedscope_reads_the_speedscope_export(name: str, read: Reader) -> None:
    of = stacks(full_analysis(TRACES[name]())[0])

    content = read("our.speedscope.json", speedscope.render(of, "both", "a run", "0.1.0"))

    assert [profile["unit"] for profile in content["profiles"]] == ["nanoseconds"] * 4
    for number, choice in enumerate(("both", "both", "on-cpu", "waiting")):
        assert times_of(content, number) == expected(of, choice), content["profiles"][number]["name"]
