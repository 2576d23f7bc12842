"""Files of --phases: what they may say, and one sentence for each that is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cvtrace.probes.events import Kind
from cvtrace.probes.phases.functions import FUNCTIONS
from cvtrace.probes.phases.hook import environment, read_marks
from cvtrace.probes.phases.own import BadPhases, OwnFunction, library_pattern, read_own, symbols_of

TOML = """
[[functions]]
library = "libmine"
symbol = "mine_load"
phase = "load"

[[functions]]
python = "mine.model:Model.step"
phase = "decode"
"""
OWN = (OwnFunction("load", "libmine", "mine_load"), OwnFunction("decode", python="mine.model:Model.step"))
MODULE = """
class Model:
    @classmethod
    def load(cls, path):
        return cls()

    @staticmethod
    def check(value):
        return value * 2

    def step(self, token):
        if token < 0:
            raise ValueError("no token")
        return token + 1

    async def later(self):
        return "later"


def finish():
    'Says that it ends.'
"""
SCRIPT = """
import asyncio
import mine.model as mine

model = mine.Model.load("x")
assert isinstance(model, mine.Model) and mine.Model.check(2) == model.check(value=2) == 4
assert model.step(1) == 2
try:
    model.step(-1)
except ValueError:
    pass
assert asyncio.run(model.later()) == "later"
mine.finish()
assert mine.finish.__doc__ == 'Says that it ends.'
"""


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(TOML)
    rows = [
        {"library": "libmine", "symbol": "mine_load", "phase": "load"},
        {"python": "mine.model:Model.step", "phase": "decode"},
    ]
    (tmp_path / "b").write_text(json.dumps({"functions": rows}))

    assert read_own(tmp_path / "a.toml") == read_own(tmp_path / "b") == OWN


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has to consist of"),
        ("functions = []", "declares 0 functions"),
        ("functions = 3", "has to consist of"),
        ("[[functions]]\nphase = 'load'", "function 1 of .* has to have"),
        ("[[functions]]\nsymbol = 'x'\nlibrary = 'libmine'", "has to have"),
        ("[[functions]]\nsymbol = 3\nlibrary = 'libmine'\nphase = 'load'", "all of them texts"),
        (
            "[[functions]]\nsymbol = 'x'\nlibrary = 'libmine'\nphase = 'loading'",
            "phase 'loading': use one of load, tokenizer",
        ),
        ("[[functions]]\nsymbol = 'x y'\nlibrary = 'libmine'\nphase = 'load'", "symbol 'x y'"),
        ("[[functions]]\nsymbol = 'x'\nlibrary = '/lib/x'\nphase = 'load'", "library '/lib/x'"),
        ("[[functions]]\nsymbol = 'x'\nlibrary = '.'\nphase = 'load'", "library '.'"),
        ("[[functions]]\npython = 'mine'\nphase = 'load'", "module:function"),
        ("[[functions]]\npython = '__main__:load'\nphase = 'load'", "cvtrace.phase"),
        ("[[functions]]\npython = 'a:b'\nphase = 'load'\nother = 'x'", "has to have"),
        ("[[functions", "is no TOML"),
        ("{", "is no JSON"),
        ('{"functions": [' + "[" * 100_000, "is no JSON"),
    ],
)
def test_a_file_that_is_wrong_gets_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "phases"
    path.write_text(text)

    with pytest.raises(BadPhases, match=sentence) as refusal:
        read_own(path)
    assert "\n" not in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_what_is_no_readable_text_file_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"#" * (1 << 20 | 1))
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", "bytes", "large", "pipe", "."):
        with pytest.raises(BadPhases, match=re.escape(str(tmp_path))):
            read_own(tmp_path / name)


def test_the_command_refuses_a_wrong_file_before_anything_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "phases.toml").write_text("x = 1")
    command = [sys.executable, "-m", "cvtrace", "run", "--phases", "phases.toml", "--", "true"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "Invalid value for --phases: phases.toml has to consist of [[functions]]" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["phases.toml"]


def test_a_file_contains_a_symbol_if_its_name_contains_that_of_the_library() -> None:
    pattern = re.compile(library_pattern(OWN))
    assert pattern.search(b"/opt/libmine.so.3")
    assert pattern.search(b"/opt/libmine.so.3\0\0\0")
    assert not pattern.search(b"/opt/libmine/libother.so")
    assert symbols_of(OWN, "libmine.so.3") == {"mine_load": OWN[0].index}
    assert symbols_of(OWN, "libother.so") == {}


def test_named_functions_of_every_kind_are_marked(tmp_path: Path) -> None:
    names = {
        "Model.load": "load",
        "Model.check": "run",
        "Model.step": "decode",
        "Model.later": "run",
        "finish": "teardown",
    }
    own = [OwnFunction(phase, python=f"mine.model:{name}") for name, phase in names.items()]
    own += [OwnFunction("load", python="mine.model:no_such"), OwnFunction("load", python="no.such:function")]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    (tmp_path / "mine" / "model.py").write_text(MODULE)
    marks = tmp_path / "marks"
    environ = environment(marks, {**os.environ, "PYTHONPATH": str(tmp_path)}, own=own)

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environ, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    events, _ = read_marks(marks)
    calls = [
        (FUNCTIONS[row["a"]].symbol, int(row["c"]), int(row["ret"])) for row in events[events["kind"] == Kind.PHASE]
    ]
    assert calls == [
        ("own.load", 0, 0),
        ("own.run", 0, 0),
        ("own.run", 0, 0),
        ("own.decode", 1, 0),
        ("own.decode", 1, -1),
        ("own.run", 0, 0),
        ("own.teardown", 0, 0),
    ]
