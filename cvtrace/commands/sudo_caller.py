"""Under sudo, verbs that need no privileges permanently become the user who called, before they read their first option."""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cvtrace.tracer.user import User

NEEDED: Final = (
    "cvtrace.commands.check",
    "cvtrace.commands.compare",
    "cvtrace.commands.report",
    "cvtrace.commands.formats",
    "cvtrace.tracer.profile",
    "pyarrow.csv",
    "rich.cells",
    "rich.console",
    "rich.table",
    "rich.text",
    "webbrowser",
    "xml.etree.ElementTree",
    "zipfile",
)
"""Modules that a report loads when it comes to them, besides all of the analysis."""

_closed: tuple[Path, str] | None = None
"""A folder of programs that the caller cannot read, and the caller's name."""


def be_caller() -> None:
    """Under sudo, run as the user who called it from here on, with that user's environment. Raises UnknownUser, OSError."""
    if os.geteuid() != 0 or os.environ.keys().isdisjoint(("SUDO_UID", "DOAS_USER", "PKEXEC_UID")):
        return
    from cvtrace.tracer.origin import caller_environment
    from cvtrace.tracer.user import calling_user

    user = calling_user(os.environ)
    if not user.is_other:
        return
    environ = caller_environment(os.environ, user)
    switch_user(user)
    os.environ.clear()
    os.environ.update(environ)


def switch_user(user: User) -> None:
    """Let this process be `user`'s for good, with what a report needs loaded if the user could not load it."""
    global _closed
    from cvtrace.tracer.privileges import be_for_good, closed_to

    place = closed_to(user)
    if place is not None:
        _load()
        _closed = (place, user.name)
    be_for_good(user)


def explain_missing() -> str | None:
    """Return why a module or a file of cvtrace is missing, if that is because the caller cannot read it."""
    if _closed is None:
        return None
    place, name = _closed
    return (
        f"under sudo this runs as {name}, who cannot read {place}: install cvtrace where {name} can read it, "
        "or call it as root itself (sudo env -u SUDO_UID cvtrace \u2026)"
    )


def _load() -> None:
    import cvtrace.analysis
    from cvtrace.analysis.report.html.document import load_all

    for module in pkgutil.walk_packages(cvtrace.analysis.__path__, "cvtrace.analysis."):
        importlib.import_module(module.name)
    for name in NEEDED:
        importlib.import_module(name)
    with contextlib.suppress(ImportError):
        import pandas  # noqa: F401 - pyarrow looks for it when it makes columns, and takes half of one ill
    load_all()
