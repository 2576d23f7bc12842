"""Imports of modules: the time and the requests of each, in scenes with known times."""

from __future__ import annotations

import pytest
from scene import TARGET, Fetch, Scene

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Import, ImportedPackage, Report
from cvtrace.analysis.storage.imports import START
from cvtrace.probes.events import Kind, Opcode
from cvtrace.probes.phases.hook import ARMED


def waiting(scene: Scene, opcode: Opcode, at: float, to: float, *, tid: int = TARGET, **more: object) -> Scene:
    """Add a request that a thread sends, and is blocked on from `at` to `to`."""
    scene.request(opcode, at + 1, to - 2, to, sent=at, asker=tid, **more)  # type: ignore[arg-type]
    return scene.off(at, to - 1, to, by=201, tid=tid)


def program() -> Scene:
    """A script that imports `app`, which imports `heavy` and that `heavy.core`; what each waits for is known."""
    scene = Scene(end=1000)
    scene.add(Kind.PROC_EXEC, 0, tid=TARGET, text="/usr/bin/python3")
    scene.add(Kind.IMPORT, 100, tid=TARGET, a=ARMED)
    waiting(scene, Opcode.LOOKUP, 20, 60, node=1, child=5, name="site")
    scene.imported("app", 200, 900)
    waiting(scene, Opcode.OPEN, 210, 230, node=11)
    scene.imported("heavy", 300, 800, 1)
    waiting(scene, Opcode.OPEN, 310, 350, node=12)
    waiting(scene, Opcode.READ, 360, 400, node=12, size=4096)
    scene.imported("heavy.core", 500, 700, 2)
    waiting(scene, Opcode.LOOKUP, 510, 520, node=5, child=13, name="core.so")
    scene.request(Opcode.OPEN, 531, 620, 622, sent=530, node=13)
    scene.fetch(Fetch(handed=540, get=545, first=580, done=600, filled=610, size=5000, path="/site/core.so", suffix=""))
    scene.off(530, 621, 622, by=201)
    scene.imported("light", 950, 980)
    scene.add(Kind.PROC_EXIT, 1000, tid=TARGET)
    return scene


def by_name(report: Report) -> dict[str, Import]:
    return {row.module: row for row in report.imports}


def test_requests_belong_to_the_innermost_import() -> None:
    rows = by_name(analyse(program().trace()))

    core, heavy, app = rows["heavy.core"], rows["heavy"], rows["app"]
    assert (core.self_opens, core.self_lookups, core.self_http_fetches, core.self_http_bytes) == (1, 1, 1, 5000)
    assert (heavy.self_opens, heavy.self_reads, heavy.self_read_bytes, heavy.self_http_fetches) == (1, 1, 4096, 0)
    assert (app.self_opens, app.self_reads) == (1, 0)


def test_an_import_includes_the_requests_of_nested_imports() -> None:
    rows = by_name(analyse(program().trace()))

    assert (rows["app"].opens, rows["app"].reads, rows["app"].http_fetches) == (3, 1, 1)
    assert (rows["heavy"].opens, rows["heavy"].lookups) == (2, 1)
    assert rows["app"].imported_by is None
    assert rows["heavy.core"].imported_by == "heavy"


def test_times_of_imports_and_their_waits_are_those_that_were() -> None:
    rows = by_name(analyse(program().trace()))

    assert {name: round(row.wall_s * 1e6) for name, row in rows.items()} == {
        "app": 700,
        "heavy": 500,
        "heavy.core": 200,
        START: 100,
        "light": 30,
    }
    assert rows["app"].self_s == pytest.approx(200e-6)
    assert rows["heavy"].self_s == pytest.approx(300e-6)
    assert rows["heavy.core"].blocked_s == rows["heavy.core"].self_blocked_s == pytest.approx(102e-6)
    assert rows["heavy"].self_blocked_s == pytest.approx(80e-6)
    assert rows["app"].blocked_s == pytest.approx(20e-6 + 80e-6 + 102e-6)
    assert rows["light"].blocked_s == 0


