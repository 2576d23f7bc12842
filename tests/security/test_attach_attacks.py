"""`cvtrace attach` as root executes nothing of the process, and reveals nothing that the caller may not read."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from throwaway import PYTHON, Somebody, sudoers
from waiting import wait_until

from cvtrace.tracer.running import libraries_of
from cvtrace.tracer.store import read_trace

pytestmark = pytest.mark.root
CVTRACE = [sys.executable, "-m", "cvtrace"]
FIFO, DEVICE, LINK, FOLDER, SPARSE = "fifo", "device", "link", "folder", "sparse"


def attach(pid: int, mount: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    words = ["attach", str(pid), "--for", "0.3s", "--probes", "ebpf", "--no-summary", "-o", "trace"]
    return subprocess.run(
        [*CVTRACE, *words, "--mount", str(mount), *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environ},
    )


def refused(result: subprocess.CompletedProcess[str], message: str) -> None:
    assert result.returncode == 3, result.stderr
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not Path("trace").exists()


def evil(user: Somebody, name: str = "python-evil") -> Path:
    """Write a program of the user's that leaves the uid it ran with in `got`, in the user's home."""
    program = user.home / name
    program.write_text(f"#!/bin/sh\nid -u >>{user.home}/got\nexit 1\n")
    program.chmod(0o755)
    user.owns(program)
    (user.home / "got").unlink(missing_ok=True)
    return program


@contextlib.contextmanager
def running(user: Somebody, argv: list[str], **popen: object) -> Iterator[subprocess.Popen[str]]:
    with user.start(argv, **popen) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def set_uid_sleep(workdir: Path) -> Path:
    """A set-user-ID program of root's that everybody may run, such as su and passwd are."""
    program = workdir / "sleep"
    shutil.copy("/bin/sleep", program)
    program.chmod(0o4755)
    return program


def test_a_set_uid_process_names_no_program_for_root(ann: Somebody, workdir: Path, mount: Path, set_uid_sleep) -> None:
    """Root executed argv[0], the attacker's program, with the attacker's environment: uid 0 and all capabilities."""
    program = evil(ann)
    hostile = {**ann.environ, "PYTHONPATH": str(ann.home), "LD_PRELOAD": "x.so", "VIRTUAL_ENV": str(ann.home)}
    with running(ann, [str(program), "60"], executable=str(set_uid_sleep), env=hostile) as process:
        status = Path(f"/proc/{process.pid}/status")
        wait_until(lambda: f"Uid:\t{ann.uid}\t0" in status.read_text(), "the program runs as root")
        result = attach(process.pid, mount)
    assert result.returncode == 0, result.stderr
    assert not (ann.home / "got").exists()


def test_an_ordinary_process_names_no_program_either(ann: Somebody, workdir: Path, mount: Path) -> None:
    """The program ran as the process's owner: beside it, with no terminal, at a moment of root's choosing."""
    program = evil(ann)
    with running(ann, [str(program), "60"], executable="/bin/sleep") as process:
        result = attach(process.pid, mount)
    assert result.returncode == 0, result.stderr
    assert not (ann.home / "got").exists()


def test_attach_to_a_root_process_without_the_right_to_trace_reveals_nothing(
    ann: Somebody, workdir: Path, mount: Path
) -> None:
    """A sudoers line for cvtrace told the working folder, files and system calls of any process of root's."""
    ann.owns(workdir)
    closed = workdir / "closed"
    closed.mkdir(mode=0o700)
    with subprocess.Popen(["sleep", "60"], cwd=closed) as process:
        try:
            refused(attach(process.pid, mount, **ann.under_sudo), f"{ann.name} may not trace process {process.pid}")
        finally:
            process.kill()


def test_attach_reveals_nothing_of_another_users_process(
    ann: Somebody, ben: Somebody, workdir: Path, mount: Path
) -> None:
    """The same of any user's."""
    ann.owns(workdir)
    with running(ben, ["sleep", "60"]) as process:
        refused(attach(process.pid, mount, **ann.under_sudo), "may not trace")
        # AND who asked is the one that sudo, doas or pkexec name
        refused(attach(process.pid, mount, DOAS_USER=ann.name), "may not trace")
        refused(attach(process.pid, mount, PKEXEC_UID=str(ann.uid)), "may not trace")
        assert attach(process.pid, mount, **ben.under_sudo).returncode == 2  # ben may; the folder is ann's


