"""The user that the script runs as and that owns the trace: root, the caller of sudo, or a user named by an option."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE, options, run, script, trace_of
from unprivileged import AS_READER, NOBODY

pytestmark = pytest.mark.root


def test_under_sudo_script_and_trace_are_the_callers(workdir, mount):
    # GIVEN a folder of nobody's, and sudo called by nobody
    os.chown(workdir, NOBODY, NOBODY)
    name = script(
        "import os\n"
        "print(os.getresuid(), os.getresgid(), os.getgroups())\n"
        "print(os.environ['HOME'], os.environ['USER'], os.environ['LOGNAME'], 'SUDO_UID' in os.environ)\n"
        "print([l.split()[1] for l in open('/proc/self/status') if l.startswith(('CapEff', 'CapPrm', 'CapInh'))])\n"
    )
    # WHEN it is recorded
    result = run(mount, name, SUDO_UID=str(NOBODY), SUDO_GID=str(NOBODY), SUDO_USER="nobody")
    # THEN it ran as nobody, without privileges, and the trace is nobody's
    users, names, capabilities = result.stdout.splitlines()
    assert users == f"{(NOBODY,) * 3} {(NOBODY,) * 3} [{NOBODY}]"
    assert names == "/nonexistent nobody nobody False"
    assert capabilities == "['0000000000000000', '0000000000000000', '0000000000000000']"
    assert trace_of(result).meta["target"]["user"] == "nobody"
    owners = {path.stat().st_uid for path in (workdir / "trace", *(workdir / "trace").iterdir())}
    assert owners == {NOBODY}


def test_under_sudo_the_environment_is_what_sudo_was_called_with(workdir, mount):
    # GIVEN a process called sudo that nobody started in an active environment, and that cleans the environment
    os.chown(workdir, NOBODY, NOBODY)
    (workdir / "env" / "bin").mkdir(parents=True)
    (workdir / "env" / "bin" / "python").symlink_to("/usr/bin/python3")
    shutil.copy("/bin/sh", workdir / "sudo")
    name = script(
        "import os, sys\nprint(sys.argv[0], os.environ['VIRTUAL_ENV'], os.environ['USER'], os.environ['GIVEN'])"
    )
    cleaned = f"env -i PATH=/bin HOME=/root USER=root GIVEN=1 SUDO_UID={NOBODY} SUDO_GID={NOBODY}"
    command = shlex.join([*CVTRACE, "run", *options(mount), name])
    # WHEN it runs the recorder
    result = subprocess.run(
        [workdir / "sudo", "-c", f"{cleaned} {command}; exit $?"],
        env={"USER": "nobody", "HOME": "/nonexistent", "VIRTUAL_ENV": str(workdir / "env"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    # THEN the script has nobody's environment, and what sudo was told to add
    assert result.stdout == f"script.py {workdir}/env nobody 1\n", result.stderr
    assert trace_of(result).meta["target"]["argv"][0] == f"{workdir}/env/bin/python"


def test_user_option_runs_the_script_as_that_user(workdir, mount):
    result = run(mount, "--user", "nobody", script("import os; print(os.getuid())"))
    assert result.stdout == f"{NOBODY}\n"


def test_under_sudo_a_trace_is_refused_where_the_caller_may_not_write(workdir, mount):
    # GIVEN a folder of root's THEN the caller's permissions count
    result = run(mount, script(""), SUDO_UID=str(NOBODY), SUDO_GID=str(NOBODY))
    assert (result.returncode, result.stderr) == (
        2,
        "cvtrace: cannot create trace: Permission denied; choose another folder with -o DIR\n",
    )


def test_without_a_temporary_folder_the_error_says_what_to_do(workdir, mount, tmp_path):
    # GIVEN a folder for temporary files that is closed to the caller
    os.chown(workdir, NOBODY, NOBODY)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    # WHEN
    asked_by = {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}
    result = run(mount, script("print('ran')"), probes="strace", TMPDIR=str(closed), **asked_by)
    # THEN one sentence, nothing has run, and nothing is left
    assert (result.returncode, result.stdout) == (3, "")
    assert "set TMPDIR" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(workdir.glob("cvtrace-*"))


def as_nobody(mount: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*AS_READER, *CVTRACE, "run", "--mount", str(mount), "--no-summary", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_without_root_the_portable_probe_is_chosen_and_reported(workdir, mount):
    os.chown(workdir, NOBODY, NOBODY)
    result = as_nobody(mount, "-o", "trace", script("print('done')"))
    assert (result.returncode, result.stdout) == (0, "done\n")
    assert "sudo cvtrace run" in result.stderr
    trace = trace_of(result)
    assert trace.meta["probe"] == "portable"
    assert trace.meta["mounts"][0]["counters_after"] == {"nopen": 7}
    assert any("sudo cvtrace run" in sentence for sentence in trace.meta["missing"])


def test_ebpf_without_root_is_refused(workdir, mount):
    os.chown(workdir, NOBODY, NOBODY)
    result = as_nobody(mount, "-o", "trace", "--probes", "ebpf", script("print('never')"))
    assert (result.returncode, result.stdout) == (3, "")
    assert re.fullmatch(r"cvtrace: eBPF needs root: run `sudo cvtrace run .*\n", result.stderr)
    assert not Path("trace").exists()
