"""Imports that the hook marks, in real interpreters."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cvtrace.probes.events import TEXT_MAX, UNFINISHED, Kind
from cvtrace.probes.phases import hook
from cvtrace.probes.phases.hook import INJECT, environment, read_marks

TREE = {
    "outer/__init__.py": "from outer import inner\nimport time\ntime.sleep(0.02)\n",
    "outer/inner.py": "import time\ntime.sleep(0.03)\nimport leaf\n",
    "leaf.py": "import time\ntime.sleep(0.01)\n",
    "broken.py": "import leaf\nraise ValueError('no such thing')\n",
    "lacking.py": "import nothing_of_that_name\n",
    "killed.py": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
    "forking.py": "import os\nif os.fork() == 0:\n    import leaf\n    os._exit(0)\nos.wait()\nimport outer.inner\n",
}


@dataclass(frozen=True)
class Marked:
    """An import as it was marked."""

    module: str
    process: int
    thread: int
    start_ns: int
    dur_ns: int
    depth: int
    failed: bool
    unfinished: bool


def python(script: str, environ: dict[str, str], interpreter: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [interpreter, "-c", script], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Write modules that take known times."""
    for name, text in TREE.items():
        path = tmp_path / "modules" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "modules"


def plain(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree)}


def marked(tree: Path, end_ns: int = 0) -> list[Marked]:
    return list(_marked(tree, end_ns))


def _marked(tree: Path, end_ns: int) -> Iterator[Marked]:
    events, texts = read_marks(tree / "marks", end_ns)
    names = {(int(row["ts"]), int(row["tid"])): row["text"].decode() for row in texts if row["kind"] == Kind.IMPORT}
    for row in events:
        if int(row["kind"]) & ~UNFINISHED == Kind.IMPORT and row["a"] != hook.ARMED:
            yield Marked(
                module=names[int(row["ts"]), int(row["tid"])],
                process=int(row["tgid"]),
                thread=int(row["tid"]),
                start_ns=int(row["ts"]),
                dur_ns=int(row["dur"]),
                depth=int(row["b"]),
                failed=bool(row["ret"] < 0),
                unfinished=bool(int(row["kind"]) & UNFINISHED),
            )


