"""`cvtrace bugreport`: the zip has a readable trace, and no names of the user."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

from cvtrace_run import CVTRACE, cvtrace

from cvtrace.analysis import analyse
from cvtrace.tracer.store import read_trace

SECRET = "thesis-of-ann"


def recorded(folder: Path, mount: Path) -> Path:
    """Return the trace of a script whose name, argument and phase are secret."""
    script = folder / f"{SECRET}.py"
    script.write_text(f"import cvtrace\nwith cvtrace.phase('{SECRET}'):\n    open(__file__).read()\n")
    trace = folder / "trace"
    options = ["--probes", "portable", "--mount", mount, "--no-summary", "-o", trace]
    cvtrace("run", *options, script, f"--prompt={SECRET}")
    return trace


def test_the_zip_has_a_readable_trace_the_doctor_and_versions_but_no_names(tmp_path: Path, mount: Path) -> None:
    # GIVEN a trace with names in it
    trace = recorded(tmp_path, mount)
    assert SECRET in (trace / "meta.json").read_text()
    # WHEN
    done = cvtrace("bugreport", trace)
    # THEN the zip lies beside the trace, and stderr says where
    output = tmp_path / "trace-bugreport.zip"
    assert str(output) in done.stderr
    with zipfile.ZipFile(output) as archive:
        archive.extractall(tmp_path / "unpacked")
        assert {name.partition("/")[0] for name in archive.namelist()} == {"trace", "doctor.json", "versions.json"}
        # AND no file in it has the name
        assert not [name for name in archive.namelist() if SECRET.encode() in archive.read(name)]
    unpacked = tmp_path / "unpacked"
    checks = json.loads((unpacked / "doctor.json").read_text())
    assert checks["schema"] == "cvtrace-doctor/1"
    assert {"ebpf", "strace", "portable"} <= {check["group"] for check in checks["checks"]}
    versions = json.loads((unpacked / "versions.json").read_text())
    assert versions["cvtrace"]
    assert versions["packages"]["numpy"]
    # AND the trace in it is analysed like the original
    before, after = analyse(read_trace(trace)), analyse(read_trace(unpacked / "trace"))
    assert after.trace.redacted
    assert len(before.phases) == len(after.phases)
    assert [phase.wall_s for phase in before.phases] == [phase.wall_s for phase in after.phases]
    assert before.trace.events == after.trace.events


def test_an_existing_zip_is_replaced_only_with_force(tmp_path: Path, mount: Path) -> None:
    trace = recorded(tmp_path, mount)
    output = tmp_path / "bug.zip"
    output.write_text("mine")
    done = subprocess.run([*CVTRACE, "bugreport", trace, "-o", output], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert output.read_text() == "mine"
    cvtrace("bugreport", trace, "-o", output, "--force")
    assert zipfile.is_zipfile(output)
