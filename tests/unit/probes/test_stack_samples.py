"""What samplers of stacks write becomes samples whose texts are bounded and printable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cvtrace.probes.capabilities import held
from cvtrace.probes.elf import Elf
from cvtrace.probes.probe import CannotObserve
from cvtrace.probes.stacks import able
from cvtrace.probes.stacks.frames import LONGEST_FUNCTION, MOST_FRAMES, Samples, safe_frame
from cvtrace.probes.stacks.native import add_script
from cvtrace.probes.stacks.python import add_events


def event(ph: str, name: str, ts: int, line: int = 1, file: str = "a.py") -> dict[str, object]:
    return {
        "args": {"filename": file, "line": line},
        "cat": "py-spy",
        "name": name,
        "ph": ph,
        "pid": 7,
        "tid": 99,
        "ts": ts,
    }


def test_a_stack_of_python_holds_until_two_intervals_before_the_next() -> None:
    events = [
        event("B", "thread (7): MainThread", 1000),
        event("B", "f", 1000, 3),
        event("E", "f", 101_000),
        event("B", "g", 101_000, 5),
    ]
    events += [event("E", "g", 131_000), event("E", "thread (7): MainThread", 131_000)]
    samples = Samples()

    assert add_events(json.dumps(events).encode(), 1_000_000_000, samples)

    assert samples.ts == [1_001_000_000, 1_101_000_000]
    assert samples.dur == [80_000_000, 10_000_000]
    assert samples.tid == [7, 7]
    assert [[(f.function, f.line) for f in frames] for frames in samples.stacks] == [[("f", 3)], [("g", 5)]]


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[1]", b'[{"tid": 1, "ts": 1}]', b"[" * 100_000, b'[{"tid":1,"ts":1,"ph":"B","name":"x","args":[]}]'],
)
def test_anything_else_is_no_sample(data: bytes) -> None:
    samples = Samples()

    add_events(data, 0, samples)

    assert samples.ts == []


def test_perf_s_stacks_are_read_with_lines_and_libraries() -> None:
    lines = [
        "  7/8  12.000000345: \n", "\t   cf503 __read (/usr/lib/libc.so.6)\n", "  ./io/read.c:26\n",
        "\t    1184 load (model) (/opt/a (b)/n)\n", "  /src/n.c:6\n", "\t    1090 _start (/opt/n)\n", "  ??:0\n", "\n", "junk\n", "\n",
    ]  # fmt: skip
    samples = Samples()

    add_script(lines, samples)

    assert (samples.ts, samples.tid) == ([12_000_000_345], [8])
    (frames,) = samples.stacks
    assert [(f.file, f.line, f.is_own) for f in frames] == [
        ("", 0, True),
        ("/src/n.c", 6, True),
        ("./io/read.c", 26, False),
    ]


def test_texts_are_bounded_and_printable() -> None:
    frame = safe_frame("f\x1b[31m\n\u202e" + "x" * 10_000, "/a/" * 10_000 + "b\x00.py", 10**20)

    assert len(frame.function) <= LONGEST_FUNCTION
    assert frame.function.isprintable()
    assert frame.file.endswith("b?.py")
    assert frame.line == 0
    samples = Samples()
    samples.add(0, 0, 1, [safe_frame(f"f{number}", "a.py", 1) for number in range(1000)])
    assert len(next(iter(samples.stacks))) == MOST_FRAMES


@pytest.mark.parametrize(
    "file, own",
    [("/home/a/x.py", True), ("/usr/lib/python3.11/threading.py", False), ("<frozen importlib._bootstrap>", False),
     ("/opt/lib/python3.13/site-packages/numpy/__init__.py", True), ("/a/cvtrace/probes/phases/inject/_cvtrace_marks.py", False)],
)  # fmt: skip
def test_frames_of_the_runtime_are_not_the_program_s(file: str, own: bool) -> None:
    assert safe_frame("f", file, 1).is_own is own


def musl_program(folder: Path) -> Path:
    """Return a copy of a program that asks for the loader of musl."""
    data = Path("/bin/true").read_bytes()
    loader = Elf("/bin/true").interpreter().encode()
    program = folder / "program"
    program.write_bytes(data.replace(loader + b"\0", b"/lib/ld-musl-x.so.1".ljust(len(loader), b"\0") + b"\0", 1))
    return program


def test_a_program_with_musl_is_refused(tmp_path: Path) -> None:
    assert able.uses_musl(str(musl_program(tmp_path)))
    assert not able.uses_musl("/bin/true")
    with pytest.raises(CannotObserve, match="uses the C library musl"):
        able.samplers("program", is_python=False, is_musl=True)


@pytest.mark.parametrize("scope, allowed", [("0", True), ("1", False), ("2", False), ("3", False)])
def test_yama_decides_who_may_be_sampled(
    scope: str, allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ptrace_scope").write_text(f"{scope}\n")
    monkeypatch.setattr(able, "YAMA", tmp_path / "ptrace_scope")
    monkeypatch.setattr(able, "held", lambda: 0)
    monkeypatch.setattr(able, "find_py_spy", lambda: "/usr/bin/py-spy")

    if allowed:
        assert able.samplers("python3", is_python=True, is_musl=False).keeps == ()
    else:
        with pytest.raises(CannotObserve, match="ptrace_scope is " + scope):
            able.samplers("python3", is_python=True, is_musl=False)


def test_perf_needs_root_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(able, "YAMA", tmp_path / "none")
    monkeypatch.setattr(able, "find_perf", lambda: None)
    with pytest.raises(CannotObserve, match="needs perf"):
        able.samplers("true", is_python=False, is_musl=False)
    monkeypatch.setattr(able, "find_perf", lambda: "/usr/bin/perf")
    monkeypatch.setattr(able, "held", lambda: held() & 0)
    with pytest.raises(CannotObserve, match="needs root"):
        able.samplers("true", is_python=False, is_musl=False)
