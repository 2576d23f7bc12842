"""Names of traces of a job array: `--output 'traces/{job}-{task}-{host}'`, from what the batch system says of the job."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import click

from cvtrace.commands.outputs import opened_folder
from cvtrace.tracer.safe_open import open_regular

PLACEHOLDER: Final = re.compile(r"\{([a-z]+)\}")
UNFIT: Final = re.compile(r"[^A-Za-z0-9_.,+@-]|^\.+$")
"""What is replaced in a value: it is to be a part of one name."""
MOST_AD_BYTES: Final = 1_000_000
Variables = Mapping[str, str]


def _first(*names: str) -> Callable[[Variables], str]:
    """Return what looks up the first of some variables that is set."""
    return lambda variables: next((value for name in names if (value := variables.get(name, ""))), "")


def _slurm_task(variables: Variables) -> str:
    """Return the index in the array, else that of the task that srun started."""
    return variables.get("SLURM_ARRAY_TASK_ID", "") or (
        variables.get("SLURM_PROCID", "") if "SLURM_STEP_ID" in variables else ""
    )


def _pbs_job(variables: Variables) -> str:
    return re.split(r"[\[.]", variables.get("PBS_JOBID", ""), maxsplit=1)[0]


def _grid_engine_task(variables: Variables) -> str:
    value = variables.get("SGE_TASK_ID", "")
    return "" if value == "undefined" else value


def _condor(attribute: str) -> Callable[[Variables], str]:
    """Return what looks up an attribute in the job's description, which HTCondor leaves in a file."""

    def look_up(variables: Variables) -> str:
        match = re.search(rf"^{attribute} = (\d+)$", _job_ad(variables.get("_CONDOR_JOB_AD", "")), re.MULTILINE)
        return match[1] if match else ""

    return look_up


def _job_ad(path: str) -> str:
    if not path:
        return ""
    try:
        with opened_folder(Path(path).parent) as folder, open_regular(folder, Path(path).name) as file:
            return file.read(MOST_AD_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


SOURCES: Final[dict[str, tuple[tuple[str, Callable[[Variables], str]], ...]]] = {
    "job": (
        ("SLURM_JOB_ID of Slurm", _first("SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID")),
        ("ClusterId of HTCondor", _condor("ClusterId")),
        ("PBS_JOBID of PBS", _pbs_job),
        ("LSB_JOBID of LSF", _first("LSB_JOBID")),
        ("JOB_ID of Grid Engine", _first("JOB_ID")),
    ),
    "task": (
        ("SLURM_ARRAY_TASK_ID of Slurm", _slurm_task),
        ("ProcId of HTCondor", _condor("ProcId")),
        ("PBS_ARRAY_INDEX of PBS", _first("PBS_ARRAY_INDEX", "PBS_ARRAYID")),
        ("LSB_JOBINDEX of LSF", _first("LSB_JOBINDEX")),
        ("SGE_TASK_ID of Grid Engine", _grid_engine_task),
    ),
    "rank": (
        ("SLURM_PROCID of Slurm", _first("SLURM_PROCID")),
        ("PMIX_RANK or PMI_RANK of MPI", _first("PMIX_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK")),
    ),
    "host": (("the name of the machine", lambda _: platform.node()),),
}
"""Placeholder -> what it may come from, and where that is looked up. The first one that is there counts."""


def expanded(_context: click.Context, _option: click.Parameter, output: Path | None) -> Path | None:
    """Return the folder of a trace with the placeholders in its name filled in. Raises BadParameter for one that cannot be."""
    if output is None or "{" not in str(output):
        return output
    return Path(PLACEHOLDER.sub(lambda match: _value(match[1], os.environ), str(output)))


def _value(name: str, variables: Variables) -> str:
    sources = SOURCES.get(name)
    if sources is None:
        known = ", ".join(f"{{{each}}}" for each in SOURCES)
        raise click.BadParameter(f"there is no placeholder {{{name}}}: there are {known}")
    for _, look_up in sources:
        value = UNFIT.sub("_", look_up(variables))
        if value:
            return value
    looked_up = ", ".join(source for source, _ in sources)
    sudo = "; sudo takes them away, `sudo --preserve-env` keeps them" if "SUDO_USER" in variables else ""
    raise click.BadParameter(
        f"nothing says what {{{name}}} is: none of {looked_up} is set{sudo}; leave {{{name}}} out where this is no job of a batch system"
    )
