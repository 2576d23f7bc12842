"""Names of traces of a job array, from what the batch system says."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from click.testing import CliRunner

from cvtrace.cli import main
from cvtrace.commands.job_names import SOURCES, expanded


def name_of(template: str, monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for each in (
        "SLURM_JOB_ID",
        "SLURM_ARRAY_JOB_ID",
        "SLURM_ARRAY_TASK_ID",
        "SLURM_PROCID",
        "PBS_JOBID",
        "JOB_ID",
        "SUDO_USER",
    ):
        monkeypatch.delenv(each, raising=False)
    for each, value in variables.items():
        monkeypatch.setenv(each, value)
    return str(expanded(None, None, Path(template)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "variables, name",
    [
        ({"SLURM_ARRAY_JOB_ID": "17", "SLURM_JOB_ID": "21", "SLURM_ARRAY_TASK_ID": "4", "SLURM_PROCID": "0"}, "17-4"),
        ({"SLURM_JOB_ID": "21", "SLURM_STEP_ID": "0", "SLURM_PROCID": "3"}, "21-3"),
        ({"PBS_JOBID": "1234[7].server.example.org", "PBS_ARRAY_INDEX": "7"}, "1234-7"),
        ({"LSB_JOBID": "5", "LSB_JOBINDEX": "6"}, "5-6"),
        ({"JOB_ID": "8", "SGE_TASK_ID": "9"}, "8-9"),
    ],
)
def test_job_and_task_are_those_of_the_batch_system(
    variables: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert name_of("traces/{job}-{task}", monkeypatch, **variables) == f"traces/{name}"


def test_htcondor_says_it_in_the_jobs_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ad = tmp_path / ".job.ad"
    ad.write_text('Cmd = "x"\nClusterId = 4711\nProcId = 12\nNotProcId = 3\n')

    assert name_of("{job}-{task}", monkeypatch, _CONDOR_JOB_AD=str(ad)) == "4711-12"


def test_the_host_is_that_of_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    assert name_of("t-{host}", monkeypatch) == f"t-{platform.node()}"


def test_a_value_stays_part_of_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert name_of("traces/{job}", monkeypatch, SLURM_JOB_ID="../../etc/x y\x1b") == "traces/.._.._etc_x_y_"
    assert name_of("traces/{job}", monkeypatch, SLURM_JOB_ID="..") == "traces/_"


def test_a_name_without_placeholders_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert name_of("traces/{}{A}{1}", monkeypatch) == "traces/{}{A}{1}"


@pytest.mark.parametrize("name", [each for each in SOURCES if each != "host"])
def test_a_placeholder_that_nothing_fills_in_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    result = CliRunner().invoke(main, ["run", "-o", f"traces/{{{name}}}", "x.py"])

    assert result.exit_code == 2
    assert f"nothing says what {{{name}}} is: none of " in result.output
    assert "Slurm" in result.output


def test_under_sudo_the_sentence_says_how_to_keep_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "user")

    assert "--preserve-env" in CliRunner().invoke(main, ["run", "-o", "{job}", "x.py"]).output


def test_an_unknown_placeholder_is_refused_with_the_known_ones() -> None:
    result = CliRunner().invoke(main, ["run", "-o", "traces/{node}", "x.py"])

    assert result.exit_code == 2
    assert "there is no placeholder {node}: there are {job}, {task}, {rank}, {host}" in result.output
