"""Finds the distribution's bcc and makes it work without kernel headers.

bcc is not on PyPI: it is pure ctypes over libbcc and comes from the distribution (python3-bpfcc, python3-bcc), so it
serves every Python version, also from inside a virtual environment.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from cvtrace.probes.probe import CannotObserve

HEADERS = Path(__file__).resolve().parent / "include"
INSTALL = "install it with `apt install python3-bpfcc` or `dnf install python3-bcc`"


def _distribution_folders() -> list[str]:
    """Return the folders where distributions keep Python modules, whichever Python they belong to."""
    folders = [Path("/usr/lib/python3/dist-packages")]
    for root in ("/usr/lib", "/usr/lib64", "/usr/local/lib"):
        folders += sorted(Path(root).glob("python3*/site-packages"), reverse=True)
    return [str(folder) for folder in folders if (folder / "bcc" / "__init__.py").is_file()]


def load() -> ModuleType:
    """Import bcc. Raises CannotObserve if the distribution's package is not installed."""
    if "bcc" in sys.modules:
        return sys.modules["bcc"]
    # Only bcc is taken from there: the folder as a whole on sys.path would mix another Python's packages into ours.
    spec = importlib.util.find_spec("bcc") or PathFinder.find_spec("bcc", _distribution_folders())
    if spec is None or spec.loader is None:
        raise CannotObserve(f"eBPF needs the bcc module, which is not installed: {INSTALL}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, OSError) as error:
        del sys.modules["bcc"]
        raise CannotObserve(f"bcc cannot be loaded ({error}): {INSTALL}") from error
    return module


def compile_program(text: str) -> Any:
    """Compile, load and attach a BPF program; return bcc's BPF object. Raises CannotObserve; bcc prints compiler errors."""
    bcc = load()
    before = os.environ.get("BCC_KERNEL_SOURCE")
    os.environ["BCC_KERNEL_SOURCE"] = str(HEADERS)
    try:
        return bcc.BPF(text=text.encode(), cflags=["-g0"])  # nobody debugs it here; 0.1 s of compiling
    except Exception as error:  # bcc raises plain Exception for everything
        raise CannotObserve(f"the kernel or bcc refused the BPF programs: {error}") from error
    finally:
        if before is None:
            del os.environ["BCC_KERNEL_SOURCE"]
        else:
            os.environ["BCC_KERNEL_SOURCE"] = before
