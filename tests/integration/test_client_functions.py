"""Functions of the client's library, through real uprobes: of several processes, in a root of their own, stripped, loaded late."""

from __future__ import annotations

import collections
import json
import lzma
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from client_library import LIBRARY, PROGRAM, SONAME, Client, build_library, compile_to, in_root
from ebpf_recording import of_kind
from waiting import wait_until

from cvtrace.probes.cvmfs.daemon import Process
from cvtrace.probes.cvmfs.mounts import Mount
from cvtrace.probes.doctor.client_library import client_functions
from cvtrace.probes.doctor.finding import OK, WARNING, Finding
from cvtrace.probes.ebpf import kprobes, uprobes
from cvtrace.probes.ebpf.client import FUNCTIONS
from cvtrace.probes.ebpf.probe import EbpfProbe
from cvtrace.probes.ebpf.symbols import debug_file, locate
from cvtrace.probes.elf import Elf
from cvtrace.probes.events import NOT_KNOWN, UNFINISHED, Events, Kind
from cvtrace.probes.probe import Daemon, Scope

pytestmark = pytest.mark.root

CALLS = {Kind.FETCH_CALL: 2, Kind.DOWNLOAD_CALL: 1, Kind.CLEANUP: 2, Kind.BACKOFF: 2}
"""What one `run` of the library does."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_to(tmp_path_factory.mktemp("client") / "client", PROGRAM)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("library"))


@pytest.fixture
def clients(program: Path) -> Iterator[list[Client]]:
    clients: list[Client] = []
    yield clients
    for client in clients:
        client.end()


def observed(probe: EbpfProbe, clients: list[Client]) -> EbpfProbe:
    probe.start(Scope(tuple(Daemon(client.pid) for client in clients), ()))
    return probe


def finished(probe: EbpfProbe) -> Events:
    events = [probe.drain()[0]]
    probe.stop()
    return np.concatenate([*events, probe.drain()[0]])


def calls_of(events: Events, pid: int) -> dict[Kind, int]:
    """Count the calls of a process."""
    of_target = collections.Counter(events["kind"][events["tgid"] == pid].tolist())
    return {kind: of_target[kind] for kind in CALLS}


def stripped(library: Path, folder: Path) -> Path:
    shutil.copy(library, folder / SONAME)
    subprocess.run(["strip", folder / SONAME], check=True)
    return folder / SONAME


def test_each_call_is_recorded_with_its_values(program: Path, library: Path, clients: list[Client]) -> None:
    # GIVEN a client whose library's functions are in .symtab only / WHEN it calls each
    clients.append(Client(program).do(str(library)))
    probe = observed(EbpfProbe(), clients)
    clients[0].do("run")
    events = finished(probe)

    # THEN
    assert probe.missing() == []
    fetches, download = of_kind(events, Kind.FETCH_CALL), of_kind(events, Kind.DOWNLOAD_CALL)
    assert fetches["ret"].tolist() == [30, 60]
    assert download["a"].tolist() == [0xABC0]
    assert fetches["ts"][1] <= download["ts"][0]
    assert download["ts"][0] + download["dur"][0] <= fetches["ts"][1] + fetches["dur"][1]
    assert download["dur"][0] >= 2_000_000
    # the second clean-up had nothing to do
    cleanups = of_kind(events, Kind.CLEANUP)
    assert cleanups["a"].tolist() == [4_000_000] * 2
    assert cleanups["b"].tolist() == [4_001_000, 0]
    assert cleanups["c"].tolist() == [3_999_500, 0]
    assert cleanups["ret"].tolist() == [1, 1]
    backoff = of_kind(events, Kind.BACKOFF)
    assert backoff["a"].tolist() == [0xABC0, 0]
    assert backoff["dur"][0] >= 20_000_000
    assert backoff["dur"][1] >= 10_000_000


def test_processes_that_share_a_library_are_distinguished(
    program: Path, library: Path, clients: list[Client], tmp_path: Path
) -> None:
    # GIVEN two observed clients and one that is not, of the same file, and one of another with exported functions
    exported = build_library(tmp_path, exported=True)
    clients += [Client(program).do(str(library)) for _ in range(3)]
    clients.append(Client(program).do(str(exported)))
    probe = observed(EbpfProbe(), [clients[0], clients[1], clients[3]])

    # WHEN
    for client, times in zip(clients, (1, 2, 3, 4), strict=True):
        for _ in range(times):
            client.do("run")
    events = finished(probe)

    # THEN every call is there once, with whom it belongs to
    for client, times in zip(clients, (1, 2, 0, 4), strict=True):
        assert calls_of(events, client.pid) == {kind: count * times for kind, count in CALLS.items()}


def test_a_library_that_only_the_client_can_see(
    program: Path, library: Path, clients: list[Client], tmp_path: Path
) -> None:
    # GIVEN a client in a root and a mount namespace of its own
    place = f"/mnt/{SONAME}"
    assert not Path(place).exists()
    root = tmp_path / "root"
    root.mkdir()
    clients.append(Client(program, *in_root(root, library, place)).do(place))

    # WHEN
    probe = observed(EbpfProbe(), clients)
    clients[0].do("run")

    # THEN
    assert calls_of(finished(probe), clients[0].pid) == CALLS
    assert list(root.iterdir()) == []


def test_a_stripped_library_is_reported_and_nothing_else_changes(
    program: Path, library: Path, clients: list[Client], tmp_path: Path
) -> None:
    # GIVEN a client with a stripped library, and one with a whole one
    build_id = Elf(str(library)).build_id() or ""
    clients += [Client(program).do(str(stripped(library, tmp_path))), Client(program).do(str(library))]
    probe = observed(EbpfProbe(), clients)

    # WHEN
    for client in clients:
        client.do("run")
    events = finished(probe)

    # THEN the one tells nothing of its functions, and it is said how to have them; its system calls are seen as ever
    assert calls_of(events, clients[0].pid) == dict.fromkeys(CALLS, 0)
    assert calls_of(events, clients[1].pid) == CALLS
    (sentence,) = probe.missing()
    assert sentence.startswith("shared downloads as cvmfs2 has them, clean-ups of its cache and its back-off (")
    assert f"({SONAME} has no symbols, build id {build_id}" in sentence
    assert f"/{debug_file(build_id)}" in sentence
    libraries = probe.client_library(clients[0].pid), probe.client_library(clients[1].pid)
    assert [library.functions if library else None for library in libraries] == [(), FUNCTIONS]


def test_the_doctor_says_which_functions_there_are(
    program: Path, library: Path, clients: list[Client], tmp_path: Path
) -> None:
    # GIVEN a client with a whole library, one with a stripped one, and one without
    clients += [Client(program).do(str(library)), Client(program).do(str(stripped(library, tmp_path))), Client(program)]

    def findings(pid: int, client: str = "cvmfs2") -> list[Finding]:
        mount = Mount("/cvmfs/x", 1, "x.org", "2.12.0", Process(pid, 0, None, client), None)
        return [finding for finding in (client_functions(mount),) if finding]

    # WHEN
    complete, bare, none = (findings(client.pid)[0] for client in clients)

    # THEN
    assert [item.status for item in (complete, bare, none)] == [OK, WARNING, WARNING]
    assert all(name in complete.sentence for name in FUNCTIONS)
    assert (Elf(str(library)).build_id() or "?") in complete.sentence
    assert "/usr/lib/debug/.build-id/" in (bare.mend or "")
    # and the lab's client, which is no library, is not asked for one
    assert findings(clients[0].pid, "cvtrace-lab") == []


def test_debug_symbols_of_the_same_build_are_used(library: Path, tmp_path: Path) -> None:
    # GIVEN a stripped library, and its debug symbols where a package puts them, and those of another build
    want = dict(enumerate(FUNCTIONS))
    offsets = locate(str(library), want, ()).offsets
    assert len(offsets) == len(FUNCTIONS)
    bare = stripped(library, tmp_path)
    assert locate(str(bare), want, (str(tmp_path),)).offsets == {}
    debug = tmp_path / debug_file(Elf(str(library)).build_id() or "")
    debug.parent.mkdir(parents=True)
    subprocess.run(["objcopy", "--only-keep-debug", library, debug], check=True)

    # WHEN / THEN the functions are where they are in the whole library
    assert locate(str(bare), want, (str(tmp_path),)).offsets == offsets
    # and those of another build are not taken, even if they lie there
    compile_to(debug, f"{LIBRARY}\nint another;", "-shared", "-fPIC", "-Wl,--build-id=sha1")
    assert locate(str(bare), want, (str(tmp_path),)).offsets == {}


def test_the_minidebuginfo_of_fedora_is_used(library: Path, tmp_path: Path) -> None:
    # GIVEN a stripped library with .gnu_debugdata
    want = dict(enumerate(FUNCTIONS))
    small = tmp_path / "small"
    subprocess.run(["objcopy", "--only-keep-debug", "--strip-debug", library, small], check=True)
    (tmp_path / "small.xz").write_bytes(lzma.compress(small.read_bytes()))
    bare = stripped(library, tmp_path)
    subprocess.run(["objcopy", f"--add-section=.gnu_debugdata={tmp_path}/small.xz", bare], check=True)

    # WHEN / THEN
    assert locate(str(bare), want, ()).offsets == locate(str(library), want, ()).offsets
    # and what is there in its place may be anything
    (tmp_path / "small.xz").write_bytes(b"no such thing")
    subprocess.run(["objcopy", f"--update-section=.gnu_debugdata={tmp_path}/small.xz", bare], check=True)
    assert locate(str(bare), want, ()).offsets == {}


def test_a_client_that_is_reloaded_with_another_library(
    program: Path, library: Path, clients: list[Client], tmp_path: Path
) -> None:
    # GIVEN a client that is observed
    shutil.copy(library, tmp_path / "libcvmfs_fuse3.so.10.0")
    clients.append(Client(program).do(str(library)))
    probe = observed(EbpfProbe(), clients)

    # WHEN it loads another library
    clients[0].do("run").do(str(tmp_path / "libcvmfs_fuse3.so.10.0"))
    drained = []

    def is_seen() -> bool:
        drained.append(probe.drain()[0])
        library_ = probe.client_library(clients[0].pid)
        return library_ is not None and library_.name == "libcvmfs_fuse3.so.10.0"

    wait_until(is_seen, "the new library is found")
    clients[0].do("run")

    # THEN the calls into both are there
    events = np.concatenate([*drained, finished(probe)])
    assert calls_of(events, clients[0].pid) == {kind: 2 * count for kind, count in CALLS.items()}


def test_a_client_that_reloads_from_a_stripped_to_an_unstripped_library(
    program: Path, library: Path, clients: list[Client], tmp_path: Path
) -> None:
    # GIVEN a client with a stripped library
    clients.append(Client(program).do(str(stripped(library, tmp_path))))
    probe = observed(EbpfProbe(), clients)
    assert probe.client_library(clients[0].pid) is not None

    # WHEN it is reloaded with a whole one
    clients[0].do("run").do(str(library))
    drained = []

    def is_attached() -> bool:
        clients[0].do("run")
        drained.append(probe.drain()[0])
        return any(len(of_kind(events, Kind.CLEANUP)) for events in drained)

    wait_until(is_attached, "the new library is attached")
    finished(probe)

    # THEN its calls are seen, and that none were before stays said
    library_ = probe.client_library(clients[0].pid)
    assert (library_.functions if library_ else None) == ()
    assert "has no symbols" in " ".join(probe.missing())


def test_a_call_that_has_not_returned_is_recorded_at_the_end(
    program: Path, library: Path, clients: list[Client]
) -> None:
    # GIVEN a client that is stopped in back-off
    clients.append(Client(program).do(str(library)))
    probe = observed(EbpfProbe(), clients)
    clients[0].tell("hang")
    table = probe._bpf[b"client_calls"]
    wait_until(lambda: len(table.items()) == 1, "the call has begun")
    os.kill(clients[0].pid, 19)

    # WHEN / THEN
    (call,) = of_kind(finished(probe), Kind.BACKOFF | UNFINISHED)
    assert (call["a"], call["tgid"]) == (0xDEF0, clients[0].pid)
    assert call["dur"] > 0


def test_older_kernels_attach_to_each_function(
    program: Path, clients: list[Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a kernel without cookies, and a file of its own: perf events are gone some time after the recording only
    monkeypatch.setattr(uprobes, "release", lambda: (5, 10))
    monkeypatch.setattr(kprobes, "release", lambda: (5, 10))
    clients.append(Client(program).do(str(build_library(tmp_path))))
    probe = observed(EbpfProbe(), clients)

    # WHEN / THEN
    clients[0].do("run")
    assert calls_of(finished(probe), clients[0].pid) == CALLS


def test_two_recordings_at_once(program: Path, library: Path, clients: list[Client]) -> None:
    # GIVEN two recorders of one client
    clients.append(Client(program).do(str(library)))
    probes = [observed(EbpfProbe(), clients), observed(EbpfProbe(), clients)]

    # WHEN one ends earlier
    clients[0].do("run")
    first = finished(probes[0])
    clients[0].do("run")

    # THEN each has all calls of its time
    assert calls_of(first, clients[0].pid) == CALLS
    assert calls_of(finished(probes[1]), clients[0].pid) == {kind: 2 * count for kind, count in CALLS.items()}


LATE = """
import json, sys
from cvtrace.probes.ebpf.probe import EbpfProbe
from cvtrace.probes.probe import Daemon, Scope
from cvtrace.tracer.privileges import give_up
probe = EbpfProbe()
probe.start(Scope((), ()))
give_up(probe, ())
probe.add_scope([Daemon(int(sys.argv[1]))], ())
print("attached", flush=True)
input()
probe.stop()
print(json.dumps([probe.drain()[0]["kind"].tolist(), probe.missing()]))
"""


def test_a_client_that_appears_when_privileges_are_given_up(
    program: Path, library: Path, clients: list[Client]
) -> None:
    # GIVEN a recorder that has given up all it does not need
    clients.append(Client(program).do(str(library)))
    argv = [sys.executable, "-c", LATE, str(clients[0].pid)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as recorder:
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == "attached\n"

        # WHEN
        clients[0].do("run")
        kinds, missing = json.loads(recorder.communicate("\n", timeout=120)[0])

    # THEN
    assert missing == []
    assert {kind: kinds.count(kind) for kind in CALLS} == CALLS


def test_a_quota_manager_that_cannot_be_read(program: Path, clients: list[Client], tmp_path: Path) -> None:
    # GIVEN a library whose quota manager lies where nothing is readable behind it
    text = LIBRARY.replace("cleanup(&quota, 4000000);", "cleanup(sbrk(0), 4000000);")
    text = text.replace("while (quota->gauge > leave) { quota->gauge -= 1000; quota->seq++; }", "")
    shared = compile_to(tmp_path / SONAME, text, "-shared", "-fPIC")
    clients.append(Client(program).do(str(shared)))
    probe = observed(EbpfProbe(), clients)

    # WHEN / THEN nothing is made up
    clients[0].do("run")
    cleanups = of_kind(finished(probe), Kind.CLEANUP)
    assert cleanups["b"].tolist() == cleanups["c"].tolist() == [NOT_KNOWN, NOT_KNOWN]
