"""The folder of an experiment: what is continued, what is refused, what is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bench_runs import info, run

from cvtrace.analysis.bench import BenchInfo, read_bench
from cvtrace.experiment.record import Record, open_record
from cvtrace.tracer.errors import TraceExists, TraceUnwritable
from cvtrace.tracer.user import current_user

ABOUT = replace(info(), settings="one", finished=False)


def opened(output: Path | None, about: BenchInfo = ABOUT, *, force: bool = False) -> tuple[Record, bool]:
    return open_record(output, "qa", about, current_user(), force=force, held_out=None)


def interrupted(path: Path | None) -> Record:
    """Return an experiment with two runs."""
    record, _ = opened(path)
    record.update(ABOUT)
    record.add(run("cold", 2.0))
    record.add(run("hot", 1.0))
    return record


def test_every_finished_run_is_on_disk_at_once(tmp_path: Path) -> None:
    interrupted(tmp_path / "out")
    assert [each.state for each in read_bench(tmp_path / "out").runs] == ["cold", "hot"]


def test_the_same_command_continues_with_the_seed_of_the_first(tmp_path: Path) -> None:
    interrupted(tmp_path / "out")
    record, continued = opened(tmp_path / "out", replace(ABOUT, seed=99))
    assert continued
    assert (record.info.seed, len(record.runs)) == (7, 2)


def test_without_a_name_the_unfinished_folder_of_the_same_command_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = interrupted(None)
    record, continued = opened(None)
    assert (continued, record.path) == (True, first.path)


def test_another_command_does_not_continue_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    interrupted(Path("cvtrace-bench-qa-20260101-000000"))
    record, continued = opened(None, replace(ABOUT, settings="other"))
    assert not continued
    assert record.runs == []


def test_a_finished_experiment_is_extended_by_more_repeats_and_replaced_only_on_demand(tmp_path: Path) -> None:
    record = interrupted(tmp_path / "out")
    record.info = replace(record.info, finished=True)
    record.finish(record.summarised(), "page")
    assert (tmp_path / "out" / "bench.html").read_text() == "page"
    with pytest.raises(TraceExists, match="more --repeats continue it"):
        opened(tmp_path / "out")
    assert opened(tmp_path / "out", replace(ABOUT, repeats=6))[1]
    assert opened(tmp_path / "out", force=True)[0].runs == []


def test_another_experiment_or_another_folder_is_left_alone(tmp_path: Path) -> None:
    interrupted(tmp_path / "out")
    with pytest.raises(TraceExists, match="another experiment"):
        opened(tmp_path / "out", replace(ABOUT, settings="two"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("x")
    for force in (False, True):
        with pytest.raises(TraceExists, match="no folder of `cvtrace bench`"):
            opened(tmp_path / "mine", force=force)
    assert (tmp_path / "mine" / "thesis").exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TraceUnwritable, match="cannot make the folder"):
        opened(tmp_path / "no" / "folder")


def test_an_experiment_without_a_run_leaves_nothing(tmp_path: Path) -> None:
    record, _ = opened(tmp_path / "out")
    record.discard()
    assert list(tmp_path.iterdir()) == []
