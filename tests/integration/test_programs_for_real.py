"""Programs that generate nothing, on a real mount: their waits compared with the client's counters, the origin's log and their own clock."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cvtrace_run import RUNGS, run, script, trace_of
from lab_mount import LabMount, lab
from test_script_phases import save_model

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.report import text
from cvtrace.lab.origin import Injection

pytestmark = pytest.mark.root

MB = 1_000_000
DELAY_S = 0.02
PLUGINS = 12
FLOATS = 25 * MB // 4
TRIES = 3
SLACK_S = 0.5
"""A script may lose its CPU between the import and its clock."""


def packages() -> dict[str, bytes]:
    """Return a package that imports a large module, a package of many small ones, and another package, each with a cost of its own."""
    plugins = {f"site/heavy/plugins/p{number}.py": b"X = %d\n" % number for number in range(PLUGINS)}
    return {
        "site/heavy/__init__.py": b"from heavy import data, plugins\nimport light\n",
        "site/heavy/data.py": b"DATA = '" + os.urandom(150_000).hex().encode() + b"'\n",
        "site/heavy/plugins/__init__.py": b"".join(
            f"from heavy.plugins import p{n}\n".encode() for n in range(PLUGINS)
        ),
        **plugins,
        "site/light/__init__.py": b"import json\n",
    }


def git_repository(folder: Path) -> dict[str, bytes]:
    """Return the files of a repository of 30 files in six folders, one of which was changed."""
    folder.mkdir()
    for number in range(30):
        path = folder / f"src{number % 6}" / f"file{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"line {number}\n" * 20)
    git = ["git", "-C", folder, "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)
    (folder / "src0" / "file0.txt").write_text("changed\n")
    return {f"repo/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tensors() -> bytes:
    """Return a safetensors file of eight tensors of 2 MB."""
    shape, size = [512, 1024], 4 * 512 * 1024
    header = {
        f"layer{number}": {"dtype": "F32", "shape": shape, "data_offsets": [number * size, (number + 1) * size]}
        for number in range(8)
    }
    content = json.dumps(header).encode()
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content + os.urandom(8 * size)


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabMount]:
    """Mount packages, a repository of git, large files and a model, behind an origin that takes its time for every object."""
    folder = tmp_path_factory.mktemp("programs")
    folder.chmod(0o755)
    save_model(folder / "made")
    files = {
        **packages(),
        **(git_repository(folder / "repository") if shutil.which("git") else {}),
        "data/numbers.f4": np.arange(FLOATS, dtype="f4").tobytes(),
        "data/tensors.safetensors": tensors(),
        "data/plain.bin": os.urandom(3 * MB),
        **{f"onnx/{path.name}": path.read_bytes() for path in (folder / "made").iterdir()},
    }
    slow = Injection(match="*/data/*", first_byte_delay_s=DELAY_S)
    with lab(folder, files, injections=(slow,)) as published, published.mount() as mount:
        yield mount


def recorded(
    mount: LabMount, *arguments: str, probes: str = "ebpf", **environ: str
) -> tuple[Report, str, dict[str, int], int]:
    """Record a program; return the report, what it printed, how the client's counters grew, and how many GETs the origin saw."""
    shutil.rmtree("trace", ignore_errors=True)
    before, gets = mount.counters(), len(mount.gets())
    result = run(mount.root, *arguments, probes=probes, **environ)
    assert result.returncode == 0, result.stderr
    grown = {name: value - before.get(name, 0) for name, value in mount.counters().items()}
    return analyse(trace_of(result)), result.stdout, grown, len(mount.gets()) - gets


def python(text: str) -> list[str]:
    return ["--python", sys.executable, script(text)]


IMPORTS = """
import sys, time
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
begin = time.monotonic()
import heavy
print(time.monotonic() - begin)
"""


