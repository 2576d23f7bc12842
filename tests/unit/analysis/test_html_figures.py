"""The top of the page and what its pictures are made of: figures with their hot value, the bar of the run, colours, names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runs import cold_run, hot_run, portable_run
from scene import MODEL, Scene

from benchmarks.big_trace import big_trace
from cvtrace.analysis.contract.classes import MEANINGS, Class, anchor
from cvtrace.analysis.contract.terms import TERMS
from cvtrace.analysis.report import html
from cvtrace.analysis.report.html import activity, flame, timeline, waterfall
from cvtrace.analysis.report.html.activity import KNOTS, per_second, sums, thinned
from cvtrace.analysis.report.html.comparison import tokens
from cvtrace.analysis.report.html.figures import bar, figures, saved_when_hot
from cvtrace.analysis.report.html.folders import tree
from cvtrace.analysis.report.html.palette import ANSWERS, COLOURS, PHASES, SIDES
from cvtrace.analysis.report.html.scene import scene
from cvtrace.analysis.report.html.tokens import token_times
from cvtrace.analysis.summary.assemble import full_analysis


def test_a_model_has_four_figures_each_with_its_hot_value() -> None:
    _, _, report = full_analysis(cold_run().trace())

    shown = {each.name: each for each in figures(report)}

    assert list(shown) == ["Load", "First token", "Tokens per second", "Waited for CVMFS"]
    assert all(each.hot for each in shown.values())
    saved = saved_when_hot(report)
    assert saved is not None
    load = next(row for row in report.phases if row.name == "load")
    assert saved["load"] > 0
    assert shown["Load"].better == (load.wall_s - saved["load"] < 0.9 * load.wall_s)


def test_the_first_row_of_a_program_is_its_whole_run() -> None:
    _, _, report = full_analysis(Scene().trace())

    assert figures(report)[0].name == "Whole run"


def test_what_was_not_observed_has_no_hot_value() -> None:
    _, _, report = full_analysis(portable_run().trace())

    shown = {each.name: each for each in figures(report)}

    assert "Waited for CVMFS" not in shown
    assert not any(each.hot for each in shown.values())


def test_the_bar_of_the_run_adds_up_to_its_time() -> None:
    _, _, report = full_analysis(cold_run().trace())

    pieces = bar(report.phases)

    assert sum(piece.share for piece in pieces) == pytest.approx(1)
    assert {piece.label for piece in pieces} == {
        name for row in report.phases for name, spent in row.classes.items() if spent
    }
    assert bar([replace(row, wall_s=0.0, classes=dict.fromkeys(row.classes, 0.0)) for row in report.phases]) == []


def test_every_class_is_explained_and_every_colour_means_one_thing() -> None:
    assert set(MEANINGS) == set(Class)
    assert len(set(MEANINGS.values())) == len(Class)
    assert Class.CACHE_FILL.anchor == "cache-fill"
    assert anchor("critical path") == "critical-path"
    colours = [*COLOURS.values(), *PHASES, *(colour for colour, _ in ANSWERS), *SIDES]
    assert len(set(colours)) == len(colours)


def test_the_lines_that_repeat_the_phases_are_not_on_the_page() -> None:
    page = html.render(*full_analysis(cold_run().trace()))

    assert "Time of load:" not in page
    assert "Per token:" in page


def test_the_first_token_has_its_prefill() -> None:
    shown = scene(*full_analysis(cold_run().trace()))

    times = token_times(shown)

    prefill = next(row for row in shown.report.phases if row.name == "prefill")
    alone = shown.token_classes.sum(axis=1)
    assert times.first.tolist() == [True, False, False]
    assert times.wall[0] - alone[0] == pytest.approx(prefill.wall_s * 1e9)
    assert times.wall[1:].tolist() == alone[1:].tolist()


def test_a_second_answer_has_a_first_token_of_its_own() -> None:
    made = Scene()
    for at in (100, 500):
        made.call("OgaGenerator_AppendTokens", at, at + 50)
        for number in range(3):
            made.call("OgaGenerator_GenerateNextToken", at + 60 + 20 * number, at + 75 + 20 * number)

    times = token_times(scene(*full_analysis(made.trace())))

    assert times.first.tolist() == [True, False, False, True, False, False]
    assert times.wall[0] == times.wall[3] > times.wall[1]


def test_reads_of_each_token_are_marked_as_evidence() -> None:
    shown = scene(*full_analysis(big_trace(3000, tokens=40, files=4)))

    source = timeline.picture(shown).model.select_one({"name": "evidence"}).data

    generating = shown.study.request_token >= 0
    assert 0 < len(source["what"]) <= timeline.EVIDENCE
    assert set(source["token"]) == set(np.unique(shown.study.request_token[generating]).tolist())
    assert all(text.startswith("READ") for text in source["what"])


def test_tracks_have_names() -> None:
    shown = scene(*full_analysis(big_trace(3000, tokens=40, files=4)))

    names = [text.text for text in timeline.picture(shown).model.yaxis[0].major_label_overrides.values()]

    assert names[:4] == ["phase", "token", "reads of tokens", "critical path"]
    assert "main thread" in names
    assert "client worker 1" in names
    assert names[-1].startswith("download thread")


def test_many_fetches_are_packed_into_as_many_rows_as_ran_at_once() -> None:
    shown = scene(*full_analysis(big_trace(20_000, tokens=40, files=4)))
    picture = waterfall.picture(shown)
    assert picture is not None

    lanes = picture.model.y_range.start + 0.5

    assert len(shown.report.fetches) > waterfall.NAMED
    assert lanes <= waterfall.MOST_ROWS + 1
    assert picture.model.height / lanes >= waterfall.PACKED_ROW


def test_a_fetch_is_labelled_with_its_file() -> None:
    shown = scene(*full_analysis(cold_run().trace()))

    assert shown.fetch_names[0].startswith(MODEL.rpartition("/")[2])


def test_a_hot_run_has_no_predicted_saving() -> None:
    _, _, report = full_analysis(hot_run().trace())

    assert not any(each.better for each in figures(report))


def test_amounts_are_spread_over_their_time() -> None:
    edges = np.array([0.0, 1.0, 2.0, 3.0])

    assert per_second(sums([0.5], [2.5], [100.0]), edges) == pytest.approx([25, 50, 25])
    assert per_second(sums([0.5, 1.0], [2.5, 2.0], [2.0, 1.0]), edges) == pytest.approx([0.5, 2, 0.5])
    assert per_second(sums([1.5], [1.5], [7.0]), edges) == pytest.approx([0, 7, 0])
    assert per_second(sums([], [], []), edges).tolist() == [0, 0, 0]


def test_throughput_adds_up_to_what_was_read_and_fetched() -> None:
    shown = scene(*full_analysis(big_trace(3000, tokens=40, files=4)))
    columns = {each.name: np.array(each.values) for each in activity.table(shown).columns}

    stretch_s = shown.duration_s / activity.STRETCHES
    read = shown.study.requests.read_bytes[shown.study.requests.by_target].sum()
    assert columns["read/s"].sum() * stretch_s == pytest.approx(int(read), rel=0.01)
    fetched = sum(row.bytes for row in shown.report.fetches)
    assert columns["downloaded/s"].sum() * stretch_s == pytest.approx(fetched, rel=0.01)
    assert activity.picture(shown) is not None


def test_small_files_are_drawn_by_folder() -> None:
    count = flame.FRAMES + 200
    names = [f"lib/{'abc'[number % 3]}/deep/{number}.py" for number in range(count)]
    phase, part = np.zeros(count, dtype=np.int64), np.arange(count)

    grouped, labels = flame.with_folders(phase, part, np.arange(count)[::-1] + 1, names, names)

    assert grouped[: flame.FRAMES].tolist() == part[: flame.FRAMES].tolist()
    small = {labels[each] for each in grouped[flame.FRAMES :].tolist()}
    assert {label.partition(":")[0] for label in small} == {"lib/a/deep/", "lib/b/deep/", "lib/c/deep/"}
    assert flame.with_folders(phase[:5], part[:5], part[:5], names, names)[0].tolist() == part[:5].tolist()


def test_many_files_make_a_tree_and_few_make_none() -> None:
    many = full_analysis(big_trace(3000, tokens=5, files=40)).report
    nodes = tree(many)

    assert tree(full_analysis(big_trace(3000, tokens=5, files=4)).report) == {}
    files = [row for row, is_folder in enumerate(nodes["folder"]) if not is_folder]
    assert len(files) == len(many.files)
    assert all(nodes["folder"][nodes["parent"][row]] for row in files)
    assert nodes["blocked"][0] == pytest.approx(sum(nodes["blocked"][row] for row in files), rel=0.05)


def test_terms_of_the_page_have_their_anchors_in_the_glossary() -> None:
    glossary = (Path(__file__).parents[3] / "docs" / "glossary.md").read_text(encoding="utf-8")

    for name in (*(member.anchor for member in Class), *map(anchor, TERMS)):
        assert f'id="{name}"' in glossary, name


def test_a_sum_of_many_requests_is_thinned_where_little_happens() -> None:
    """GIVEN many requests in one millisecond WHEN their sum is thinned THEN bars within that millisecond stay right."""
    start = 5.0 + np.arange(50_000) / 50_000 * 1e-3
    whole = sums(start, start + 1e-5, np.full(len(start), 4096.0))
    edges = np.linspace(5.0, 5.001, 11)

    few = thinned(whole, duration_s=10.0)

    assert len(few.at) <= 2 * KNOTS + 2
    assert per_second(few, edges) == pytest.approx(per_second(whole, edges), rel=0.01)
    assert few.total[-1] == pytest.approx(whole.total[-1])


def test_a_long_prompt_does_not_hide_the_further_tokens() -> None:
    walls = np.array([[5_000_000_000, 4_000_000_000], [20_000_000, 25_000_000], [30_000_000, -1]])

    assert tokens.top_ms(walls) == pytest.approx(90.0)
    assert tokens.top_ms(walls[1:]) == pytest.approx(31.5)
