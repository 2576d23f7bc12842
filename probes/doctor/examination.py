"""All checks, and the rung that `cvtrace run` takes here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cvtrace.probes.doctor.client import MayMeasure, examine_client
from cvtrace.probes.doctor.finding import FAILED, Examination, Finding
from cvtrace.probes.doctor.model import AsUser, look_at
from cvtrace.probes.doctor.rungs import examine_portable, examine_strace


def examine(
    mounts: Sequence[str],
    model: Path | None,
    python: str | None,
    libraries: tuple[str, ...],
    environ: Mapping[str, str] = os.environ,
    as_user: AsUser | None = None,
    may_measure: MayMeasure | None = None,
) -> Examination:
    """Try everything; `model` is looked at and `python` executed as `as_user`, who asked, with `environ`.

    The network to the server is measured if `may_measure`, which takes what would be sent, agrees.
    Raises CannotObserve if one of `mounts` is not on a CVMFS mount.
    """
    from cvtrace.probes.doctor.kernel import examine_kernel

    switch = as_user.become if as_user is not None else _as_now
    client, observable = examine_client(mounts, look_at(model, as_user), may_measure, switch)
    with ThreadPoolExecutor(2) as pool:
        strace, portable = pool.submit(examine_strace), pool.submit(examine_portable, python, environ, as_user)
        kernel = examine_kernel(libraries)
        findings = (*kernel, *strace.result(), *portable.result(), *client)
    works = _rung(findings)
    return Examination(findings, works if observable else None, works)


def _as_now() -> None:
    """Keep the rights of this process."""


def _rung(findings: Sequence[Finding]) -> str | None:
    """Return the first rung whose own necessities are met, as probes.ladder tries them."""
    failed = {(each.group, each.name) for each in findings if each.status == FAILED}
    if os.geteuid() != 0:
        return "portable"
    needed = {
        "ebpf": ("root", "tracefs", "bcc", "programs", "recorder", "raw_syscalls"),
        "strace": ("strace",),
    }
    for rung, names in needed.items():
        if not any((rung, name) in failed for name in names):
            return rung
    return "portable"