def test_imports_are_named_with_what_they_waited_for(workdir: Path, mounted: LabMount) -> None:
    # GIVEN a cold client and packages on the mount WHEN a script imports one that imports another
    report, printed, grown, gets = recorded(mounted, *python(IMPORTS), str(mounted.root / "site"))
    # THEN the import takes what the script's own clock says, and all that the client counted is in it or in none
    rows = {row.module: row for row in report.imports}
    heavy = rows["heavy"]
    assert 0 <= float(printed) - heavy.wall_s < SLACK_S  # the script's clock is read around the import
    assert heavy.opens == PLUGINS + 4 == grown["cvmfs.n_fs_open"]
    assert heavy.http_fetches == PLUGINS + 4
    assert sum(row.self_http_fetches or 0 for row in report.imports) == gets
    # AND it was the origin's delay that it waited for
    assert heavy.blocked_s is not None
    assert heavy.blocked_s >= (PLUGINS + 4) * DELAY_S
    assert heavy.blocked_s <= heavy.wall_s
    assert rows["heavy.plugins"].http_fetches == PLUGINS + 1
    assert (rows["heavy.data"].self_opens, rows["heavy.data"].self_read_bytes) == (1, 300_010)
    assert rows["heavy.plugins.p3"].imported_by == "heavy.plugins"
    # AND both packages are told apart, in words
    packages = {row.package: row for row in report.import_packages}
    assert (packages["heavy"].modules, packages["light"].modules) == (PLUGINS + 3, 1)
    assert packages["light"].http_fetches == 1
    summary = text.render(report)
    assert "Does this program wait for CVMFS?  YES: it waited" in summary
    assert "imports_wait" in {finding.id for finding in report.findings}
    assert len(summary.splitlines()) <= 30


@pytest.mark.parametrize("probes", RUNGS)
def test_imports_have_names_and_times_on_every_rung(workdir: Path, mounted: LabMount, probes: str) -> None:
    report, printed, grown, _ = recorded(mounted, *python(IMPORTS), str(mounted.root / "site"), probes=probes)
    heavy = next(row for row in report.imports if row.module == "heavy")
    assert 0 <= float(printed) - heavy.wall_s < SLACK_S  # the script's clock is read around the import
    assert heavy.opens == (None if probes == "portable" else grown["cvmfs.n_fs_open"])
    assert report.verdict.answer == ("inconclusive" if probes == "portable" else "yes")


def test_git_status_is_reported_with_its_folders(workdir: Path, mounted: LabMount) -> None:
    # GIVEN a repository of git on the mount, and no name of it in memory
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    mounted.drop_caches()
    # WHEN its status is asked for
    words = [
        "--",
        "git",
        "--no-optional-locks",
        "-c",
        "safe.directory=*",
        "-C",
        str(mounted.root / "repo"),
        "status",
        "--short",
    ]
    report, printed, grown, gets = recorded(mounted, *words)
    # THEN the program waited; its requests are those that the client counted
    assert printed == " M src0/file0.txt\n"
    verdict = report.verdict
    assert (verdict.question, verdict.answer, verdict.missing) == ("program", "yes", ())
    assert verdict.fuse_reads == grown["cvmfs.n_fs_read"]
    assert verdict.http_fetches == gets
    top = next(row for row in report.folders if row.path == str(mounted.root / "repo"))
    assert sum(row.lookups for row in report.folders) >= grown["cvmfs.n_fs_lookup"]
    assert top.total_blocked_s == pytest.approx(verdict.blocked_s, rel=0.2)
    assert {f"{top.path}/src{number}" for number in range(6)} <= {row.path for row in report.folders}


def test_a_checksum_reads_all_of_a_file_in_order(workdir: Path, mounted: LabMount) -> None:
    path = mounted.root / "data" / "plain.bin"
    report, _, grown, gets = recorded(mounted, "--", "sha256sum", str(path))
    (row,) = [row for row in report.files if row.path == str(path)]
    assert (report.verdict.answer, row.access, row.used_bytes) == ("yes", "sequential", 3 * MB)
    assert row.read_bytes == 3 * MB
    assert report.verdict.fuse_reads == grown["cvmfs.n_fs_read"]
    assert report.verdict.http_fetches == gets > 0
    assert report.verdict.blocked_s is not None
    assert gets * DELAY_S <= report.verdict.blocked_s <= report.trace.duration_s
    assert "read_amplification" not in {finding.id for finding in report.findings}
    # WHEN it is in the client's cache THEN nothing is fetched, and no byte was used less
    report, _, _, _ = recorded(mounted, "--", "sha256sum", str(path))
    assert report.verdict.http_fetches == 0
    assert [row.used_bytes for row in report.files if row.path == str(path)] == [3 * MB]


TOUCHES = """
import random, sys
import numpy as np
numbers = np.memmap(sys.argv[1], dtype="f4", mode="r")
places = random.Random(0).sample(range(len(numbers)), 300)
print(sum(float(numbers[place]) == np.float32(place) for place in places))
"""