def test_attach_reveals_nothing_of_an_own_process_that_is_not_dumpable_or_set_uid(
    ann: Somebody, workdir: Path, mount: Path, set_uid_sleep
) -> None:
    """An agent that hides its memory from its own user, and `passwd`, were recorded for that user."""
    ann.owns(workdir)
    hides = "import ctypes, time; ctypes.CDLL(None).prctl(4, 0); print('hidden', flush=True); time.sleep(60)"
    with running(ann, [PYTHON, "-c", hides], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hidden\n"
        refused(attach(process.pid, mount, **ann.under_sudo), "may not trace")
    with running(ann, ["sleep", "60"], executable=str(set_uid_sleep)) as process:
        status = Path(f"/proc/{process.pid}/status")
        wait_until(lambda: f"Uid:\t{ann.uid}\t0" in status.read_text(), "the program runs as root")
        refused(attach(process.pid, mount, **ann.under_sudo), "may not trace")


def test_an_own_process_is_recorded(ann: Somebody, workdir: Path, mount: Path) -> None:
    """No attack: what ptrace(2) allows stays allowed."""
    ann.owns(workdir)
    with running(ann, ["sleep", "60"]) as process:
        result = attach(process.pid, mount, **ann.under_sudo)
    assert result.returncode == 0, result.stderr
    trace = read_trace("trace")
    assert trace.damage is None
    assert {path.stat().st_uid for path in (workdir / "trace").iterdir()} == {ann.uid}


def test_attach_respects_the_yama_setting(ann: Somebody, workdir: Path, mount: Path) -> None:
    """With ptrace_scope 1, a process of the same user could be recorded that its user cannot trace."""
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if not scope.exists():
        pytest.skip("this kernel has no Yama")
    if scope.read_text().strip() not in ("1", "2"):
        pytest.skip("Yama does not restrict ptrace here, and this is a setting of the whole machine")
    ann.owns(workdir)
    with running(ann, ["sleep", "60"]) as process:
        refused(attach(process.pid, mount, **ann.under_sudo), "may not trace")


def test_a_sudo_user_with_all_rights_records_any_process(
    ann: Somebody, ben: Somebody, workdir: Path, mount: Path
) -> None:
    """No attack: an administrator who calls sudo is not held up."""
    ann.owns(workdir)
    with running(ben, ["sleep", "60"]) as process:
        with sudoers(f"{ann.name} ALL=(ALL) NOPASSWD: ALL"):
            result = attach(process.pid, mount, **ann.under_sudo)
        assert result.returncode == 0, result.stderr
        shutil.rmtree("trace")
        # AND one whose line is for cvtrace only is
        with sudoers(f"{ann.name} ALL=(ALL) NOPASSWD: /usr/bin/cvtrace"):
            refused(attach(process.pid, mount, **ann.under_sudo), "may not trace")


def plant(kind: str, place: Path, secret: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == FIFO:
        os.mkfifo(place)
    elif kind == DEVICE:
        place.symlink_to("/dev/zero")
    elif kind == LINK:
        place.symlink_to(secret)
    elif kind == FOLDER:
        place.mkdir()
    else:
        place.write_bytes(b"\x7fELF\2\1" + b"\xff" * 58)
        os.truncate(place, 1 << 40)


@pytest.mark.parametrize("kind", [FIFO, DEVICE, LINK, FOLDER, SPARSE])
def test_a_library_named_by_a_process_must_be_a_regular_file_of_its_user(
    ann: Somebody, workdir: Path, mount: Path, secret: Path, kind: str
) -> None:
    """Root globbed and resolved what the environment named, without limits; a FIFO would have held it up for ever."""
    place = ann.home / kind / "onnxruntime_genai" / "libonnxruntime-genai.so"
    plant(kind, place, secret)
    for path in (place, place.parent, place.parent.parent):
        ann.owns(path)
    with running(ann, ["sleep", "60"], env={**ann.environ, "PYTHONPATH": str(place.parent.parent)}) as process:
        with contextlib.ExitStack() as files:
            libraries = libraries_of(process.pid, files)
            assert [file.path for file in libraries] == ([str(place)] if kind == SPARSE else [])
            assert all(os.fstat(file.fd).st_uid == ann.uid for file in libraries)
        result = attach(process.pid, mount)
    assert result.returncode == 0, result.stderr


def test_a_mapped_library_with_hostile_contents_is_harmless(ann: Somebody, workdir: Path, mount: Path) -> None:
    """The file was mapped by root and read without bounds; cut meanwhile, it would have ended the recorder by SIGBUS."""
    library = ann.home / "libonnxruntime-genai.so"
    library.write_bytes(b"\x7fELF\2\1" + bytes(26) + b"\xff" * 32 + bytes(4096))
    ann.owns(library)
    maps = (
        "import mmap, sys, time; file = open(sys.argv[1], 'r+b'); kept = mmap.mmap(file.fileno(), 4096)\n"
        "print('mapped', flush=True)\n"
        "while True: file.truncate(64); file.truncate(1 << 40)"
    )
    with running(ann, [PYTHON, "-c", maps, str(library)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mapped\n"
        result = attach(process.pid, mount)
    assert result.returncode == 0, result.stderr
    assert read_trace("trace").damage is None


def test_a_link_is_resolved_as_the_process_resolves_it(ann: Somebody, workdir: Path) -> None:
    """No attack: in a root of its own, a process finds its library by its own paths, and root finds the same file."""
    root = workdir / "root"
    package = root / "opt" / "env" / "lib" / "python3.11" / "site-packages" / "onnxruntime_genai"
    package.mkdir(parents=True)
    (package / "libonnxruntime-genai.so").symlink_to("/opt/real.so")
    (root / "opt" / "real.so").write_bytes(b"the real one")
    waits = "import os, sys; os.chroot(sys.argv[1]); os.chdir('/'); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [PYTHON, "-c", waits, root],
        env={"VIRTUAL_ENV": "/opt/env"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with contextlib.ExitStack() as files:
            [library] = libraries_of(process.pid, files)
            assert os.pread(library.fd, 100, 0) == b"the real one"
        process.communicate("")