def test_time_before_the_first_import_is_the_start_of_the_interpreter() -> None:
    row = by_name(analyse(program().trace()))[START]
    assert (row.wall_s, row.lookups) == (pytest.approx(100e-6), 1)
    assert row.blocked_s == pytest.approx(40e-6)


def test_packages_add_up_over_their_modules() -> None:
    rows: dict[str, ImportedPackage] = {row.package: row for row in analyse(program().trace()).import_packages}

    heavy = rows["heavy"]
    assert next(iter(rows)) == "heavy"
    assert (heavy.modules, heavy.processes, heavy.opens, heavy.lookups, heavy.http_fetches) == (2, 1, 2, 1, 1)
    assert heavy.self_s == heavy.wall_s == pytest.approx(500e-6)
    assert rows["app"].wall_s == pytest.approx(700e-6)
    assert rows["app"].self_s == pytest.approx(200e-6)
    inside = sum(row.self_s for row in rows.values())
    assert inside == pytest.approx(100e-6 + 700e-6 + 30e-6)


def test_a_module_imported_again_within_its_package_is_one_row() -> None:
    # GIVEN `import a.b`, whose parent imports a.b itself: the interpreter is in a.b twice
    scene = Scene(end=1000).imported("a.b", 100, 600).imported("a", 150, 550, 1).imported("a.b", 200, 400, 2)
    # WHEN
    rows = by_name(analyse(scene.trace()))
    # THEN the time of the inner one is not counted twice
    assert (rows["a.b"].count, rows["a.b"].wall_s) == (2, pytest.approx(500e-6))
    assert rows["a.b"].self_s == pytest.approx(300e-6)
    assert rows["a"].self_s == pytest.approx(200e-6)


def test_threads_and_processes_keep_their_imports_apart() -> None:
    # GIVEN two threads of the target, and a child, in imports at the same time
    scene = Scene(end=1000)
    scene.add(Kind.PROC_FORK, 10, tid=TARGET, a=150, b=150)
    scene.imported("one", 100, 500).imported("two", 200, 600, tid=101, tgid=TARGET)
    scene.imported("one", 300, 400, tid=150, tgid=150)
    waiting(scene, Opcode.OPEN, 310, 330, tid=101, node=21)
    waiting(scene, Opcode.OPEN, 350, 380, tid=150, node=22)
    # WHEN
    report = analyse(scene.trace())
    # THEN what each thread asked is its own
    rows = {(row.module, row.process): row for row in report.imports}
    assert {key: row.opens for key, row in rows.items()} == {("one", TARGET): 0, ("two", TARGET): 1, ("one", 150): 1}
    package = next(row for row in report.import_packages if row.package == "one")
    assert (package.processes, package.modules) == (2, 1)


def test_imports_that_fail_or_do_not_end_are_rows() -> None:
    scene = Scene(end=1000)
    scene.imported("absent", 100, 120, ret=-1).imported("absent", 130, 160, ret=-1)
    scene.imported("endless", 200, 5000, unfinished=True)
    rows = by_name(analyse(scene.trace()))
    assert (rows["absent"].count, rows["absent"].failed) == (2, 2)
    assert rows["endless"].failed == 0
    assert rows["endless"].wall_s == pytest.approx(800e-6)


def test_invalid_import_marks_are_ignored() -> None:
    # GIVEN imports nested in none, deeper than any, that end after the one they are nested in, or in odd order
    scene = program()
    full_report = analyse(scene.trace())
    scene.imported("orphan", 905, 910, 7).imported("deep", 911, 912, 2**63).imported("late", 920, 990, 1)
    report = analyse(scene.trace())
    # THEN the others are as before
    assert {row.module: row for row in report.imports if row.module in by_name(full_report)} == by_name(full_report)


def test_without_marks_or_requests_there_are_no_import_rows() -> None:
    assert analyse(Scene().trace()).imports == ()
    rows = by_name(analyse(Scene(end=1000).imported("app", 200, 900).trace(probe="portable")))
    assert rows["app"].wall_s == pytest.approx(700e-6)
    assert (rows["app"].opens, rows["app"].blocked_s, rows["app"].self_http_bytes) == (None, None, None)
