"""Finding libonnxruntime-genai.so as the target's interpreter would, without importing anything of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from cvtrace.probes.phases.linked import linked_libraries

PACKAGE: Final = "onnxruntime_genai"
LIBRARY: Final = "libonnxruntime-genai.so"
ANSWER_S: Final = 10.0

# find_spec of a top-level name looks at folders and imports nothing.
_QUESTION: Final = (
    "import importlib.util as u; s = u.find_spec('onnxruntime_genai'); "
    "print('\\n'.join(s.submodule_search_locations) if s and s.submodule_search_locations else '')"
)


def find_libraries(
    python: str | None,
    environ: Mapping[str, str],
    *,
    program: str | None = None,
    as_user: tuple[int, int] | None = None,
    groups: Iterable[int] = (),
) -> tuple[str, ...]:
    """Return the paths of the library that a target may map: of `python`, of PYTHONPATH and of LD_LIBRARY_PATH, and what a
    `program` that is no Python is linked to.

    The folders are looked at first; the interpreter is asked, as `as_user` (uid, gid), only when they hold none: asking reads
    its files, which would warm the caches of an environment on CVMFS.
    """
    folders = [Path(folder) / PACKAGE for folder in _split(environ.get("PYTHONPATH"))]
    if python is not None:
        folders += _site_packages(python)
    found = list(_in(folders))
    if python is not None and not found:
        found = list(_in(Path(folder) for folder in _ask(python, environ, as_user, tuple(groups))))
    found += _in(Path(folder) for folder in _split(environ.get("LD_LIBRARY_PATH")))
    if python is None and program is not None:
        found += [path for path in linked_libraries(program, environ) if LIBRARY in path.rpartition("/")[2]]
    return tuple(dict.fromkeys(found))


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


def _ask(
    python: str, environ: Mapping[str, str], as_user: tuple[int, int] | None, groups: tuple[int, ...]
) -> list[str]:
    becoming = {} if as_user is None else {"user": as_user[0], "group": as_user[1], "extra_groups": groups}
    try:
        answer = subprocess.run(
            [python, "-c", _QUESTION],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=ANSWER_S,
            check=True,
            **becoming,  # type: ignore[call-overload]
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [os.fsdecode(line) for line in answer.splitlines() if line]
