"""`report`, `compare` and `check` under sudo: no right of root's is left when they look at the first option."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE
from throwaway import SECRET, Somebody
from tiny import open_to_all

from cvtrace.probes.events import no_texts
from cvtrace.tracer.store import TraceWriter

pytestmark = pytest.mark.root

EVERY = ("report", "check", "compare")


@pytest.fixture
def trace(ann: Somebody) -> Iterator[Path]:
    """Make a trace of ann's, in her home."""
    path = ann.home / "trace"
    make_trace(path)
    ann.owns(path, *path.iterdir())
    yield path
    subprocess.run(["rm", "-rf", path, ann.home / "out"], check=True)


def make_trace(path: Path) -> None:
    writer = TraceWriter(
        path,
        {
            "clock": {"start_ns": 0, "end_ns": 10**9},
            "target": {"argv": ["python", "qa.py"]},
            "mounts": [{"path": "/cvmfs/a.example.org", "fqrn": "a.example.org"}],
        },
    )
    import numpy as np

    from cvtrace.probes.events import EVENT

    events = np.zeros(100, dtype=EVENT)
    events["ts"] = np.arange(100) * 10**6
    events["kind"] = 17
    writer.write(events, no_texts())
    writer.finish(end="exited")


def under_sudo(ann: Somebody, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Call cvtrace as sudo calls it for ann: as root, with her number in the environment."""
    return subprocess.run(
        [*CVTRACE, *map(str, words)],
        cwd=ann.home,
        env={"PATH": os.environ["PATH"], "HOME": "/root", **ann.under_sudo},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def as_root(workdir: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Call cvtrace as root itself."""
    return subprocess.run(
        [*CVTRACE, *map(str, words)], cwd=workdir, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_report_runs_with_every_id_of_the_caller_and_no_capability(ann, trace):
    """It ran as root with all capabilities."""
    program = (
        "import sys, cvtrace.cli as c\nsys.argv = ['cvtrace', 'report', '--help']\n"
        "try:\n    c.main()\nexcept SystemExit:\n    pass\n"
        "import os\nprint(os.getresuid(), os.getresgid(), os.getgroups(), os.environ['HOME'], 'SUDO_UID' in os.environ)\n"
        "print(*[line for line in open('/proc/self/status') if line.startswith(('CapPrm', 'CapEff', 'CapAmb'))], sep='')\n"
        "try:\n    os.setuid(0)\nexcept OSError as error:\n    print(error.strerror)\n"
    )
    result = subprocess.run(
        [*CVTRACE[:1], "-c", program],
        env={"HOME": "/root", **ann.under_sudo},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = result.stdout[result.stdout.index(f"({ann.uid}") :].splitlines()
    assert lines[0] == f"{(ann.uid,) * 3} {(ann.gid,) * 3} {[ann.gid]} {ann.home} False", result.stderr
    assert {line.split()[1] for line in lines[1:4]} == {"0" * 16}
    assert lines[-1] == "Operation not permitted"


@pytest.mark.parametrize("verb", EVERY)
def test_a_trace_that_only_root_may_read_is_not_read(ann, tmp_path, verb):
    """The caller read any trace of root's, and whatever a file of it links to."""
    make_trace(tmp_path / "roots")
    open_to_all(tmp_path)
    arguments = {"report": (), "check": ("trace.events == 100",), "compare": (tmp_path / "roots",)}[verb]
    result = under_sudo(ann, verb, tmp_path / "roots", *arguments)
    assert result.returncode in (2, 4), result.stdout + result.stderr
    assert "Permission denied" in result.stderr or "is not readable" in result.stderr
    assert result.stdout == ""


def test_output_goes_only_where_the_caller_may_write(ann, trace, workdir):
    """`-o /etc/cron.d/x` wrote there."""
    (workdir / "closed").mkdir(mode=0o755)
    for form, name in (("html", "x.html"), ("csv", "tables"), ("csv", "x.zip"), ("json", "x.json")):
        result = under_sudo(ann, "report", trace, "--format", form, "-o", workdir / "closed" / name)
        assert result.returncode == 2, result.stderr
        assert "Permission denied" in result.stderr
    assert list((workdir / "closed").iterdir()) == []
    result = under_sudo(ann, "report", trace, "--format", "json", "-o", "out")
    assert result.returncode == 0, result.stderr
    assert (ann.home / "out").stat().st_uid == ann.uid


def test_options_do_not_reveal_the_contents_of_closed_folders(ann, trace, secret):
    """`--access-log` and `--model` said as root whether a file is there."""
    secret.parent.chmod(0o700)
    for option in ("--access-log", "--model"):
        result = under_sudo(ann, "report", trace, option, secret if option == "--access-log" else secret.parent / "d")
        nowhere = under_sudo(ann, "report", trace, option, secret.parent / "nothing")
        assert result.returncode == nowhere.returncode == 2
        assert result.stderr.replace("shadow", "x").replace("/d'", "/x'") == nowhere.stderr.replace("nothing", "x")


FORMS = ("text", "json", "html", "perfetto", "speedscope", "folded", "openmetrics", "csv", "parquet")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_written_where_cvtrace_is_closed_to_the_caller(ann, trace, form):
    """GIVEN a cvtrace (or its interpreter) in a folder of root's, as in /root/.pyenv; all that is needed is loaded before."""
    program = (
        "import cvtrace.tracer.privileges as p, sys, pathlib\n"
        "p.closed_to = lambda user: pathlib.Path('/root/closed')\n"
        "from cvtrace.cli import main\nmain()\n"
    )
    out = ann.home / "out"
    words = ["report", str(trace), "--format", form, "-o", str(out), "--force"]
    result = subprocess.run(
        [*CVTRACE[:1], "-c", program, *words],
        env=ann.under_sudo,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert out.stat().st_uid == ann.uid


# Root itself: no sudo, a folder of somebody else's.


def test_tables_are_not_written_through_planted_links(ann, workdir, secret):
    """`mounts.csv` was a link of ann's: root's file was overwritten on the first try."""
    make_trace(workdir / "trace")
    out = ann.home / "tables"
    out.mkdir()
    for form in ("csv", "parquet"):
        for name in ("mounts", "run", "classes", "phases"):
            (out / f"{name}.{form}").symlink_to(secret)
        ann.owns(out, *out.iterdir())
        result = as_root(workdir, "report", "trace", "--format", form, "-o", out, "--force")
        assert result.returncode == 0, result.stderr
        assert secret.read_text() == SECRET
        assert (out / f"run.{form}").is_file()
        assert not (out / f"run.{form}").is_symlink()


def test_a_link_at_or_above_the_output_folder_is_not_followed(ann, workdir, secret):
    """Root wrote wherever ann let it lead."""
    make_trace(workdir / "trace")
    (workdir / "roots").mkdir()
    (ann.home / "out").symlink_to(workdir / "roots")
    ann.owns(ann.home / "out")
    for place in ("out/tables", "out"):
        result = as_root(workdir, "report", "trace", "--format", "csv", "-o", ann.home / place, "--force")
        assert result.returncode == 2, result.stderr
        assert "link of another user" in result.stderr
    result = as_root(workdir, "report", "trace", "--format", "html", "-o", ann.home / "out/x.html")
    assert result.returncode == 2
    result = as_root(workdir, "run", "--probes", "portable", "-o", ann.home / "out/trace", "--", "/bin/true")
    assert result.returncode == 2, result.stderr
    assert list((workdir / "roots").iterdir()) == []
    (ann.home / "out").unlink()


def test_a_report_is_not_written_through_a_link_or_into_a_pipe_of_others(ann, workdir, secret):
    """A link to a device, or a FIFO, in the place of the report was written to."""
    make_trace(workdir / "trace")
    out = ann.home / "x.html"
    for plant in (lambda: out.symlink_to(secret), lambda: out.symlink_to("/dev/zero"), lambda: os.mkfifo(out)):
        plant()
        ann.owns(out)
        result = as_root(workdir, "report", "trace", "--format", "html", "-o", out, "--force")
        assert secret.read_text() == SECRET
        if result.returncode == 0:
            assert out.is_file()
            assert not out.is_symlink()
        else:
            assert (result.returncode, "another user" in result.stderr) == (2, True), result.stderr
        out.unlink()


@pytest.mark.parametrize("name", ["meta.json", "events.parquet", "texts.parquet", "nodes.parquet"])
@pytest.mark.parametrize("kind", ["link", "hard link", "fifo"])
def test_a_file_of_a_trace_that_is_a_link_is_not_read(ann, workdir, secret, name, kind):
    """A trace whose `events.parquet` is a link to root's 0600 file was read; a FIFO was opened."""
    make_trace(workdir / "trace")
    target = workdir / "trace" / name
    roots = workdir / "roots"
    if target.exists():
        target.rename(roots)
    else:
        roots.write_bytes(b"PAR1")
    roots.chmod(0o600)
    {"link": target.symlink_to, "hard link": target.hardlink_to, "fifo": lambda _: os.mkfifo(target)}[kind](roots)
    ann.owns(workdir / "trace")
    result = as_root(workdir, "report", "trace", "--format", "json")
    if name == "nodes.parquet":  # the rest of the trace is whole
        assert result.returncode == 0, result.stderr
        return
    assert result.returncode == 4, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_compare_does_not_follow_links_of_other_users(ann, workdir):
    """`compare` took every trace that a link in the folder leads to."""
    make_trace(workdir / "roots")
    sets = ann.home / "sets"
    sets.mkdir()
    (sets / "a").symlink_to(workdir / "roots")
    ann.owns(sets, sets / "a")
    result = as_root(workdir, "compare", sets, workdir / "roots")
    assert result.returncode == 4, result.stdout
    # AND root's own links are followed
    (sets / "b").symlink_to(workdir / "roots")
    result = as_root(workdir, "compare", sets, workdir / "roots")
    assert result.returncode == 0, result.stderr


def test_devices_and_own_links_still_work(workdir):
    make_trace(workdir / "trace")
    (workdir / "latest").symlink_to("trace")
    result = as_root(workdir, "report", "latest", "--format", "json", "-o", "/dev/stdout")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("{")
    result = subprocess.run(
        ["bash", "-c", f"{' '.join(CVTRACE)} report latest --format json -o >(head -c 1 >first)"],
        cwd=workdir,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_doctor_reads_a_model_with_the_rights_of_the_caller(ann, workdir, secret):
    """`doctor --model` added up the sizes of root's files where a link led to, and said whether a closed folder is there."""
    secret.write_bytes(b"x" * 7_000_000)
    secret.parent.chmod(0o700)
    model = ann.home / "model"
    model.mkdir()
    (model / "weights").symlink_to(secret)
    ann.owns(model)
    for path in (secret.parent / "shadow", secret.parent / "nothing"):
        result = under_sudo(ann, "doctor", "--json", "--model", path)
        assert f"{path} is not there" in result.stdout, result.stderr
        assert "Traceback" not in result.stderr
    program = (
        "import sys\nfrom pathlib import Path\nfrom cvtrace.probes.doctor.model import AsUser, look_at\n"
        f"print(look_at(Path({str(model)!r}), AsUser({ann.uid}, {ann.gid}, ({ann.gid},))).bytes)\n"
        f"print(look_at(Path({str(model)!r}), None).bytes)\n"
    )
    result = subprocess.run([CVTRACE[0], "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["0", "7000000"]


@pytest.mark.parametrize("number", [38, 1, 22])
def test_without_openat2_links_of_other_users_are_not_followed(ann, workdir, monkeypatch, number):
    """GIVEN a kernel before 5.6, or a filter of system calls that refuses openat2."""
    from cvtrace.tracer import safe_open

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(safe_open, "_openat2", refuse)
    (workdir / "roots" / "in").mkdir(parents=True)
    (workdir / "roots" / "file").write_text("x")
    for link, owner in (("hers", ann.uid), ("own", 0)):
        (workdir / link).symlink_to("roots/in")
        os.chown(workdir / link, owner, owner, follow_symlinks=False)
        (workdir / "roots" / link).symlink_to("file")
    with pytest.raises(safe_open.Unsafe, match="link of another user"):
        safe_open.open_folder(workdir / "hers")
    for path in (workdir / "own", Path("own"), Path("own/../in"), workdir / "roots" / "in" / ".." / "in" / "."):
        fd = safe_open.open_folder(path)
        assert Path(f"/proc/self/fd/{fd}").readlink() == workdir / "roots" / "in"
        os.close(fd)
    roots = safe_open.open_folder("roots")
    for name in ("own", "..", "in/../file", "in", ""):
        with pytest.raises(OSError, match=r"link|not the name|regular"):
            safe_open.open_regular(roots, name)
    assert safe_open.open_regular(roots, "file").read() == b"x"
    with pytest.raises(safe_open.Unsafe, match="1 bytes, and cvtrace reads 0"):
        safe_open.open_regular(roots, "file", 0)
    os.close(roots)
    (workdir / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="Too many levels"):
        safe_open.open_folder(workdir / "loop")


def test_a_model_that_is_not_a_regular_file_is_not_opened(workdir, monkeypatch):
    """A FIFO or a device was opened, and only then looked at; opening alone can start a watchdog or rewind a tape."""
    from cvtrace.analysis.storage.headers.files import _read
    from cvtrace.analysis.storage.headers.source import Unreadable

    os.mkfifo(workdir / "model.onnx")
    (workdir / "linked.onnx").symlink_to("/dev/zero")
    opened: list[int] = []
    real = os.open

    def watched(path: object, flags: int, *words: object, **more: object) -> int:
        opened.append(flags)
        return real(path, flags, *words, **more)

    monkeypatch.setattr(os, "open", watched)
    for name in ("model.onnx", "linked.onnx"):
        with pytest.raises(Unreadable, match="not a file"):
            _read(f"/cvmfs/{name}", str(workdir / name), (str(workdir),))
    assert opened
    assert all(flags & os.O_PATH for flags in opened)
