"""`cvtrace run` as a user types it: the script is unchanged, and the trace is whole.

Most tests take the rung `portable`, which is quick; what they hold is the same on every rung.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE, RUNGS, options, run, script, trace_of
from waiting import DEADLINE_S

from cvtrace.tracer.store import read_trace

pytestmark = pytest.mark.root


def test_arguments_input_and_output_pass_through(workdir, mount):
    # GIVEN a script that shows what it was given
    name = script("import sys\nprint(sys.argv, sys.stdin.read())\nprint('err', file=sys.stderr)\n")
    # WHEN it is run with options of its own and input in a pipe
    result = run(mount, name, "-m", "x", "--force", "-o", "y", stdin="hello")
    # THEN stdout holds its output only, and its stderr comes through
    assert result.stdout == "['script.py', '-m', 'x', '--force', '-o', 'y'] hello\n"
    assert "err\n" in result.stderr
    assert trace_of(result).meta["target"]["argv"][1:] == ["script.py", "-m", "x", "--force", "-o", "y"]


@pytest.mark.parametrize(
    "body, code, end",
    [
        ("pass", 0, "exited"),
        ("import sys; sys.exit(3)", 3, "exited"),
        ("raise ValueError('broken')", 1, "exited"),
        ("import os; os.kill(os.getpid(), 9)", 137, "signalled"),
        ("import os; os.kill(os.getpid(), 11)", 139, "signalled"),
    ],
)
def test_the_exit_code_is_the_scripts(workdir, mount, body, code, end):
    result = run(mount, script(body))
    assert result.returncode == code, result.stderr
    trace = trace_of(result)
    assert (trace.meta["target"]["exit_code"], trace.meta["end"]) == (code, end)


@pytest.mark.parametrize("probes", ["strace", "ebpf"])
@pytest.mark.parametrize("body, code", [("import sys; sys.exit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_the_exit_code_is_the_scripts_on_every_rung(workdir, mount, body, code, probes):
    assert run(mount, script(body), probes=probes).returncode == code


def test_a_program_is_run_after_two_dashes(workdir, mount):
    result = run(mount, "--", "sh", "-c", "echo $0; exit 5", "name")
    assert (result.returncode, result.stdout) == (5, "name\n")


def test_the_program_keeps_the_name_it_is_called_by(workdir, mount):
    result = run(mount, "--", "sh", "-c", "tr '\\0' ' ' < /proc/$$/cmdline")
    assert result.stdout.startswith("sh -c")


def test_the_interpreter_is_that_of_the_active_environment(workdir, mount):
    # GIVEN an environment that is active
    (workdir / "env" / "bin").mkdir(parents=True)
    (workdir / "env" / "bin" / "python").symlink_to("/usr/bin/env")
    result = run(mount, script(""), VIRTUAL_ENV=str(workdir / "env"))
    # THEN its python gets the script (env finds no program called so and says 127)
    assert trace_of(result).meta["target"]["argv"][0] == str(workdir / "env" / "bin" / "python")
    # WHEN an interpreter is named THEN that one does
    result = run(mount, "--force", "--python", sys.executable, script("import sys; print(sys.executable)"))
    assert result.stdout.strip() == sys.executable


@pytest.mark.parametrize("probes", RUNGS)
def test_the_script_has_the_open_files_of_an_untraced_run(workdir, mount, probes):
    # GIVEN a script that lists its open files, and a file that its caller left open for it
    name = script("import os\nprint(sorted(int(f) for f in os.listdir('/proc/self/fd')))")
    with Path("left-open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        command = [*CVTRACE, "run", *options(mount, probes), name]
        # WHEN it runs with and without us THEN it sees the same
        traced = subprocess.run(command, pass_fds=[file.fileno()], stdout=subprocess.PIPE, check=True)
        plain = subprocess.run(["python3", name], pass_fds=[file.fileno()], stdout=subprocess.PIPE, check=True)
    assert traced.stdout == plain.stdout


@pytest.mark.parametrize("probes", RUNGS)
def test_limits_and_signals_are_those_of_an_untraced_run(workdir, mount, probes):
    name = script(
        "import resource, signal\n"
        "print([resource.getrlimit(n) for n in range(16)])\n"
        "status = open('/proc/self/status').read().splitlines()\n"
        "print([line for line in status if line.startswith(('SigB', 'SigI', 'SigC', 'Cap', 'Groups', 'NoNew'))])\n"
    )
    plain = subprocess.run(["python3", name], capture_output=True, text=True, check=True)
    assert run(mount, name, probes=probes).stdout == plain.stdout


def test_the_end_of_the_script_is_noticed_at_once(workdir, mount):
    # GIVEN a script that prints when it ends, on the clock of events
    name, late_ns = script("import time; print(time.monotonic_ns())"), []
    # WHEN it is recorded, again if the machine was too busy to let the interpreter finish
    while len(late_ns) < 10 and min(late_ns, default=1e9) >= 0.5e9:
        result = run(mount, "--force", name)
        late_ns.append(trace_of(result).meta["clock"]["end_ns"] - int(result.stdout))
    # THEN the recording ends soon after
    assert min(late_ns) < 0.5e9, late_ns


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words, code, output", [(["script.py"], 3, "done\n"), (["missing.py"], 2, "")], ids=["script", "refusal"]
)
def test_a_closed_stderr_changes_nothing(workdir, mount, words, code, output, unbuffered):
    # GIVEN nobody who reads what the recorder says
    reading, writing = os.pipe()
    os.close(reading)
    script("print('done')\nraise SystemExit(3)\n")
    command = [*CVTRACE, "run", "-o", "trace", "--probes", "portable", "--mount", str(mount), *words]
    environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    # WHEN it has something to say THEN script, exit code and trace are not concerned
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=writing, text=True, check=False, env=environ)
    os.close(writing)
    assert (result.returncode, result.stdout) == (code, output)
    assert code == 2 or read_trace("trace").damage is None


@pytest.mark.parametrize("probes", RUNGS)
@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_descriptors_closed_from_the_start_change_nothing(workdir, mount, closed, probes):
    name = script("import sys; print('done', sys.stdin is None, sys.stderr is None); sys.exit(3)")
    words = [*CVTRACE, "run", *options(mount, probes), name]
    # WHEN the shell closes stdin or stderr before cvtrace starts
    result = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *words], capture_output=True, text=True, check=False)
    # THEN the script finds them closed, too
    assert (result.returncode, result.stdout) == (3, f"done {'<' in closed} {'2>' in closed}\n"), result.stderr
    assert read_trace("trace").damage is None


def test_two_recordings_in_one_second_get_two_folders(workdir, mount):
    command = [*CVTRACE, "run", "--probes", "portable", "--mount", str(mount), "--no-summary", script("")]
    recordings = [subprocess.Popen(command) for _ in range(3)]
    assert [recording.wait(DEADLINE_S) for recording in recordings] == [0, 0, 0]
    assert len(list(workdir.glob("cvtrace-script-*/events.parquet"))) == 3
