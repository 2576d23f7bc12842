"""The origin of a stack: `cvtrace lab serve` in the background, found again through its control socket."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import cvtrace
from cvtrace.lab.errors import LabError
from cvtrace.lab.origin import control
from cvtrace.lab.stack import processes
from cvtrace.lab.stack.state import Options, StateFolder

_LONGEST_SOCKET_PATH = 100  # sun_path holds 108 bytes
STARTS_S: Final = 300.0
"""Its start takes a second, an emulated machine on a busy host a minute; one that ends is noticed at once."""


def status(state: StateFolder) -> dict[str, Any] | None:
    """Return what the origin says of itself (url, pid, …), or None when there is none."""
    try:
        reply = control(state.control, {"command": "status"}, timeout_s=5.0)
    except LabError:
        return None
    return reply if reply.get("store") == str(state.store) else None


def start(state: StateFolder, options: Options) -> dict[str, Any]:
    """Start the origin and return what it says of itself when it answers; raises LabError with its own words."""
    if len(os.fsencode(state.control)) > _LONGEST_SOCKET_PATH:
        raise LabError(f"{state.path} is too long a path for a socket: name a shorter one with --state")
    state.access_log.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "cvtrace", "lab", "serve", str(state.store), "--port", str(options.port)]
    argv += ["--access-log", str(state.access_log), "--control", str(state.control)]
    argv += ["--delay", f"{options.delay_s:f}s"]
    if options.bandwidth_bytes_per_s is not None:
        argv += ["--bandwidth", f"{options.bandwidth_bytes_per_s:f}"]
    root = str(Path(cvtrace.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    pid = processes.spawn(argv, state.origin_log, dict(os.environ) | {"PYTHONPATH": path})
    reply: dict[str, Any] | None = None

    def is_decided() -> bool:
        nonlocal reply
        reply = status(state)
        return reply is not None or not processes.is_running(pid)

    processes.wait_until(is_decided, STARTS_S)
    if reply is None:
        processes.stop(pid, "the origin")
        words = state.origin_log.read_text(errors="replace").strip().splitlines()
        raise LabError(f"the origin did not start: {words[-1] if words else f'see {state.origin_log}'}")
    return reply


def stop(state: StateFolder) -> None:
    """Stop the origin if there is one."""
    reply = status(state)
    if reply is not None:
        processes.stop(int(reply["pid"]), "the origin")
    state.control.unlink(missing_ok=True)
