"""`cvtrace.phase` in real interpreters: its marks, and no effect on the script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cvtrace import marking
from cvtrace.probes.events import TEXT_MAX, UNFINISHED, Kind
from cvtrace.probes.phases import hook
from cvtrace.probes.phases.functions import INDEX, USER_PHASE
from cvtrace.probes.phases.hook import MARKS, read_marks


def python(script: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def run(script: str, marks: Path) -> str:
    result = python(f"import cvtrace, os, threading\n{script}", {**os.environ, MARKS: str(marks)})
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def phases_of(marks: Path, end_ns: int = 0) -> list[tuple[str, int, int]]:
    """Return name, ret and tid of each user phase, in the order they began."""
    events, texts = read_marks(marks, end_ns)
    assert set(events["a"].tolist()) <= {USER_PHASE}
    names = {(int(text["ts"]), int(text["tid"])): bytes(text["text"]).decode() for text in texts}
    return [(names[int(event["ts"]), int(event["tid"])], int(event["ret"]), int(event["tid"])) for event in events]


def test_numbers_of_marks_are_those_of_the_schema() -> None:
    assert (marking.PHASE, marking.UNFINISHED, marking.TEXT_MAX) == (Kind.PHASE, UNFINISHED, TEXT_MAX)
    assert (marking.NAME, marking.NAME_BYTES, marking.USER_PHASE) == (hook.NAME, hook.NAME_BYTES, USER_PHASE)


def test_phases_nest_and_repeat(tmp_path: Path) -> None:
    # GIVEN a script with a phase in a phase, twice
    run("for _ in range(2):\n with cvtrace.phase('outer'):\n  with cvtrace.phase('inner'): pass", tmp_path / "m")
    # THEN each is one mark with its name, on the clock of the trace
    assert [name for name, *_ in phases_of(tmp_path / "m")] == ["outer", "inner"] * 2
    events, texts = read_marks(tmp_path / "m")
    outer, inner = events[0], events[1]
    assert outer["ts"] < inner["ts"]
    assert inner["ts"] + inner["dur"] < outer["ts"] + outer["dur"]
    assert set(events["kind"]) == {Kind.PHASE}
    assert set(texts["kind"]) == {Kind.PHASE}


def test_a_decorated_function_is_a_phase(tmp_path: Path) -> None:
    script = (
        "@cvtrace.phase('work')\ndef work(a, *, b):\n 'doc'\n return a + b\n"
        "@cvtrace.phase('later')\nasync def later(): return 3\n"
        "import asyncio; print(work(1, b=2), work.__name__, work.__doc__, asyncio.run(later()))\n"
    )
    assert run(script, tmp_path / "m") == "3 work doc 3\n"
    assert [name for name, *_ in phases_of(tmp_path / "m")] == ["work", "later"]


def test_each_thread_marks_its_own_phases(tmp_path: Path) -> None:
    # GIVEN one phase object in use by two threads at once
    script = (
        "p = cvtrace.phase('shared'); both = threading.Barrier(2)\n"
        "def work():\n with p: both.wait(); both.wait()\n"
        "t = threading.Thread(target=work); t.start(); work(); t.join()\n"
    )
    run(script, tmp_path / "m")
    marks = phases_of(tmp_path / "m")
    assert [name for name, *_ in marks] == ["shared"] * 2
    assert len({tid for *_, tid in marks}) == 2


def test_an_exception_is_raised_and_marked(tmp_path: Path) -> None:
    script = "try:\n with cvtrace.phase('bad'): 1 / 0\nexcept ZeroDivisionError: print('raised')"
    assert run(script, tmp_path / "m") == "raised\n"
    assert [(name, ret) for name, ret, _ in phases_of(tmp_path / "m")] == [("bad", -1)]


def test_a_phase_that_never_ends_reaches_to_the_end_of_the_recording(tmp_path: Path) -> None:
    run("cvtrace.phase('endless').__enter__(); os._exit(0)", tmp_path / "m")
    start_ns = int(read_marks(tmp_path / "m")[0]["ts"][0])
    events, _ = read_marks(tmp_path / "m", start_ns + 5000)
    assert events["kind"].tolist() == [Kind.PHASE | UNFINISHED]
    assert events["dur"].tolist() == [5000]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("Größe 模型", "Größe 模型"),
        ("x" * 600, "x" * TEXT_MAX),
        ("", ""),
        ("a\0b", "a\0b"),
        ("\udcff", "?"),
        (7, "7"),
        (None, "None"),
    ],
)
def test_any_phase_name_is_accepted(tmp_path: Path, name: object, expected: str) -> None:
    run(f"with cvtrace.phase({name!r}): pass", tmp_path / "m")
    events, texts = read_marks(tmp_path / "m")
    assert len(events) == 1
    assert [bytes(name).decode() for name in texts["text"]] == ([expected] if expected else [])


def test_a_phase_never_raises(tmp_path: Path) -> None:
    # GIVEN a name that cannot be told, marks that cannot be written, and a phase that was never entered
    script = (
        "class Bad:\n def __str__(self): raise ValueError\n"
        "with cvtrace.phase(Bad()): pass\n"
        "cvtrace.phase('x').__exit__(None, None, None)\n"
        "with cvtrace.phase('x'): os.closerange(3, 4096)\n"
        "own = open('own', 'w')\n"
        "with cvtrace.phase('y'): pass\n"
        "own.close(); assert open('own').read() == ''; os.remove('own')\n"
    )
    run(f"os.chdir({str(tmp_path)!r})\n{script}", tmp_path / "m")
    run("with cvtrace.phase('x'): print('ok')", tmp_path / "missing" / "m")


def test_a_forked_child_writes_marks(tmp_path: Path) -> None:
    run(
        "with cvtrace.phase('a'): pass\nif os.fork() == 0:\n with cvtrace.phase('b'): os._exit(0)\nos.wait()",
        tmp_path / "m",
    )
    events, _ = read_marks(tmp_path / "m")
    assert len(set(events["tgid"].tolist())) == 2


def test_without_a_recording_the_helper_imports_and_does_nothing(tmp_path: Path) -> None:
    # GIVEN a script that is not traced
    environ = {name: value for name, value in os.environ.items() if name != MARKS}
    script = "import sys; before = set(sys.modules)\n{}\nprint(*sorted(set(sys.modules) - before))"
    # WHEN it uses a phase
    used = python(script.format("import cvtrace\nwith cvtrace.phase('x'): pass"), environ)
    # THEN only what holds the class has been imported
    modules = {name for name in used.stdout.split() if not name.startswith("cvtrace")}
    assert used.returncode == 0, used.stderr
    assert modules <= {"__future__", "collections.abc", "_collections_abc", "collections", "time"} | set(
        python(script.format("import collections.abc"), environ).stdout.split()
    )


def test_an_untraced_phase_does_nothing() -> None:
    # GIVEN a script in which marking would raise out of the phase
    script = (
        "import cvtrace, cvtrace.marking as marking, sys\n"
        "def never(*_): raise SystemExit('marked')\n"
        "marking._opened = marking.monotonic_ns = marking.get_native_id = never\n"
        "with cvtrace.phase('x'): pass\n"
        "cvtrace.phase('y')(lambda: print('done'))()\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != MARKS}
    # THEN it is neither timed nor marked: some 0.2 µs
    result = python(script, environ)
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


def test_tokens_take_the_time_since_the_one_before_and_the_first_since_its_phase_began(tmp_path: Path) -> None:
    # GIVEN two answers of a script: phases within an answer begin no other one
    script = """
