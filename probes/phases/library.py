"""Finding libonnxruntime-genai.so as the target's interpreter would, without importing anything of it.

The caller sees to it that this runs with the rights of the target's user: the folders are that user's, and the interpreter is
executed.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from cvtrace.probes.phases.linked import linked_libraries
from cvtrace.probes.phases.own import OwnFunction, symbols_of
from cvtrace.probes.phases.runtimes.table import LIBRARY as TABLE
from cvtrace.probes.phases.runtimes.table import PROGRAM, RUNTIMES

PACKAGE: Final = "onnxruntime_genai"
LIBRARY: Final = "libonnxruntime-genai.so"
ANSWER_S: Final = 10.0
LONGEST_ANSWER: Final = 1 << 16

# find_spec of a top-level name looks at folders and imports nothing.
_QUESTION: Final = (
    "import importlib.util as u; s = u.find_spec('onnxruntime_genai'); "
    "print('\\n'.join(s.submodule_search_locations) if s and s.submodule_search_locations else '')"
)


def find_libraries(python: str | None, environ: Mapping[str, str], *, program: str | None = None) -> tuple[str, ...]:
    """Return the paths of the library that a target may map: of `python`, of PYTHONPATH and of LD_LIBRARY_PATH, and what a
    `program` that is no Python is linked to.

    The folders are looked at first; the interpreter is asked only when they hold none: asking reads its files, which would
    warm the caches of an environment on CVMFS.
    """
    folders = [Path(folder) / PACKAGE for folder in _split(environ.get("PYTHONPATH"))]
    if python is not None:
        folders += _site_packages(python)
    libraries = list(_in(folders))
    if python is not None and not libraries:
        libraries = list(_in(Path(folder) for folder in _ask(python, environ)))
    libraries += _in(Path(folder) for folder in _split(environ.get("LD_LIBRARY_PATH")))
    if python is None and program is not None:
        libraries += [path for path in linked_libraries(program, environ) if LIBRARY in path.rpartition("/")[2]]
    return tuple(dict.fromkeys(libraries))


def find_runtime_libraries(
    python: str | None,
    environ: Mapping[str, str],
    *,
    program: str | None = None,
    own: Collection[OwnFunction] = (),
) -> tuple[str, ...]:
    """Return the paths of libraries of the other runtimes, as far as they are known before the start, and `program` if it contains one.

    Of an interpreter only the usual folders are looked at; what is elsewhere is noticed when the target opens it.
    """
    if python is None:
        if program is None:
            return ()
        libraries = [path for path in linked_libraries(program, environ) if _is_runtime(path, own)]
        name = os.path.basename(program)  # noqa: PTH119 - a text
        is_runtime = PROGRAM.fullmatch(os.fsencode(name)) or symbols_of(own, name)
        return (*libraries, program) if is_runtime else tuple(libraries)
    folders = [Path(folder) for folder in _split(environ.get("PYTHONPATH"))]
    folders += [folder.parent for folder in _site_packages(python)]
    patterns = [pattern for runtime in RUNTIMES for pattern in runtime.packages]
    paths = (path for folder in folders for pattern in patterns for path in sorted(folder.glob(pattern)))
    return tuple(dict.fromkeys(str(path.resolve()) for path in paths if path.is_file()))


def _is_runtime(path: str, own: Collection[OwnFunction]) -> bool:
    name = os.path.basename(path)  # noqa: PTH119 - a text
    return LIBRARY not in name and (TABLE.search(os.fsencode(name)) is not None or bool(symbols_of(own, name)))


def _split(paths: str | None) -> list[str]:
    return [path for path in (paths or "").split(os.pathsep) if path]


def _site_packages(python: str) -> list[Path]:
    """Return where the package is in a virtual environment or an installation with the usual layout."""
    prefix = Path(python).absolute().parent.parent
    return [folder / "site-packages" / PACKAGE for folder in sorted((prefix / "lib").glob("python3*"))]


def _in(folders: Iterable[Path]) -> Iterator[str]:
    for folder in folders:
        for path in sorted(folder.glob(LIBRARY + "*")):
            if path.is_file():
                yield str(path.resolve())


def _ask(python: str, environ: Mapping[str, str]) -> list[str]:
    """Ask the interpreter where the package is, with the environment that the script will have."""
    try:
        process = subprocess.Popen(
            [python, "-c", _QUESTION],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except (OSError, ValueError):
        return []
    with process:
        answer = _answer_of(process)
        process.kill()  # it may have closed its output and gone on
    return [os.fsdecode(line) for line in answer.splitlines() if line]


def _answer_of(process: subprocess.Popen[bytes]) -> bytes:
    """Return what it says until it has said all; nothing if that takes too long, or is more than any answer."""
    assert process.stdout is not None
    answer, deadline_s = b"", time.monotonic() + ANSWER_S
    while select.select([process.stdout], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
        part = os.read(process.stdout.fileno(), LONGEST_ANSWER)
        if not part:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return answer if process.wait(max(0.0, deadline_s - time.monotonic())) == 0 else b""
            break
        answer += part
        if len(answer) > LONGEST_ANSWER:
            break
    return b""
