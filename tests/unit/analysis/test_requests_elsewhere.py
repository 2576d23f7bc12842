"""Mounts that were not observed, and models that lie on no CVMFS."""

from typing import Any

import pytest
from phase_rows import classes_us, phase
from runs import generation
from scene import CONNECTION, MOUNT, TARGET, Scene

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.report import text
from cvtrace.analysis.report.lines import NO_BREAK
from cvtrace.probes.events import Kind, Opcode

OTHER_CONNECTION = 77
LEFT_OUT = {
    "path": "/cvmfs/b.test.org",
    "device": OTHER_CONNECTION,
    "connection": OTHER_CONNECTION,
    "type": "fuse",
    "source": "cvmfs2",
}
NO_CVMFS = {
    "path": "/home/ann/far",
    "device": OTHER_CONNECTION,
    "connection": OTHER_CONNECTION,
    "type": "fuse.sshfs",
    "source": "far:",
}
STRANGER = 4711
"""A thread of a daemon that is not observed."""


def request_to_other_mount(
    scene: Scene, at: float, to: float, opcode: Opcode = Opcode.READ, tid: int = TARGET
) -> Scene:
    """Add a request to the mount that is not observed."""
    return scene.add(Kind.FUSE_SEND, at, to, tid=tid, a=2, b=OTHER_CONNECTION, c=opcode << 32 | 80)


def report_with(scene: Scene, *mounts: dict[str, Any]) -> Report:
    return analyse(scene.trace(other_mounts=[{**mount, "paths": [mount["path"]], "used": True} for mount in mounts]))


@pytest.mark.parametrize("at", [440, 505, 517, 525], ids=["prefill", "first token", "between", "second token"])
def test_a_read_of_a_cvmfs_that_was_left_out_is_a_yes(at: float) -> None:
    report = report_with(request_to_other_mount(generation(), at, at + 5), LEFT_OUT)

    verdict = report.verdict
    assert verdict.generation_hits_cvmfs == "yes"
    assert verdict.fuse_reads == 1
    assert "generation sent 1 request to /cvmfs/b.test.org, a CVMFS mount, that was not observed" in verdict.missing[0]
    (mount,) = verdict.unobserved_mounts
    assert (mount.path, mount.is_cvmfs, mount.generation_reads) == ("/cvmfs/b.test.org", True, 1)
    row = next(row for row in report.phases if row.unobserved_requests)
    assert (row.hits_cvmfs, row.fuse_reads) == ("yes", 1)


def test_a_request_to_a_mount_that_is_not_cvmfs_makes_it_inconclusive() -> None:
    verdict = report_with(request_to_other_mount(generation(), 525, 530), NO_CVMFS).verdict

    assert verdict.generation_hits_cvmfs == "inconclusive"
    assert verdict.fuse_reads == 0
    assert "which is no CVMFS (fuse.sshfs, far:)" in verdict.missing[0]


@pytest.mark.parametrize("mount", [LEFT_OUT, NO_CVMFS])
def test_requests_to_unobserved_mounts_outside_of_generation_do_not_change_it(mount: dict[str, Any]) -> None:
    scene = request_to_other_mount(request_to_other_mount(generation(), 50, 60, Opcode.LOOKUP), 600, 610)
    request_to_other_mount(scene, 525, 530, Opcode.RELEASE)

    report = report_with(scene, mount)

    assert report.verdict.generation_hits_cvmfs == "no"
    assert report.verdict.unobserved_mounts[0].requests == 2
    assert all(check.agree for check in report.checks)


def test_a_mount_without_requests_is_not_reported() -> None:
    verdict = report_with(generation(), LEFT_OUT).verdict

    assert verdict.generation_hits_cvmfs == "no"
    assert verdict.unobserved_mounts == ()


