"""Found by the target's interpreter at its start: arms the phase marks, then steps aside for the sitecustomize that was there.

Runs in any Python from 3.8 on, before anything of the target; it must neither fail nor be seen, so it imports nothing
that an interpreter does not have loaded at this point.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib import module_from_spec
from _frozen_importlib_external import PathFinder, spec_from_file_location

TYPE_CHECKING = False  # typing is not imported for nothing
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec


class Helper:
    """Finds `cvtrace.phase` for scripts whose environment has no cvtrace: asked last, so that it hides nothing."""

    NAMES = ("cvtrace", "cvtrace_phase")

    def __init__(self, folder: str) -> None:
        self.path = folder + "/cvtrace_phase.py"

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return spec_from_file_location(name, self.path) if name in self.NAMES else None


def _arm(folder: str) -> Callable[[], None] | None:
    """Have phases marked from now on; return what has imports marked, if they are to be. Neither raises."""
    try:
        if os.environ.get("CVTRACE_MARKS"):
            import _cvtrace_marks  # type: ignore[import-not-found]

            names = (
                "CVTRACE_MARKS",
                "CVTRACE_HOOK",
                "CVTRACE_PROFILE",
                "CVTRACE_MOUNTS",
                "CVTRACE_SOCKETS",
                "CVTRACE_PHASES",
            )
            watch_imports: Callable[[], None] | None = _cvtrace_marks.arm(*(os.environ.get(name, "") for name in names))
            sys.meta_path.append(Helper(folder))
            return watch_imports
    except Exception:  # whatever it is, the target comes first
        pass
    finally:
        sys.modules.pop("_cvtrace_marks", None)
        sys.modules.pop("_cvtrace_table", None)
        sys.modules.pop("_cvtrace_profile", None)
        sys.modules.pop("_cvtrace_counts", None)
        sys.modules.pop("_cvtrace_imports", None)
        sys.path_importer_cache.pop(folder, None)
        while folder in sys.path:
            sys.path.remove(folder)
    return None


def _run_next() -> None:
    """Import the sitecustomize that this one hides, if there is one; what it raises is for `site` to report, as ever."""
    spec = PathFinder.find_spec(__name__)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    sys.modules[__name__] = module
    spec.loader.exec_module(module)


_watch_imports = _arm(os.path.dirname(__file__))  # noqa: PTH120 - pathlib is not loaded yet
try:
    _run_next()  # Debian's looks for a module that is not there: that is the interpreter's start, and no import of the target
finally:
    if _watch_imports is not None:
        _watch_imports()
