"""`cvtrace bugreport`: what a bug report needs, in one zip: the redacted trace, the doctor's answers, and versions."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

import cvtrace
from cvtrace.commands.arguments import TRACE
from cvtrace.commands.console import doing, say
from cvtrace.commands.outputs import output_options, refuse_existing, writing

if TYPE_CHECKING:
    from cvtrace.tracer.redaction import Redaction

PACKAGES: Final = ("bokeh", "click", "numpy", "onnxruntime", "onnxruntime-genai", "pandas", "psutil", "pyarrow", "rich")
DOCTOR_S: Final = 60.0
PLAIN: Final = ("cvtrace-doctor/1", "/sys/kernel/tracing", "/sys/kernel/debug")
"""Names that every machine has."""


@click.command(name="bugreport")
@click.argument("trace", type=TRACE)
@output_options("Write to this file.  [default: TRACE-bugreport.zip beside TRACE]")
def command(trace: Path, output: Path | None, force: bool) -> None:
    """Write a zip for a bug report: TRACE with hashed names, what `cvtrace doctor` says, and versions.

    The command line, paths and names in it are hashed as `run --redact` does. Look into the zip before you send it.
    """
    if output is None:
        output = trace.resolve().with_name(f"{trace.resolve().name}-bugreport.zip")
    refuse_existing(output, force)
    with tempfile.TemporaryDirectory(prefix="cvtrace-bugreport-") as folder:
        with doing("hashing the names in the trace"):
            redacted, redaction, damage = _redacted(trace, Path(folder) / "trace")
        with doing("running cvtrace doctor"):
            checked = _doctor()
        versions = {**_versions(), "damage": damage and _hashed(redaction, damage)}
        with writing(output) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(redacted.iterdir()):
                archive.write(path, f"trace/{path.name}")
            archive.writestr("doctor.json", json.dumps(_hashed(redaction, checked), indent=2) + "\n")
            archive.writestr("versions.json", json.dumps(versions, indent=2) + "\n")
    say(f"the bug report is in {output}")


def _hashed(redaction: Redaction, value: Any) -> Any:
    """Return sentences, alone or in lists and tables, with the names hashed that are hashed in the trace."""
    return redaction.meta({"value": value})["value"]


def _redacted(trace: Path, target: Path) -> tuple[Path, Redaction, str | None]:
    """Write a copy of the trace with hashed names; return it, what hashed them, and what is wrong with the trace."""
    from cvtrace.tracer.redaction import Redaction
    from cvtrace.tracer.store import TraceWriter, read_trace

    read = read_trace(trace)
    redaction = Redaction()
    redaction.show(str(mount.get("path", "")) for mount in read.meta.get("mounts") or ())
    redaction.show(PLAIN)
    writer = TraceWriter(target, read.meta, redaction=redaction)
    writer.write(read.events, read.texts)
    writer.finish(lost=read.meta["lost"])
    if writer.error is not None:
        raise click.UsageError(f"the copy of the trace could not be written: {writer.error}")
    return target, redaction, read.damage


def _doctor() -> Any:
    """Return what `cvtrace doctor --json` prints; if it does not answer, why."""
    command = [sys.executable, "-m", "cvtrace", "doctor", "--json"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DOCTOR_S, check=False
        )
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {"error": f"cvtrace doctor did not answer ({type(error).__name__})"}


def _versions() -> dict[str, Any]:
    packages: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {
        "cvtrace": cvtrace.__version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME") if Path("/etc/os-release").is_file() else None,
        "packages": packages,
    }
