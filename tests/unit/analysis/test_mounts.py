"""Several CVMFS mounts on one machine: those that the target does not use do not change the verdict."""

from typing import Any

import pytest
from runs import generation
from scene import CONNECTION, DAEMON, START, TARGET, US, Scene

from cvtrace.analysis import analyse
from cvtrace.analysis.report import text
from cvtrace.probes.events import Kind, Opcode

UNREADABLE = "the talk socket of other.test.org cannot be read (Permission denied): reads and bytes are not compared"


def other_mount(**changes: Any) -> dict[str, Any]:
    """Return a second mount, whose counters cannot be read."""
    return {
        "path": "/cvmfs/other.test.org",
        "fqrn": "other.test.org",
        "connection": CONNECTION + 1,
        "device": CONNECTION + 1,
        "daemon_pid": DAEMON + 50,
        "client": "cvmfs2",
        "version": "2.11.0",
        "counters_before": {},
        "counters_after": {},
        "error": UNREADABLE,
        **changes,
    }


def two_mounts(scene: Scene, **changes: Any) -> list[dict[str, Any]]:
    return [other_mount(**changes), scene.mount(scene.arrays()[0])]


def test_an_unused_mount_does_not_change_the_verdict() -> None:
    scene = generation()

    report = analyse(scene.trace(mounts=two_mounts(scene), missing=[UNREADABLE, "something else"]))

    assert report.verdict.generation_hits_cvmfs == "no"
    assert {check.name: check.agree for check in report.checks} == dict.fromkeys(
        ("fuse_reads", "opens", "http_fetches", "http_bytes"), True
    )
    assert [mount.used for mount in report.trace.mounts] == [False, True]
    assert report.trace.missing == ("something else",)
    assert "other.test.org" not in text.render(report, verbose=True)


@pytest.mark.parametrize("touch", ["request", "page", "open"])
def test_a_used_mount_counts_for_the_verdict(touch: str) -> None:
    scene = generation()
    if touch == "request":
        scene.add(Kind.FUSE_SEND, 120, 121, tid=TARGET, a=9000, b=CONNECTION + 1, c=Opcode.LOOKUP << 32 | 50)
    elif touch == "page":
        scene.add(Kind.PAGE_MAP, 120, tid=TARGET, a=CONNECTION + 1, b=7, c=1 << 48)
    else:
        scene.opened(140, 141, 9, "/cvmfs/other.test.org/weights")

    report = analyse(scene.trace(mounts=two_mounts(scene), missing=[UNREADABLE]))

    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert any(UNREADABLE in reason for reason in report.verdict.missing)
    assert [mount.used for mount in report.trace.mounts] == [True, True]
    assert report.trace.missing == (UNREADABLE,)
    assert "other.test.org (cvmfs2 2.11.0, pid 250)" in text.render(report, verbose=True)


def test_forget_requests_are_not_use_of_a_mount() -> None:
    scene = generation()
    scene.add(Kind.FUSE_SEND, 120, 121, tid=TARGET, a=9000, b=CONNECTION + 1, c=Opcode.FORGET << 32 | 50)

    assert not analyse(scene.trace(mounts=two_mounts(scene))).trace.mounts[0].used


def test_checks_are_per_mount_and_summed() -> None:
    # GIVEN a mount that counted a read too many, and one that counted a read too few
    scene = generation()
    scene.request(Opcode.READ, 150, 155, 158, sent=149)
    names = ("cvmfs.n_fs_read", "cvmfs.n_fs_open", "download.n_requests", "download.sz_transferred_bytes")
    scene.add(Kind.FUSE_SEND, 120, 121, tid=TARGET, a=9000, b=CONNECTION + 1, c=Opcode.READ << 32 | 80)
    scene.add(Kind.FUSE_DAEMON, 120.2, 120.8, tid=251, tgid=DAEMON + 50, a=9000, b=7, c=Opcode.READ << 32 | TARGET)
    after = dict.fromkeys(names, 0)
    first, second = (
        scene.mount(scene.arrays()[0]),
        other_mount(counters_before=dict.fromkeys(names, 0), counters_after=after),
    )

    # WHEN their sums are equal all the same
    checks = {check.name: check for check in analyse(scene.trace(mounts=[first, second])).checks}

    # THEN they do not agree
    assert (checks["fuse_reads"].traced, checks["fuse_reads"].client) == (3, 3)
    assert not checks["fuse_reads"].agree
    assert checks["opens"].agree


@pytest.mark.parametrize(
    "client_count, traced_count, agree", [(0, 1, False), (1, 1, True), (2, 2, True), (3, 2, False)]
)
def test_a_request_in_flight_while_the_counters_are_read_may_be_counted(
    client_count: int, traced_count: int, agree: bool
) -> None:
    # GIVEN a READ that ended before the counters were asked for, one while they were, and one after they had come
    scene = Scene().add(Kind.PROC_EXEC, 0, tid=TARGET)
    for begin in (110, 210, 310):
        scene.request(Opcode.READ, begin, begin + 20, begin + 30, sent=begin - 1)
    scene.add(Kind.PROC_EXIT, 900, tid=TARGET)
    answer_times = {
        "counted_ns": [START + 200 * US, START + 600 * US],
        "answered_ns": [START + 300 * US, START + 700 * US],
    }
    names = ("cvmfs.n_fs_read", "cvmfs.n_fs_open", "download.n_requests", "download.sz_transferred_bytes")
    counts = {"counters_before": dict.fromkeys(names, 0), "counters_after": dict.fromkeys(names, 0)}
    counts["counters_after"]["cvmfs.n_fs_read"] = client_count
    mount = {**scene.mount(scene.arrays()[0]), **answer_times, **counts}

    checks = {check.name: check for check in analyse(scene.trace(mounts=[mount])).checks}

    # THEN the first is not expected, the second may be, the third must be
    assert (checks["fuse_reads"].traced, checks["fuse_reads"].agree) == (traced_count, agree)


def test_unused_mounts_are_named_in_one_line() -> None:
    mounts = [other_mount(fqrn=f"m{number}.org", connection=50 + number, daemon_pid=0) for number in range(12)]

    report = analyse(Scene().add(Kind.PROC_EXEC, 0, tid=TARGET).trace(mounts=mounts))

    assert "CVMFS not used (m0.org, m1.org, m2.org, 9 more)" in text.render(report, width=200, verbose=True)
    assert report.checks == ()


@pytest.mark.parametrize(
    "argv, name",
    [
        (["phi3-qa.py"], "phi3-qa.py"),
        (["/usr/bin/python3", "examples/phi3-qa.py", "-m", "x"], "phi3-qa.py"),
        (["sh", "-c", 'exec "$@"', "/sys/fs/x", "/usr/bin/python", "examples/phi3-qa.py", "other.py"], "phi3-qa.py"),
        (["/usr/bin/true", "-v"], "true"),
        ([], "a running process"),
    ],
)
def test_the_title_is_the_script(argv: list[str], name: str) -> None:
    report = analyse(Scene().add(Kind.PROC_EXEC, 0, tid=TARGET).trace(target={"argv": argv, "pid": TARGET}))

    assert text.render(report, verbose=True).startswith(f"{name} · ")
