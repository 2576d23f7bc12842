"""`cvtrace run --watch` while a real model is loaded over a slow network: the phase is the one that runs, not the one before."""

from __future__ import annotations

import re
import sys
from itertools import groupby
from pathlib import Path

import pytest
from test_watch import Terminal, command

from cvtrace.lab.stack import Options, temporary

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "phi3-qa.py"
DELAY_S = 0.1
"""Of each answer: two dozen chunks are fetched one after the other, and the line is drawn more than twice a second."""
pytestmark = pytest.mark.root


def test_watch_shows_the_load_while_it_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    with temporary(Options(size_bytes=20_000_000, client="lab", chunk_bytes=1 << 20, delay_s=DELAY_S)) as stack:
        arguments = ["-m", str(stack.model), "-e", "cpu", "-g", "-p", "the rain in spain", "--tokens", "8"]
        words = ["--mount", str(stack.mountpoint), "--", sys.executable, str(SCRIPT), *arguments]

        terminal = Terminal(command(tmp_path / "trace", *words, probes="ebpf"))

    assert terminal.exit_code == 0, terminal.lines
    matches = [re.match(r"cvtrace [\d.]+ s · ([a-z ]+) · ", rows[-1]) for rows in terminal.screens]
    phases = [phase for phase, _ in groupby(match[1] for match in matches if match)]
    # Whether the line is drawn before the load begins is chance.
    assert next(phase for phase in phases if phase != "not loaded yet") == "in load", phases
