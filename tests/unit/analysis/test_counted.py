"""Differences between readings of the client's counters: the phase they belong to, and what they prove."""

from typing import Any

import pytest
from scene import TARGET, Scene

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.report import text
from cvtrace.probes.events import NO_MOUNT, Kind
from cvtrace.probes.portable.counts import INDEX

TALK = {"cvmfs.n_fs_open": 10, "cvmfs.n_fs_read": 100, "cvmfs.n_fs_lookup": 5, "download.n_requests": 3}
CLIENT_COUNTERS = {"nopen": 10, "ndownload": 3, "rx": 50, "hitrate": 90_000}


class Readings:
    """A load, two tokens and what the counters were around them."""

    def __init__(self, values: dict[str, int]) -> None:
        self.scene = Scene(end=1000)
        self.values = {**values, "process.major_faults": 7}
        self.at(99)
        self.scene.call("OgaCreateModel", 100, 400)

    def at(self, time: int, **grown: int) -> None:
        for name, growth in grown.items():
            self.values[name.replace("__", ".")] += growth
        for name, value in self.values.items():
            mount = NO_MOUNT if name.startswith("process.") else 0
            self.scene.add(Kind.COUNTER, time, tid=TARGET, a=mount, b=INDEX[name], c=value)

    def tokens(self, version: str = "2.12.0", **grown: int) -> Report:
        self.at(499)
        self.scene.call("OgaGenerator_GenerateNextToken", 500, 520)
        self.scene.call("OgaGenerator_GenerateNextToken", 530, 550)
        self.at(551, **grown)
        self.at(900)
        return analyse(self.scene.trace(**self.meta(version)))

    def meta(self, version: str = "2.12.0") -> dict[str, Any]:
        mount = {**Scene().mount(self.scene.arrays()[0]), "version": version}
        return {"probe": "portable", "mounts": [{**mount, "counters_before": {}, "counters_after": {}}]}


def loaded(values: dict[str, int], **grown: int) -> Readings:
    readings = Readings(values)
    readings.at(401, **grown)
    return readings


def test_counter_differences_belong_to_the_phase_between_the_readings():
    report = loaded(CLIENT_COUNTERS, nopen=4, ndownload=6, rx=1000).tokens(ndownload=1, rx=10)
    phases = {row.name: (row.http_fetches, row.http_bytes) for row in report.phases}
    assert phases["load"] == (6, 1000 * 1024)
    assert phases["decode"] == (1, 10 * 1024)
    assert phases["script"] == (0, 0)


@pytest.mark.parametrize("grown", [{"nopen": 1}, {"ndownload": 1}, {"rx": 1}, {"hitrate": -12}])
def test_a_counter_that_moves_between_tokens_is_a_yes(grown):
    report = loaded(CLIENT_COUNTERS, nopen=4).tokens(**grown)
    assert report.verdict.generation_hits_cvmfs == "yes"
    assert any("all processes that use the mount" in reason for reason in report.verdict.missing)
    assert "from the prefill to the last token" in " ".join(text.render(report, verbose=True).split())


def test_unchanged_attributes_prove_nothing():
    report = loaded(CLIENT_COUNTERS, nopen=4).tokens(process__major_faults=3)
    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert (report.verdict.http_fetches, report.verdict.fuse_reads) == (0, None)
    assert "3 major page faults" in " ".join(report.verdict.proof)


def test_unchanged_counters_of_the_talk_socket_prove_a_no():
    report = with_counts(loaded(TALK, cvmfs__n_fs_open=4, cvmfs__n_fs_read=50))
    assert report.verdict.generation_hits_cvmfs == "no", report.verdict
    assert "50 reads and 4 opens in the load" in " ".join(report.verdict.proof)


def with_counts(readings: Readings, version: str = "2.12.0", kernel: str = "6.18.0", **grown: int) -> Report:
    readings.tokens(**grown)
    meta = readings.meta(version)
    meta["mounts"][0] |= {"counters_before": TALK, "counters_after": {name: 2 * count for name, count in TALK.items()}}
    return analyse(readings.scene.trace(**meta, kernel=kernel))


@pytest.mark.parametrize("name", ["cvmfs__n_fs_read", "cvmfs__n_fs_lookup", "cvmfs__n_fs_open", "download__n_requests"])
def test_with_the_talk_socket_each_request_counts(name):
    report = with_counts(loaded(TALK, cvmfs__n_fs_open=4), **{name: 1})
    assert report.verdict.generation_hits_cvmfs == "yes"