def run(script: str, tree: Path, interpreter: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return python(script, environment(tree / "marks", plain(tree), genai=False), interpreter)


def interpreters() -> list[str]:
    """Return interpreters of other versions that are installed here and run."""
    paths = [path for minor in range(9, 16) if (path := shutil.which(f"python3.{minor}"))]
    paths += [str(path) for path in Path.home().glob(".pyenv/versions/3.*/bin/python")]
    version = {path: python("import sys; print(sys.version_info[1])", dict(os.environ), path).stdout for path in paths}
    by_version = {int(minor): path for path, minor in version.items() if minor.strip() and int(minor) >= 9}
    return [path for minor, path in by_version.items() if minor != sys.version_info.minor]


def test_every_import_is_marked_once_with_what_it_is_nested_in(tree: Path) -> None:
    check_nesting(tree, sys.executable)


def test_interpreters_of_other_versions_mark_imports_likewise(tree: Path) -> None:
    paths = interpreters()
    if not paths:
        pytest.skip("no other version of Python from 3.9 on is installed")
    for path in paths:
        check_nesting(tree, path)
        (tree / "marks").unlink()


def check_nesting(tree: Path, interpreter: str) -> None:
    # GIVEN a package that imports a module of its own, which imports another
    # WHEN a script imports it twice, and once more by importlib
    result = run(
        "import outer, importlib, outer\nimportlib.import_module('leaf')\nfrom outer import inner", tree, interpreter
    )
    # THEN each has one mark, with its depth and a time that holds those nested in it
    assert (result.returncode, result.stderr) == (0, "")
    by_module = {mark.module: mark for mark in marked(tree)}
    assert [mark.module for mark in marked(tree)].count("outer.inner") == 1
    assert {name: mark.depth for name, mark in by_module.items() if name in ("outer", "outer.inner", "leaf")} == {
        "outer": 0,
        "outer.inner": 1,
        "leaf": 2,
    }
    assert by_module["leaf"].dur_ns >= 10e6
    assert by_module["outer.inner"].dur_ns >= by_module["leaf"].dur_ns + 30e6
    assert by_module["outer"].dur_ns >= by_module["outer.inner"].dur_ns + 20e6
    assert oct((tree / "marks").stat().st_mode)[-3:] == "600"


def test_errors_and_their_tracebacks_are_those_of_an_interpreter_without_the_hook(tree: Path) -> None:
    # GIVEN modules that raise, that lack another, and that do not exist
    for script in ("import broken", "import lacking", "import not_there", "from outer import absent"):
        # WHEN
        result = run(script, tree)
        # THEN the script sees the same, to the line
        without = python(script, plain(tree))
        assert (result.returncode, result.stdout, result.stderr) == (without.returncode, without.stdout, without.stderr)
    assert {mark.module: mark.failed for mark in marked(tree)} | {"leaf": False} == {
        mark.module: mark.module not in ("leaf", "outer", "outer.inner") for mark in marked(tree)
    }


def test_warnings_of_a_module_name_the_line_that_imports_it(tree: Path) -> None:
    (tree / "old.py").write_text("import warnings\nwarnings.warn('use another', DeprecationWarning, stacklevel=2)\n")
    script = "import old"
    without, result = python(script, {**plain(tree), "PYTHONWARNINGS": "always"}), None
    result = python(script, environment(tree / "marks", {**plain(tree), "PYTHONWARNINGS": "always"}, genai=False))
    assert "use another" in result.stderr
    assert result.stderr == without.stderr


def test_threads_have_imports_of_their_own(tree: Path) -> None:
    # GIVEN two threads WHEN each imports something at the same time
    script = (
        "import threading\n"
        "jobs = [threading.Thread(target=__import__, args=(name,)) for name in ('outer', 'leaf')]\n"
        "[job.start() for job in jobs]\n[job.join() for job in jobs]\n"
    )
    result = run(script, tree)
    # THEN both are outermost, each in its thread
    assert (result.returncode, result.stderr) == (0, "")
    outer, leaf = (
        next(mark for mark in marked(tree) if mark.module == name and mark.depth == 0) for name in ("outer", "leaf")
    )
    assert outer.thread != leaf.thread
    assert outer.process == leaf.process


def test_an_import_in_which_the_process_is_killed_has_begun(tree: Path) -> None:
    # GIVEN a module that kills the process WHEN it is imported
    result = run("import leaf, killed", tree)
    # THEN its begin is known, and that of nothing is lost
    assert result.returncode == -signal.SIGKILL
    by_module = {mark.module: mark for mark in marked(tree, end_ns=2**60)}
    assert by_module["killed"].unfinished
    assert not by_module["leaf"].unfinished


def test_imports_before_a_fork_are_marked_once(tree: Path) -> None:
    # GIVEN a module that forks in the middle of its import, whose child imports something
    result = run("import forking", tree)
    # THEN the child's import is its own, and what the parent had begun is only the parent's
    assert (result.returncode, result.stderr) == (0, "")
    marks = marked(tree)
    assert [mark.module for mark in marks].count("forking") == 1
    leaves = [mark for mark in marks if mark.module == "leaf"]
    assert len({leave.process for leave in leaves}) == 2


def test_a_long_name_is_cut_and_an_odd_one_stays(tree: Path) -> None:
    long, odd = "n" * 700, "ünï"
    (tree / f"{odd}.py").write_text("")
    result = run(f"import {odd}\ntry: import {long}\nexcept ImportError: pass", tree)
    assert (result.returncode, result.stderr) == (0, "")
    modules = [mark.module for mark in marked(tree)]
    assert odd in modules
    assert "n" * TEXT_MAX in modules


def test_a_target_that_closes_every_descriptor_continues(tree: Path) -> None:
    # GIVEN a script that closes all descriptors and opens a file of its own WHEN it imports something
    directory = tree / "own"
    result = run(
        f"import os, leaf\nos.closerange(3, 4096)\nmine = open({str(directory)!r}, 'w')\nimport outer\nmine.close()",
        tree,
    )
    # THEN nothing is written into its file
    assert (result.returncode, result.stderr) == (0, "")
    assert directory.read_bytes() == b""


def test_the_hook_loads_no_module_that_the_script_would_not(tree: Path) -> None:
    script = "import leaf, sys; print(sorted(sys.modules))"
    more = set(eval(run(script, tree).stdout)) - set(eval(python(script, plain(tree)).stdout))
    assert more <= {"sitecustomize", "struct", "_struct"}


def test_numbers_of_marks_are_those_of_the_schema() -> None:
    spec = importlib.util.spec_from_file_location("imports_under_test", INJECT / "_cvtrace_imports.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (module.IMPORT, module.UNFINISHED, module.TEXT_MAX) == (Kind.IMPORT, UNFINISHED, TEXT_MAX)
    assert (module.IMPORT_NAME, module.NAME_BYTES, module.ARMED) == (hook.IMPORT_NAME, hook.NAME_BYTES, hook.ARMED)