def test_waits_for_a_mount_that_is_not_observed_have_a_class_of_their_own() -> None:
    # GIVEN a read that waits from 200 to 290 for a mount that is not observed, woken by its daemon; and one that waits for a request
    # that was sent ahead
    scene = Scene()
    scene.opened(150, 160, 5, "/cvmfs/b.test.org/model").read(199, 300, 5)
    request_to_other_mount(scene, 200, 289).off(201, 290, 295, by=STRANGER, state=2)
    request_to_other_mount(scene, 302, 389).read(310, 400, 5).off(320, 390, 392, by=STRANGER, state=2)
    scene.read(500, 600, 6).off(510, 590, 592, by=STRANGER, state=2)  # a file of no mount
    scene.call("OgaCreateModel", 100, 800)

    load = phase(report_with(scene, LEFT_OUT), "load")

    classes = classes_us(load)
    assert classes["other.fuse"] == 89 + 70
    assert classes["other.io"] == 80


def test_a_model_that_was_loaded_from_a_mount_left_out_is_reported() -> None:
    scene = Scene().call("OgaCreateModel", 100, 400).call("OgaGenerator_GenerateNextToken", 500, 520)
    scene.opened(110, 130, 5, "/cvmfs/b.test.org/model.onnx.data")
    request_to_other_mount(request_to_other_mount(scene, 115, 120, Opcode.OPEN), 200, 290)
    scene.add(Kind.FAULT, 300, tid=TARGET, a=CONNECTION, b=7, c=1)

    verdict = report_with(scene, LEFT_OUT).verdict

    assert verdict.generation_hits_cvmfs == "inconclusive"
    assert "the model was loaded from /cvmfs/b.test.org, which was not observed" in "; ".join(verdict.missing)
    assert "may not come" not in "; ".join(verdict.missing)


LOCAL = "/scratch/models/tiny/model.onnx.data"


def local_copy() -> Scene:
    """Return a load from a local disk, and three tokens."""
    scene = Scene()
    scene.add(Kind.PROC_EXEC, 1, tid=TARGET, text="/usr/bin/python3")
    scene.call("OgaCreateModel", 100, 400)
    scene.opened(110, 120, 5, "/scratch/models/tiny/model.onnx").read(121, 130, 5, size=24_000)
    scene.opened(140, 150, 6, LOCAL).add(Kind.SYS_MMAP, 151, 152, tid=TARGET, a=6, c=4_000_000)
    scene.opened(160, 170, 7, "/usr/lib/libgomp.so.1").read(171, 172, 7, size=9_000_000)
    scene.call("OgaGenerator_AppendTokens", 420, 480)
    for number in range(3):
        scene.call("OgaGenerator_GenerateNextToken", 500 + 20 * number, 515 + 20 * number)
    return scene


def test_a_model_on_a_local_disk_is_a_no_that_says_from_where() -> None:
    verdict = analyse(local_copy().trace()).verdict

    assert verdict.generation_hits_cvmfs == "no", verdict.missing
    assert verdict.model_from == "elsewhere"
    assert (
        verdict.proof[1]
        == f"the model was opened from {LOCAL}, which is not on CVMFS (2 files, 4.00 MB mapped, 24.0 kB read)"
    )
    assert [(file.path, file.on_cvmfs) for file in verdict.model_files] == [
        (LOCAL, False),
        ("/scratch/models/tiny/model.onnx", False),
    ]


@pytest.mark.parametrize("at", [440, 525])
def test_a_local_model_whose_generation_reads_from_cvmfs_is_a_yes(at: float) -> None:
    scene = local_copy()
    scene.request(Opcode.READ, at + 1, at + 2, at + 3, sent=at, offset=1 << 20)

    verdict = analyse(scene.trace()).verdict

    assert (verdict.generation_hits_cvmfs, verdict.model_from) == ("yes", "elsewhere")


def test_a_local_link_to_a_file_on_cvmfs_is_not_a_local_copy() -> None:
    # GIVEN a link: the path is local, the open asks the daemon
    scene = local_copy()
    scene.request(Opcode.OPEN, 143, 145, 146, sent=142)

    verdict = analyse(scene.trace()).verdict

    assert verdict.model_from == "cvmfs"
    assert not any("not on CVMFS" in sentence for sentence in verdict.proof)