for _ in range(2):
    with cvtrace.phase('answer'):
        for _ in range(3):
            with cvtrace.phase('sample'):
                pass
            cvtrace.token(4)
"""
    run(script, tmp_path / "m")

    events, texts = read_marks(tmp_path / "m")
    answers = events[np.isin(events["ts"], texts["ts"][texts["text"] == b"answer"]) & (events["a"] == USER_PHASE)]
    tokens = events[events["a"] != USER_PHASE]
    first, further = INDEX["cvtrace.first_token"], INDEX["cvtrace.token"]
    assert tokens["a"].tolist() == [first, further, further] * 2
    assert tokens["c"].tolist() == [4] * 6
    assert tokens["ts"][::3].tolist() == answers["ts"].tolist()
    assert (tokens["ts"][1:3] == (tokens["ts"] + tokens["dur"])[:2]).all()
    assert ((tokens["ts"] + tokens["dur"])[2::3] <= answers["ts"] + answers["dur"]).all()


def test_without_a_recording_a_token_is_nothing() -> None:
    result = python("import cvtrace; cvtrace.token(); cvtrace.token('x')", dict(os.environ))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_tokens_of_several_threads_are_apart(tmp_path: Path) -> None:
    script = """
def answer():
    with cvtrace.phase('answer'):
        cvtrace.token(); cvtrace.token()
threads = [threading.Thread(target=answer) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    run(script, tmp_path / "m")

    events, _ = read_marks(tmp_path / "m")
    tokens = events[events["a"] != USER_PHASE]
    assert len(tokens) == 6
    assert (tokens["b"] == tokens["tid"]).all()
    assert sorted(tokens["a"].tolist()) == [INDEX["cvtrace.first_token"]] * 3 + [INDEX["cvtrace.token"]] * 3
