"""A comparison as HTML: what its pictures are made of, and the command that writes and opens it."""

import base64
import gzip
import json
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from runs import cold_run, hot_run, portable_run, stored
from scene import MODEL, MOUNT, WORKER, Scene

from benchmarks.big_trace import big_trace
from cvtrace.analysis.comparison.compare import compare, middle
from cvtrace.analysis.contract.classes import LABELS, Class
from cvtrace.analysis.report.html.comparison import Studied, flame, render, tokens
from cvtrace.analysis.report.html.comparison.sides import HASHED, UNNAMED, Sides
from cvtrace.analysis.report.html.palette import CHANGES, FIRST_CHANGE
from cvtrace.analysis.report.html.scene import scene
from cvtrace.analysis.report.html.tokens import MOST
from cvtrace.analysis.summary.assemble import full_analysis
from cvtrace.cli import main
from cvtrace.probes.events import Opcode
from cvtrace.tracer.store import TraceWriter

A, B = Path("a"), Path("b")
FILE = MODEL.removeprefix(f"{MOUNT}/")
MILLISECONDS = 1000
SAME = FIRST_CHANGE + len(CHANGES) // 2


def page(a: Studied, b: Studied) -> str:
    return render(compare(A, [a[2]], B, [b[2]]), a, b)


def sides(a: Studied, b: Studied) -> Sides:
    return Sides(compare(A, [a[2]], B, [b[2]]), scene(*a), scene(*b))


def payload(rendered: str) -> dict[str, Any]:
    match = re.search(r'id="data">([^<]*)<', rendered)
    assert match is not None
    unpacked: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(match[1])))
    return unpacked


def columns(rendered: str, table: str) -> dict[str, list[Any]]:
    (entry,) = (item for item in payload(rendered)["tables"] if item["key"] == table)
    return {column["name"]: column["values"] for column in entry["columns"]}


def slower_run(more_ms: int) -> Scene:
    """Return the cold run with a second wait in its load: one READ that the client answers from its cache."""
    scene = cold_run()
    begin = 420 * MILLISECONDS
    end = begin + more_ms * MILLISECONDS
    scene.off(begin, end, end + 100, by=WORKER, state=2)
    scene.request(Opcode.READ, begin + 100, end - 10, end + 10, sent=begin - 1, offset=2 << 20)
    return scene


@pytest.fixture(scope="module")
def cold() -> Studied:
    return full_analysis(cold_run().trace())


@pytest.fixture(scope="module")
def hot() -> Studied:
    return full_analysis(hot_run().trace())


@pytest.mark.parametrize("make_scene", [cold_run, hot_run, portable_run, Scene])
def test_every_kind_of_trace_compares_with_every_other(make_scene: Any, cold: Studied) -> None:
    side = full_analysis(make_scene().trace())

    for pair in ((cold, side), (side, cold), (side, side)):
        rendered = page(*pair)
        assert {"phases", "flame"} <= set(payload(rendered)["roots"])
        assert ("tokens" in payload(rendered)["roots"]) == any(side[2].tokens for side in pair)


def test_a_run_compared_with_itself_has_one_colour_and_nothing_new(cold: Studied) -> None:
    both_sides = sides(cold, cold)

    assert not both_sides.differences.change_ns.any()
    for marks in (
        flame._marks(both_sides, both_sides.differences.a_ns),
        flame._marks(both_sides, both_sides.differences.b_ns),
    ):
        assert set(np.asarray(marks.columns()["paint"]).tolist()) == {SAME}
    assert flame.vanished_and_new(both_sides) == ([], [])
    assert set(columns(page(cold, cold), "frames")["change"]) == {0}


def test_an_added_wait_is_the_frame_that_grew(cold: Studied) -> None:
    # GIVEN a run whose load waits 60 ms more for the file
    slower = full_analysis(slower_run(60).trace())
    # WHEN it is compared with the one without
    difference = sides(cold, slower).differences
    # THEN 60 ms moved from where the load computed to where it waits for the file, and nothing else changed by more than 1 ms
    of_file = difference.part >= 0
    load = difference.phase == difference.phases.index("load")
    assert int(difference.change_ns[load & of_file].sum()) == pytest.approx(60e6, abs=1e6)
    assert int(difference.change_ns[load & ~of_file].sum()) == pytest.approx(-60e6, abs=1e6)
    assert abs(difference.change_ns[~load]).max() < 1e6
    first = {name: values[0] for name, values in columns(page(cold, slower), "frames").items()}
    assert first["phase"] == "load"
    assert abs(first["change"]) == pytest.approx(0.060, abs=0.001)


