"""`cvtrace warmup` on a real mount: its fetches compared with the origin's log, and what a run fetches afterwards."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_mount import LabMount, lab

from cvtrace.lab.origin import Injection

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the client's cache is looked at, and runs are recorded"),
]

CHUNK = 1_000_000
CHUNKS = 16
DELAY_S = 0.1
SCRIPT = """
import os, sys
fd = os.open(sys.argv[1] + "/weights", os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
for chunk in (9, 2, 12):
    assert os.pread(fd, 4096, chunk * 1_000_000 + 500_000)
open(sys.argv[1] + "/config").read(1)
"""


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[LabMount]:
    files = {"model/weights": os.urandom(CHUNKS * CHUNK), "model/config": b"a" * 5000, "model/unused": b"b" * 5000}
    slow = Injection(match="*/data/*", first_byte_delay_s=DELAY_S)
    with lab(tmp_path, files, chunk_size=CHUNK, injections=(slow,)) as served, served.mount() as mount:
        list((mount.root / "model").iterdir())  # the catalog is there
        yield mount


def warmup(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cvtrace", "warmup", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=check)


def test_warmup_of_a_folder_fetches_each_object_once_and_in_parallel(mounted: LabMount) -> None:
    # GIVEN a model of 16 chunks and two small files, none of which is in the client's cache
    model, before = mounted.root / "model", len(mounted.gets())
    missing = warmup("--check", model, check=False)
    assert (missing.returncode, missing.stdout) == (1, "missing: 18 objects of 3 files, 16.0 MB of 16.0 MB\n")
    assert len(mounted.gets()) == before
    # WHEN it is warmed up with eight readers
    done = warmup("--threads", "8", model)
    # THEN each object is fetched once, in less than half of the time that they take one after the other
    assert len(mounted.gets()) - before == CHUNKS + 2
    took = re.search(r"18 objects of 3 files, 16.0 MB, in ([\d.]+) (m?s) ", done.stderr)
    assert took, done.stderr
    assert float(took[1]) / (1000 if took[2] == "ms" else 1) < (CHUNKS + 2) * DELAY_S / 2
    # and nothing is missing then, and a second warm-up fetches nothing
    assert warmup("--check", model).stdout == "nothing is missing: 3 files, 16.0 MB\n"
    assert "nothing to fetch" in warmup(model).stderr
    assert len(mounted.gets()) - before == CHUNKS + 2


def test_warmup_of_a_trace_fetches_only_what_the_run_used(mounted: LabMount, tmp_path: Path) -> None:
    # GIVEN the trace of a run that read three chunks and a small file, and empty caches
    script, trace, model = tmp_path / "reads.py", tmp_path / "trace", mounted.root / "model"
    script.write_text(SCRIPT)
    run = [sys.executable, "-m", "cvtrace", "run", "--no-summary", "--mount", mounted.root, "-o", trace, script, model]
    subprocess.run(run, check=True, timeout=120)
    warmup("--evict", "--yes", model)
    assert warmup("--check", model, check=False).stdout.startswith("missing: 18 objects")
    before = len(mounted.gets())
    # WHEN what the run needed is warmed up
    done = warmup("--only-needed", trace)
    # THEN these four objects are fetched
    assert "4 objects of 2 files" in done.stderr, done.stderr
    assert len(mounted.gets()) - before == 4
    assert warmup("--check", "--only-needed", trace).returncode == 0
    # and the same run fetches nothing any more
    subprocess.run([sys.executable, script, model], check=True, timeout=120)
    assert len(mounted.gets()) - before == 4
    # AND WHEN the files that it used are warmed up as a whole
    done = warmup(trace)
    # THEN their other chunks are fetched, and no other file
    assert f"{CHUNKS - 3} objects of 1 file," in done.stderr


def test_an_object_that_cannot_be_fetched_is_named(mounted: LabMount) -> None:
    # GIVEN an origin that went away
    mounted.origin.stop()
    # WHEN a file is warmed up
    done = warmup(mounted.root / "model/config", check=False)
    # THEN the exit code and one sentence say what was not read
    assert done.returncode == 1
    assert re.search(r"not read: .*/model/config at 0: Input/output error", done.stderr), done.stderr


def test_evict_empties_caches_also_if_a_file_cannot_be_opened(mounted: LabMount) -> None:
    # GIVEN a cached chunk, and an origin that went away, so that a file that is not chunked cannot be opened
    with (mounted.root / "model/weights").open("rb") as file:
        file.read(1)
    mounted.origin.stop()
    # WHEN the caches are emptied
    done = warmup("--evict", "--yes", mounted.root / "model")
    # THEN the chunk is gone, and no traceback is printed
    assert "Traceback" not in done.stderr
    assert all(path.stat().st_size != CHUNK for path in mounted.cached_objects())


WRONG = {
    "--only-needed needs a trace": ["--only-needed", "{root}"],
    "--yes has no effect without --evict": ["--yes", "{root}"],
    "leave one of the two out": ["--check", "--evict", "{root}"],
    "is on a CVMFS mount": ["/etc"],
    "there is no /nothing/here": ["/nothing/here"],
    "Aborted": ["--evict", "{root}"],
}


def test_wrong_options_are_refused_in_one_sentence_and_change_nothing(mounted: LabMount) -> None:
    before = len(mounted.gets())
    for sentence, arguments in WRONG.items():
        done = warmup(*(each.format(root=mounted.root) for each in arguments), check=False)
        assert done.returncode in (1, 2, 3), sentence
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
    assert len(mounted.gets()) == before


def test_a_folder_that_is_no_trace_and_one_that_is_damaged_have_their_exit_codes(
    mounted: LabMount, tmp_path: Path
) -> None:
    # GIVEN an empty folder beside the mount, an empty one on it, and a trace that cannot be read
    empty, damaged = tmp_path / "an empty one", tmp_path / "a damaged öne"
    empty.mkdir()
    damaged.mkdir()
    (damaged / "meta.json").write_text("{")
    before = len(mounted.gets())
    # WHEN they are warmed up THEN each has its sentence and its exit code
    for folder, code, sentence in (
        (empty, 3, "no file in"),
        (damaged, 4, "is not a trace"),
    ):
        done = warmup(folder, check=False)
        assert (done.returncode, sentence in done.stderr) == (code, True), done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert len(mounted.gets()) == before


def test_links_lead_to_the_files_that_are_warmed_up(mounted: LabMount, tmp_path: Path) -> None:
    (tmp_path / "a link").symlink_to(mounted.root / "model")
    (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
    warmup(tmp_path / "a link")
    assert warmup("--check", mounted.root / "model").returncode == 0
    done = warmup(tmp_path / "dead", check=False)
    assert (done.returncode, "there is no" in done.stderr) == (2, True), done.stderr
