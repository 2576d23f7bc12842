"""The counters of the hook are those of the schema, and samples of a process have its numbers."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cvtrace.probes.events import NO_MOUNT, Kind
from cvtrace.probes.phases.functions import INDEX as FUNCTION
from cvtrace.probes.phases.hook import INJECT, CounterSource, environment
from cvtrace.probes.portable.counts import COUNTS, INDEX
from cvtrace.probes.portable.probe import PortableProbe
from cvtrace.probes.portable.processes import usage
from cvtrace.probes.probe import Scope

AFFAIRS = Path(__file__).parents[2] / "data" / "talk" / "internal_affairs.txt"


@pytest.fixture
def hook(monkeypatch):
    monkeypatch.syspath_prepend(str(INJECT))
    module = importlib.import_module("_cvtrace_counts")
    yield module
    for name in ("_cvtrace_counts", "_cvtrace_marks", "_cvtrace_table"):
        sys.modules.pop(name, None)


def test_indices_are_those_of_the_schema(hook):
    assert (hook.COUNTER, hook.NO_MOUNT) == (Kind.COUNTER, NO_MOUNT)
    often = ("OgaGenerator_GenerateNextToken", "onnxruntime.InferenceSession.run", "OgaEngineStep", "OgaEngineRun")
    assert {FUNCTION[name] for name in (*often, "OgaMtpGenerator_GenerateNextToken")} <= set(hook.OFTEN)
    assert dict(hook.XATTRS) == {count.attribute: INDEX[count.name] for count in COUNTS if count.attribute}
    assert all(INDEX[name.decode()] == index for name, index in hook.TALK.items())
    assert INDEX["hitrate"] == hook.HITRATE
    names = ("process.cpu_ns", "process.major_faults", "process.minor_faults", "process.read_bytes")
    assert tuple(INDEX[name] for name in names) == (hook.CPU, hook.MAJOR, hook.MINOR, hook.READ_BYTES)


def test_an_answer_of_a_real_client_is_read(hook):
    # GIVEN what a real client answered THEN all counters that are wanted are found in it
    values = dict(hook.parse_affairs(AFFAIRS.read_bytes()))
    assert len(values) == len(hook.TALK)
    assert values[INDEX["cvmfs.n_fs_read"]] == 15
    assert values[INDEX["download.sz_transferred_bytes"]] == 1382888


@pytest.mark.parametrize("answer", [b"", b"unknown command\n", b"Name|Value|Description\nx|y\n"])
def test_an_answer_without_counters_is_refused(hook, answer):
    with pytest.raises(ValueError):
        hook.parse_affairs(answer)


def test_bytes_read_exclude_those_of_the_hook(hook, tmp_path):
    # GIVEN a process whose counts were read once
    process = hook.ProcessCounts()
    first = dict(process.read(1))
    # WHEN nothing is read but the counts THEN they do not grow
    assert dict(process.read(1))[hook.READ_BYTES] == first[hook.READ_BYTES]
    # WHEN a file is read THEN they grow by its bytes
    (tmp_path / "file").write_bytes(b"x" * 5000)
    with (tmp_path / "file").open("rb", buffering=0) as file:
        file.read(5000)
    assert dict(process.read(1))[hook.READ_BYTES] - first[hook.READ_BYTES] == 5000


def test_attributes_that_are_missing_are_left_out(hook, tmp_path):
    counting = hook.Counting(str(tmp_path / "marks"), [str(tmp_path), "", "/no/such/mount"], ["/no/socket", "", ""])
    counting.open()
    counting.read()
    records = (tmp_path / "marks").read_bytes()
    assert records
    assert len(records) % hook.RECORD.size == 0
    assert {hook.RECORD.unpack_from(records, at)[7] for at in range(0, len(records), hook.RECORD.size)} == {NO_MOUNT}


def test_mounts_keep_their_numbers_when_others_are_left_out(tmp_path):
    variables = environment(tmp_path, {}, [CounterSource("", ""), CounterSource("/cvmfs/a b", "/proc/1/cwd/x", 5)])
    assert variables["CVTRACE_MOUNTS"].split("\n") == ["", "/cvmfs/a b"]
    assert variables["CVTRACE_SOCKETS"].split("\n") == ["", "5 /proc/1/cwd/x"]
    assert "CVTRACE_MOUNTS" not in environment(tmp_path, {})


def test_the_probe_samples_the_process_tree_at_a_limited_rate():
    # GIVEN a probe on this process
    probe = PortableProbe()
    probe.start(Scope((), ()))
    probe.add_target(psutil.Process().pid)
    # WHEN it is drained THEN there is a sample, and at once none more
    events, _ = probe.drain()
    assert {COUNTS[index].name for index in events["b"].tolist()} >= {"process.cpu_ns", "process.rss_bytes"}
    assert set(events["a"].tolist()) == {NO_MOUNT}
    assert len(probe.drain()[0]) == 0
    probe.stop()
    assert len(probe.drain()[0]) == 0


def test_a_process_that_has_ended_has_no_samples():
    child = psutil.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert usage(child)["process.minor_faults"] > 0
    child.communicate(b"\n")
    assert usage(psutil.Process(os.getpid())) != {}
    assert usage(child) == {}