def test_frame_widths_are_the_times_of_their_run(cold: Studied, hot: Studied) -> None:
    both_sides = sides(cold, hot)

    for study, ns in ((cold, both_sides.differences.a_ns), (hot, both_sides.differences.b_ns)):
        marks = {name: np.asarray(values) for name, values in flame._marks(both_sides, ns).columns().items()}
        total = sum(row.wall_s for row in study[2].phases)
        width = marks["right"] - marks["left"]
        for depth in range(4):
            assert width[marks["top"] == depth].sum() == pytest.approx(1)
        for row in study[2].phases:
            in_phase = (marks["top"] == 1) & (marks["phase"] == both_sides.names.index(row.name))
            assert width[in_phase].sum() * total == pytest.approx(row.wall_s)
    assert int(both_sides.differences.a_ns.sum()) == round(sum(row.wall_s for row in cold[2].phases) * 1e9)


def test_vanished_and_new_rows_are_reported(cold: Studied, hot: Studied) -> None:
    vanished, new = flame.vanished_and_new(sides(cold, hot))

    assert vanished[:2] == ["90.0 ms prefill › compute.cpu", f"80.0 ms load › {FILE} › network.transfer"]
    assert flame.vanished_and_new(sides(hot, cold)) == (new, vanished)
    assert f"80.0 ms load › {FILE} › network.transfer" in page(cold, hot)


@pytest.mark.parametrize(
    "a, b, step", [(0, 7, 10), (7, 0, 0), (100, 101, 5), (100, 200, 9), (199, 100, 2), (100, 112, 7)]
)
def test_the_colour_of_a_frame_depends_on_its_change(a: int, b: int, step: int) -> None:
    assert flame.paint_of(np.array([a]), np.array([b])).tolist() == [FIRST_CHANGE + step]


def test_the_same_file_under_another_mount_is_the_same(cold: Studied) -> None:
    trace = cold_run().trace()
    elsewhere = "/mnt/b/repo.test.org"
    assert len(elsewhere) == len(MOUNT)
    trace.texts["text"] = np.char.replace(trace.texts["text"], MOUNT.encode(), elsewhere.encode())
    trace.meta["mounts"][0]["path"] = elsewhere
    moved = full_analysis(trace)
    assert moved[2].files[0].path.startswith(elsewhere)

    both_sides = sides(cold, moved)

    assert both_sides.differences.parts == (FILE,)
    assert not both_sides.differences.change_ns.any()


def test_files_whose_names_are_hashed_are_not_distinguished(cold: Studied) -> None:
    trace = cold_run().trace()
    trace.meta["redacted"] = True
    hashed = full_analysis(trace)

    assert sides(cold, hashed).differences.parts == (HASHED,)
    assert "names are hashed in one of the traces" in unescape(page(cold, hashed)).lower()


def test_inode_numbers_are_not_compared_as_names(cold: Studied) -> None:
    nameless = cold_run()
    nameless.off(635_000, 636_000, 636_100, by=WORKER, state=2)
    nameless.request(Opcode.READ, 635_100, 635_900, 636_000, sent=634_999, node=777)

    assert UNNAMED in sides(cold, full_analysis(nameless.trace())).differences.parts


def test_all_figures_and_words_of_the_json_are_in_the_page(cold: Studied, hot: Studied) -> None:
    comparison = compare(A, [cold[2]], B, [hot[2]])

    rendered = page(cold, hot)

    figures, words = columns(rendered, "figures"), columns(rendered, "words")
    assert figures["of"] == [change.of for change in comparison.changes]
    for name, title in (("a", "A"), ("b", "B"), ("difference", "change")):
        assert figures[title] == [
            None if (value := getattr(change, name)) is None else round(value, 9) for change in comparison.changes
        ]
    assert words["A"][:2] == ["yes", "cold"]
    assert words["B"][:2] == ["no", "hot"]
    assert len(words["of"]) == len(comparison.words)


def test_sets_have_intervals_and_show_the_run_in_the_middle() -> None:
    runs = [full_analysis(big_trace(200 * number, tokens=5)) for number in (3, 1, 2)]
    reports = [run[2] for run in runs]

    representative = middle(reports)

    assert representative == 2
    assert middle(reports[:2]) == 1
    rendered = render(compare(A, reports, B, reports), runs[representative], runs[representative])
    assert rendered.count("the median by time of load and decode") == 2
    figures = columns(rendered, "figures")
    assert {"95 % from", "to", "certain"} <= set(figures)
    assert "fewer than 6 runs" in rendered.lower()