def test_a_load_without_opens_is_not_a_proof():
    report = with_counts(loaded(TALK))
    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert any("may not come from there" in reason for reason in report.verdict.missing)


def test_a_client_with_passthrough_prevents_a_proof():
    report = with_counts(loaded(TALK, cvmfs__n_fs_open=4), version="2.14.1")
    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert any("passthrough" in reason for reason in report.verdict.missing)


@pytest.mark.parametrize(("version", "kernel"), [("2.13.1", "6.18.0"), ("2.14.1", "6.12.4-amd64")])
def test_passthrough_needs_client_and_kernel(version, kernel):
    report = with_counts(loaded(TALK, cvmfs__n_fs_open=4, cvmfs__n_fs_read=50), version=version, kernel=kernel)
    assert report.verdict.generation_hits_cvmfs == "no", report.verdict


@pytest.mark.parametrize("grown", [{"ndownload": 1}, {"rx": 900}, {"hitrate": -12}])
def test_a_download_alone_may_be_a_prefetch_where_the_client_prefetches(grown):
    # GIVEN a client that prefetches, of which this user is shown opens and downloads
    report = loaded(CLIENT_COUNTERS, nopen=4).tokens(version="2.14.0", **grown)
    # THEN a download alone is neither a yes nor a no
    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert any("it may have prefetched a bundle" in reason for reason in report.verdict.missing)
    # and an open, or a download of a client that does not prefetch, is a yes
    assert loaded(CLIENT_COUNTERS, nopen=4).tokens(version="2.14.0", nopen=1).verdict.generation_hits_cvmfs == "yes"
    assert loaded(CLIENT_COUNTERS, nopen=4).tokens(version="2.13.0", **grown).verdict.generation_hits_cvmfs == "yes"


def test_where_reads_are_counted_a_prefetch_does_not_prevent_a_no():
    # GIVEN a client that prefetches and counts reads, on a kernel without passthrough / WHEN it only downloads between two tokens
    readings = loaded(TALK, cvmfs__n_fs_open=4, cvmfs__n_fs_read=50)
    report = with_counts(readings, version="2.14.0", kernel="6.12.4", download__n_requests=3)
    # THEN no request asked for that
    assert report.verdict.generation_hits_cvmfs == "no", report.verdict


def test_a_client_that_was_restarted_counts_from_zero():
    report = loaded(CLIENT_COUNTERS, nopen=-8).tokens()
    assert all((row.http_fetches or 0) >= 0 for row in report.phases)


def test_a_late_reading_is_reported():
    readings = loaded(CLIENT_COUNTERS, nopen=4)
    readings.at(499)
    readings.scene.call("OgaGenerator_GenerateNextToken", 500, 520)
    readings.at(520 + 20_000)
    readings.scene.end = 30_000
    report = analyse(readings.scene.trace(**readings.meta()))
    assert "after the last" in " ".join(report.verdict.proof)


def open_files(scene: Scene, mount: int, files: int) -> Scene:
    """Add what a sample of the target saw: so many files of a mount."""
    return scene.add(Kind.COUNTER, 600, tid=TARGET, ret=1, a=mount, b=INDEX["process.held_files"], c=files)


@pytest.mark.parametrize(
    "held_files, argv, answer",
    [(3, (), "yes"), (0, ("-m", "/cvmfs/repo.test.org/models/tiny"), "yes"), (0, (), "inconclusive")],
    ids=["mapped", "named", "somebody else's"],
)
def test_counters_of_a_mount_count_if_the_target_uses_it(held_files, argv, answer):
    # GIVEN a mount that was read from between two tokens
    readings = loaded(CLIENT_COUNTERS, nopen=4)
    readings.tokens(ndownload=2)
    open_files(readings.scene, 0, held_files)
    target = {**readings.scene.trace().meta["target"], "argv": ["phi3-qa.py", *argv]}

    report = analyse(readings.scene.trace(**readings.meta(), target=target))

    # THEN it is generation's doing only if the target holds files of it, or names it
    assert report.verdict.generation_hits_cvmfs == answer, report.verdict
    assert report.verdict.http_fetches == (2 if answer == "yes" else None)


def test_use_of_the_mount_by_other_processes_prevents_a_proof():
    readings = loaded(TALK, cvmfs__n_fs_open=4)
    readings.tokens(cvmfs__n_fs_read=1)
    open_files(readings.scene, 0, 0)
    verdict = analyse(readings.scene.trace(**readings.meta())).verdict
    assert verdict.generation_hits_cvmfs == "inconclusive"
    assert any(
        "by whom is not known" in reason or "may belong to other processes" in reason for reason in verdict.missing
    )
