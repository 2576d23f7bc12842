"""Files, mappings and folders of a mount that a process holds, from /proc."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

from cvtrace.probes.portable.processes import held_files

HOLDS = """
import mmap, os, sys
what, path = sys.argv[1:]
if what == "descriptor":
    kept = open(path)
elif what == "mapping":
    with open(path, "rb") as file:
        kept = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
elif what == "folder":
    os.chdir(os.path.dirname(path))
print("ready", flush=True)
input()
"""


def test_descriptors_mappings_and_the_folder_are_seen(tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_bytes(bytes(mmap.PAGESIZE))
    device = os.stat(file).st_dev  # noqa: PTH116
    counts = {}
    for holder in ("descriptor", "mapping", "folder", "nothing"):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDS, holder, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            # Python itself is mapped from some device: of mappings, those of a device that has none tell nothing.
            by_path = held_files(process.pid, [0xFFFFF], [[str(tmp_path)]])
            by_device = held_files(process.pid, [device], [["/nowhere"]])
            counts[holder] = (by_path, by_device)
        finally:
            process.communicate("\n", timeout=10)
    assert counts["descriptor"][0] == counts["folder"][0] == [1]
    assert counts["nothing"][0] == [0]
    assert counts["mapping"][1] is not None
    assert counts["nothing"][1] is not None
    assert counts["mapping"][1][0] == counts["nothing"][1][0] + 1


def test_a_process_that_has_ended_holds_no_files() -> None:
    assert held_files(2**22 + 1, [1], [["/cvmfs"]]) is None