def test_tokens_of_both_runs_are_drawn_up_to_their_ends(cold: Studied, hot: Studied) -> None:
    cells = columns(page(cold, hot), "tokens")

    assert cells["token"] == list(range(383))
    assert cells["A"][3:] == [None] * 380
    assert cells["A"][:3] == pytest.approx([0.018] * 3)
    assert cells["B"] == pytest.approx([0.00049] * 383)
    assert cells["change"][:3] == pytest.approx([0.00049 - 0.018] * 3)
    assert cells["change"][3:] == [None] * 380


def test_the_higher_of_two_bars_shows_both_times_on_hover() -> None:
    assert tokens._how(0, 9e6, 8e6) == "A 9.00 ms, B 8.00 ms: -1.00 ms"
    assert tokens._how(1, 9e6, 8e6) == "8.00 ms"
    assert tokens._how(1, 8e6, 9e6) == "A 8.00 ms, B 9.00 ms: +1.00 ms"
    assert tokens._how(0, 8e6, -1) == "8.00 ms; the other run has no such token"


def test_many_tokens_are_drawn_as_means_within_each_run() -> None:
    random = np.random.default_rng(5)
    a, b = random.integers(1, 1000, 9000), random.integers(1, 1000, 9000)
    b[5003:] = -1
    walls = np.column_stack([a, b])

    first, last, mean = tokens.bars(walls, tokens._one_by_one(walls))

    length = last - first + 1
    assert len(first) < 5 * MOST
    assert (mean[:, 0] * length).sum() == pytest.approx(a.sum())
    assert (mean[:, 1] * length)[mean[:, 1] >= 0].sum() == pytest.approx(b[:5003].sum())
    assert set(mean[first >= 5003, 1].tolist()) == {-1}


def test_the_page_loads_nothing_from_the_network(cold: Studied, hot: Studied) -> None:
    rendered = page(cold, hot)

    assert "default-src 'none'" in unescape(rendered)
    assert not re.search(r"<(?:script|link|img|iframe)[^>]*\b(?:src|href)=", rendered)
    assert len(rendered) < 2_000_000


# The command.


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["compare", *(str(word) for word in words)])


@pytest.fixture
def traces(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("cold", "hot"):
        (tmp_path / name).mkdir()
    return stored(tmp_path / "cold", cold_run()), stored(tmp_path / "hot", hot_run())


def test_html_goes_to_a_file_which_is_replaced_only_with_force(traces: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "changes.html"

    first, second = (run(*traces, "--format", "html", "-o", output) for _ in range(2))

    assert (first.exit_code, first.stdout, first.stderr) == (0, "", "")
    assert output.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert second.exit_code == 2
    assert "replace it with --force" in second.stderr
    assert run(*traces, "--format", "html", "-o", output, "--force").exit_code == 0


def test_open_writes_beside_b_and_starts_the_browser(traces: tuple[Path, Path], tmp_path: Path) -> None:
    browser, opened_page = tmp_path / "browser", tmp_path / "shown"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened_page}\n')
    browser.chmod(0o755)

    command = [sys.executable, "-m", "cvtrace", "compare", tmp_path / "cold", traces[1], "--open"]
    result = subprocess.run(  # its own process: the library remembers the first browser it was told of
        command, env={**os.environ, "BROWSER": str(browser)}, capture_output=True, text=True, check=True
    )

    assert result.stdout == ""
    assert opened_page.read_text().strip() == (tmp_path / "hot" / "cold-trace.html").as_uri()
    assert f"the comparison is in {tmp_path / 'hot' / 'cold-trace.html'}" in result.stderr


def test_open_needs_a_file(traces: tuple[Path, Path]) -> None:
    result = run(*traces, "--open", "-o", "-")

    assert result.exit_code == 2
    assert "--open needs a file" in result.stderr


def test_folders_of_runs_are_written_as_html_too(tmp_path: Path) -> None:
    for name, make_scene in (("a", cold_run), ("b", hot_run)):
        for number in range(3):
            events, texts = make_scene().arrays()
            (tmp_path / name).mkdir(exist_ok=True)
            writer = TraceWriter(tmp_path / name / f"run-{number}", make_scene().trace().meta)
            writer.write(events, texts)
            writer.finish()

    result = run(tmp_path / "a", tmp_path / "b", "--format", "html")

    assert result.exit_code == 0
    assert re.search(r"run <code>run-\d</code>", result.stdout)
    assert LABELS[Class.NETWORK_TRANSFER] in result.stdout