@pytest.mark.parametrize(
    "loses", [{"lost": {"SYS_OPEN": 1}}, {"missing": ["the kernel has no FUSE tracepoints (6.11 and newer do)"]}]
)
def test_an_incomplete_recording_of_a_local_copy_is_inconclusive(loses: dict[str, Any]) -> None:
    assert analyse(local_copy().trace(**loses)).verdict.generation_hits_cvmfs == "inconclusive"


def test_reads_of_the_model_outside_of_the_load_are_never_denied() -> None:
    # GIVEN a load whose mark came too late: the model's reads lie before it
    scene = Scene()
    scene.opened(20, 30, 5).request(Opcode.OPEN, 22, 24, 25, sent=21)
    for number in range(4):
        scene.request(Opcode.READ, 41 + number, 41.3 + number, 41.6 + number, sent=40.8 + number, offset=number << 17)
    scene.call("OgaCreateModel", 100, 400).call("OgaGenerator_GenerateNextToken", 500, 520)

    verdict = analyse(scene.trace()).verdict

    assert verdict.generation_hits_cvmfs == "inconclusive"
    assert "4 reads of it outside of the load" in "; ".join(verdict.missing)
    assert "may not come from" not in "; ".join(verdict.missing)


def test_a_model_below_the_observed_mount_is_of_cvmfs() -> None:
    report = analyse(generation().trace())
    assert report.verdict.model_from == "cvmfs"
    assert [(file.path, file.on_cvmfs) for file in report.verdict.model_files] == [
        (f"{MOUNT}/models/tiny/model.onnx.data", True)
    ]


def program(path: str, **meta: Any) -> Report:
    """A program under strace, which sees no request to mounts that are not observed, but opens."""
    other_mount = {**NO_CVMFS, "paths": ["/home/ann/far", "/mnt/same"], "used": False}
    scene = Scene().opened(150, 160, 5, path)
    return analyse(scene.trace(probe="strace", other_mounts=[other_mount], **meta))


@pytest.mark.parametrize("path", ["/home/ann/far/file", "/mnt/same/file", "far/file"])
def test_opens_on_an_unobserved_mount_are_inconclusive_without_its_requests(path: str) -> None:
    verdict = program(path, target={"argv": ["cat"], "pid": TARGET, "cwd": "/home/ann"}).verdict

    assert verdict.answer == "inconclusive"
    assert any(
        "opened 1 file on /home/ann/far, a FUSE mount that was not observed" in reason for reason in verdict.missing
    )


@pytest.mark.parametrize("path", ["/home/ann/farther/file", "/home/ann/file", "/mnt/file"])
def test_opens_outside_of_an_unobserved_mount_do_not_count_as_its_use(path: str) -> None:
    assert not any("FUSE mount that was not observed" in reason for reason in program(path).verdict.missing)


def test_a_path_among_the_arguments_is_enough_where_no_open_is_seen() -> None:
    target = {"argv": ["sha256sum", "/mnt/same/file"], "pid": TARGET, "cwd": "/home/ann"}
    missing = program("/etc/passwd", target=target).verdict.missing
    assert any("was given a path on /home/ann/far" in reason for reason in missing)


def test_a_program_with_running_processes_has_no_answer() -> None:
    remaining = [{"pid": 4242, "name": "python"}]
    report = analyse(Scene().opened(150, 160, 5, "/etc/hosts").trace(still_running=remaining))

    assert report.verdict.answer == "inconclusive"
    assert "a process that it started still runs" in report.verdict.missing[0]
    for verbose in (False, True):
        summary = " ".join(text.render(report, width=200, verbose=verbose).split()).replace(NO_BREAK, " ")
        assert "CVMFS not used until it ended; a process it started still ran" in summary
    assert analyse(Scene().opened(150, 160, 5, "/etc/hosts").trace()).verdict.answer == "no"