def test_a_mapping_that_is_mostly_unused_is_a_finding(workdir: Path, mounted: LabMount) -> None:
    # GIVEN a file of 25 MB WHEN 300 floats of a mapping are touched here and there
    path = str(mounted.root / "data" / "numbers.f4")
    report, printed, grown, _ = recorded(mounted, *python(TOUCHES), path)
    # THEN it is said how much was read for how little
    assert printed == "300\n"
    (row,) = [row for row in report.files if row.path == path]
    assert row.access == "random"
    assert row.used_bytes is not None
    assert 50 * 4096 <= row.used_bytes <= 300 * 2 * 4096
    assert row.read_bytes > 10 * MB
    assert row.reads == grown["cvmfs.n_fs_read"]
    finding = next(finding for finding in report.findings if finding.id == "read_amplification")
    assert path in finding.evidence


SAFE = """
import sys
from safetensors import safe_open
with safe_open(sys.argv[1], framework="np") as file:
    print(file.get_tensor("layer5").shape)
"""


def test_reading_one_tensor_counts_as_its_part_of_the_safetensors_file(workdir: Path, mounted: LabMount) -> None:
    # GIVEN a file of eight tensors WHEN one is taken out
    path = str(mounted.root / "data" / "tensors.safetensors")
    report, printed, _, _ = recorded(mounted, *python(SAFE), path)
    assert printed == "(512, 1024)\n"
    # THEN about as much is used
    (row,) = [row for row in report.files if row.path == path]
    assert row.used_bytes is not None
    assert 0.5 * 2 * MB < row.used_bytes < 2 * 2 * 1.05 * MB
    assert report.verdict.answer == "yes"


RUNS = """
import sys, time
import numpy as np
import onnxruntime as ort
options = ort.SessionOptions()
options.add_session_config_entry("session.disable_prepacking", "1")
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
for _ in range(4):
    begin = time.monotonic()
    session.run(None, {"x": np.ones((1, 256), dtype=np.float32)})
    print(time.monotonic() - begin)
"""


def test_every_run_of_a_session_is_reported_separately(workdir: Path, mounted: LabMount) -> None:
    # GIVEN a model whose weights are used from the mapping WHEN it runs four times on a cold client
    report, printed, grown, gets = recorded(
        mounted, *python(RUNS), str(mounted.root / "onnx" / "m.onnx"), ORT_DISABLE_TELEMETRY="1"
    )
    # THEN each run is a row with the time that the script saw, and all requests are in the load or in a run
    assert [row.wall_s for row in report.runs] == pytest.approx([float(part) for part in printed.split()], abs=0.003)
    assert report.verdict.question == "inference"
    load = next(row for row in report.phases if row.name == "load")
    assert (load.http_fetches or 0) + sum(row.http_fetches or 0 for row in report.runs) == gets
    assert (load.fuse_reads or 0) + sum(row.fuse_reads or 0 for row in report.runs) == grown["cvmfs.n_fs_read"]
    first, *later = report.runs
    assert report.verdict.answer == "yes"
    assert first.fuse_reads
    assert first.blocked_s is not None
    assert first.blocked_s >= (first.http_fetches or 0) * DELAY_S
    assert [row.fuse_requests for row in later] == [0, 0, 0]
    summary = text.render(report)
    assert "Does inference hit CVMFS?  YES" in summary
    assert "needed nothing from CVMFS" in summary
    # WHEN all is in memory THEN no run needs anything
    for _ in range(TRIES):  # another program may have dropped the page cache meanwhile
        report, _, _, _ = recorded(
            mounted, *python(RUNS), str(mounted.root / "onnx" / "m.onnx"), ORT_DISABLE_TELEMETRY="1"
        )
        if not report.verdict.fuse_reads:
            break
    assert report.verdict.answer == "no", report.verdict.missing


def test_a_program_that_uses_nothing_of_the_mount_is_a_no(workdir: Path, mounted: LabMount) -> None:
    report, _, grown, _ = recorded(mounted, "--", "ls", "/etc")
    assert (report.verdict.question, report.verdict.answer, report.verdict.missing) == ("program", "no", ())
    assert grown["cvmfs.n_fs_open"] == grown["cvmfs.n_fs_lookup"] == 0
