"""Phase marks without uprobes: an import hook that wraps the GenAI calls inside a Python target.

The target's interpreter finds `inject/` through PYTHONPATH; nothing in there imports cvtrace, so it may be any Python from
3.9 on, in any environment. A mark is one PHASE event, appended to a file with a single write.

Not seen: interpreters that ignore PYTHONPATH (`python -I`, `-E`), that do not run `site` (`-S`), and other languages. `dur` of
a destructor is 0: pybind types tell only that an object is gone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from cvtrace.probes.events import EVENT, Events, Kind

INJECT: Final = Path(__file__).resolve().parent / "inject"
MARKS: Final = "CVTRACE_MARKS"
"""Environment variable that names the file of marks."""


def environment(marks_path: Path, base_env: Mapping[str, str]) -> dict[str, str]:
    """Return `base_env` with what makes a Python target load the hook and append its marks to `marks_path`.

    The file is created by the target when it imports onnxruntime_genai, as its user. An existing PYTHONPATH, sitecustomize
    and usercustomize stay in effect.
    """
    before = base_env.get("PYTHONPATH")
    path = os.pathsep.join([str(INJECT), before] if before else [str(INJECT)])
    return {**base_env, "PYTHONPATH": path, MARKS: str(marks_path)}


def read_marks(path: Path) -> Events:
    """Return the marks that a target wrote, sorted by ts: PHASE events, `b` the id of the object, `ret` -1 for an exception.

    None if the file is missing; whatever is not a mark (half a record at the end, a foreign write) is left out.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    records = np.frombuffer(data[: len(data) - len(data) % EVENT.itemsize], dtype=EVENT)
    marks: Events = records[records["kind"] == Kind.PHASE]
    return np.sort(marks, order="ts", kind="stable")
