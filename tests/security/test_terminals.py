"""Names from traces, mounts and paths cannot send control characters to a terminal.

Escape sequences from meta.json, paths and keys reached stderr; one of them types into the shell of some terminals.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cvtrace_run import CVTRACE

from cvtrace.commands.doctor import _print
from cvtrace.probes.doctor.finding import Examination, Finding
from cvtrace.probes.events import EVENT, TEXT, Kind
from cvtrace.probes.visible import printable, printable_lines
from cvtrace.tracer.store import TraceWriter

EVIL = "\x1b]0;owned\x07\x1b[31m\x9b2J\x9d52;c;eA==\x9c\u202e\r\b\x7f"
"""Sets the title, colours, clears the screen (C1), sets the clipboard, turns the writing, goes back."""
STEERS = ("\x1b", "\x07", "\x9b", "\x9d", "\x9c", "\u202e", "\r", "\b", "\x7f")


def evil_trace(path: Path, **meta: object) -> Path:
    writer = TraceWriter(
        path,
        {
            "clock": {"start_ns": 0, "end_ns": 10**9},
            "target": {"argv": [f"python{EVIL}", f"qa{EVIL}.py"], "pid": 7, "cwd": f"/{EVIL}", "exit_code": 3},
            "mounts": [{"path": f"/cvmfs/{EVIL}", "fqrn": EVIL, "client": EVIL, "version": EVIL, "error": EVIL}],
            "missing": [EVIL],
            "lost": {EVIL: 3},
            "host": EVIL,
            "started": EVIL,
            "probe": EVIL,
            "error": EVIL,
            **meta,
        },
    )
    events, texts = np.zeros(2, dtype=EVENT), np.zeros(2, dtype=TEXT)
    events["ts"], events["dur"], events["kind"], events["tgid"], events["tid"] = (
        (10, 20),
        5,
        (Kind.PHASE, Kind.SYS_OPEN),
        7,
        7,
    )
    events["a"] = (0, 0)
    texts["ts"], texts["tid"], texts["kind"] = (10, 20), 7, events["kind"]
    texts["text"], texts["size"] = EVIL.encode(), len(EVIL.encode())
    writer.write(events, texts)
    writer.finish(end="exited")
    return path


def output_of(*words: str | Path, cwd: Path) -> tuple[int, str]:
    result = subprocess.run([*CVTRACE, *map(str, words)], cwd=cwd, capture_output=True, timeout=120, check=False)
    return result.returncode, (result.stdout + result.stderr).decode("utf-8", "surrogateescape")


def harmless(text: str) -> bool:
    return not any(steer in text for steer in STEERS) and not any(
        0xDC80 <= ord(character) <= 0xDCFF for character in text
    )


@pytest.mark.parametrize(
    "words",
    [
        ["report", "trace"],
        ["report", "trace", "-v"],
        ["report", "trace", "--what-if"],
        ["check", "trace", "trace.events == 77", "trace.lost == 0"],
        ["check", "trace", f"{EVIL} == 1"],
        ["check", "trace", f"decode{EVIL}.fuse_reads == 1"],
        ["compare", "trace", "trace"],
        ["compare", "trace", EVIL],
        ["report", EVIL],
        ["report", "trace", "--format", EVIL],
        ["report", "trace", f"--{EVIL}"],
        ["report", "trace", "-o", f"nowhere/{EVIL}"],
        ["report", "trace", "--access-log", EVIL],
        ["report", "trace", "--model", EVIL],
        ["report", EVIL + "trace"],
        ["run", "-o", f"nowhere/{EVIL}", "--", "/bin/true"],
        ["run", EVIL + ".py"],
        ["run", "--", EVIL],
        ["run", "--mount", EVIL, "--", "/bin/true"],
        ["run", "--user", EVIL, "--", "/bin/true"],
        ["run", "--python", EVIL, "x.py"],
        ["run", "--buffer", EVIL, "--", "/bin/true"],
        ["attach", EVIL],
        ["doctor", "--mount", EVIL],
        [EVIL],
    ],
    ids=lambda words: " ".join(words).replace(EVIL, "EVIL"),
)
def test_no_output_contains_terminal_control_characters(tmp_path, words):
    evil_trace(tmp_path / "trace")
    (tmp_path / "x.py").write_text("")
    _, text = output_of(*words, cwd=tmp_path)
    assert text
    assert harmless(text), text.encode()[:3000]


@pytest.mark.parametrize(
    "change",
    [
        {"schema": f"cvtrace-trace/{EVIL}"},
        {"mounts": [{"path": 5, EVIL: 1}]},
        {"lost": {EVIL: "x"}},
        {"clock": {"start_ns": EVIL}},
        {"target": {"argv": [EVIL, 5]}},
        {"probe": {EVIL: EVIL}},
        {"missing": [EVIL, 5]},
    ],
    ids=str,
)
def test_an_error_about_a_damaged_trace_contains_no_control_characters(tmp_path, change):
    path = evil_trace(tmp_path / f"trace{EVIL}".replace("/", ""))
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps({**meta, **change}))
    code, text = output_of("report", path, cwd=tmp_path)
    assert code == 4, text
    assert harmless(text), text.encode()
    assert "Traceback" not in text
    assert len(text.strip().splitlines()) == 1


def test_findings_of_doctor_contain_no_control_characters(capsys):
    """GIVEN a mount whose attributes are an attack."""
    finding = Finding("cvmfs", f"name{EVIL}", "warning", f"says{EVIL}", f"mend{EVIL}", f"/cvmfs/{EVIL}")
    _print(Examination((finding,), None))
    assert harmless(capsys.readouterr().out)


def test_only_control_characters_are_escaped():
    assert printable_lines("a\nb") == "a\nb"
    assert printable("ä €\n") == "ä €\\n"
    assert printable("/cvmfs/模型/🚀") == "/cvmfs/模型/🚀"
