"""`cvtrace doctor`: check what can be observed on this machine, and how to fix the rest."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cvtrace.probes.visible import printable

if TYPE_CHECKING:
    from cvtrace.probes.doctor.finding import Examination, Finding

SCHEMA: Final = "cvtrace-doctor/1"
COLUMNS: Final = 80
MARKS: Final = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red"), "unknown": ("?", "dim")}
TITLES: Final = {"ebpf": "eBPF: sees everything, needs root", "strace": "strace: sees system calls, no page faults; slow",
                 "portable": "portable: needs no root; sees phases and the client's counters"}  # fmt: skip
ANSWERS: Final = {
    "ebpf": "`cvtrace run` uses eBPF here",
    "strace": "`cvtrace run` falls back to strace here, which sees no page faults and no scheduler and is slow",
    "portable": "`cvtrace run` falls back to the portable probe here, which sees phases and the client's counters",
}
NAMES: Final = {"ebpf": "eBPF", "strace": "strace", "portable": "the portable probe"}


@click.command(short_help="Check what can be observed here and how to fix the rest.")
@click.option("--mount", "mounts", metavar="PATH", multiple=True, help="Check this mount; default: all CVMFS mounts.")
@click.option(
    "--model",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Also check this model: how much of it is in the client's cache, and does it fit?",
)
@click.option(
    "--python",
    metavar="PATH",
    help="Python of the scripts; default: that of the active environment, else cvtrace's own.",
)
@click.option(
    "--measure",
    is_flag=True,
    help="With --model, also measure the network with four requests to the server, and say how long a cold load takes at least.",
)
@click.option("--yes", is_flag=True, help="Send these requests without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; its names are stable.")
@click.pass_context
def command(
    ctx: click.Context,
    mounts: tuple[str, ...],
    model: Path | None,
    python: str | None,
    measure: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Check what can be observed on this machine and how to fix the rest; also check its CVMFS mounts.

    Exit code 0: `cvtrace run` gives a complete answer. 1: a check failed, so the answer is partial. 3: no CVMFS mount answers.
    """
    from cvtrace.probes.doctor.examination import examine
    from cvtrace.probes.doctor.model import AsUser
    from cvtrace.probes.phases.library import find_libraries
    from cvtrace.tracer.opening import LOOK_S, opened_by
    from cvtrace.tracer.origin import caller_environment
    from cvtrace.tracer.target import find_interpreter
    from cvtrace.tracer.user import acting_as, calling_user

    if measure and model is None:
        raise click.UsageError("--measure needs --model DIR: it says how long the load of a model takes at least")
    caller = calling_user(os.environ)
    environ = caller_environment(os.environ, caller)
    with acting_as(caller):
        interpreter = find_interpreter(python, environ)
    as_user = AsUser(caller.uid, caller.gid, caller.groups) if caller.is_other else None
    with opened_by(caller, LOOK_S, lambda: find_libraries(interpreter, environ)) as libraries:
        examination = examine(
            mounts,
            model,
            interpreter,
            tuple(each.path for each in libraries),
            environ,
            as_user,
            _agree(yes=yes) if measure else None,
        )
    if as_json:
        click.echo(json.dumps(_as_dict(examination), indent=2))
    else:
        _print(examination)
    ctx.exit(examination.exit_code)


def _agree(*, yes: bool) -> Callable[[str], bool]:
    """Return what asks the user whether requests may be sent."""

    def agree(what: str) -> bool:
        if yes:
            return True
        if not sys.stdin.isatty():
            raise click.UsageError(f"{printable(what)}: add --yes to agree")
        return click.confirm(f"{printable(what[:1].upper() + what[1:])}. Go on?", err=True)

    return agree


def _as_dict(examination: Examination) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "rung": examination.rung,
        "probe": examination.probe,
        "full": examination.exit_code == 0,
        "exit_code": examination.exit_code,
        "checks": [_check_as_dict(each) for each in examination.findings],
    }


def _check_as_dict(finding: Finding) -> dict[str, object]:
    return {
        "group": finding.group,
        "name": finding.name,
        "status": finding.status,
        "says": finding.sentence,
        "mend": finding.mend,
        "mount": finding.mount,
    }


def _print(examination: Examination) -> None:
    from rich.console import Console

    terminal = sys.stdout.isatty()
    out = io.StringIO()
    console = Console(
        file=out,
        width=max(shutil.get_terminal_size().columns, COLUMNS) if terminal else COLUMNS,
        force_terminal=terminal,
        highlight=False,
        no_color="NO_COLOR" in os.environ,
    )
    heading = None
    for each in examination.findings:
        title = (
            TITLES.get(each.group) or _of_model(each) or (f"CVMFS {printable(each.mount)}" if each.mount else "CVMFS")
        )
        if title != heading:
            console.print() if heading else None
            console.print(title, style="bold", markup=False)
            heading = title
        console.print(_row(each))
    console.print()
    console.print(_conclusion(examination), style="bold", markup=False)
    click.echo("\n".join(line.rstrip() for line in out.getvalue().splitlines()))


def _of_model(finding: Finding) -> str:
    return f"Loading the model from {printable(finding.mount or '')}" if finding.group == "model" else ""


def _row(finding: Finding) -> object:
    from rich.table import Table
    from rich.text import Text

    mark, style = MARKS[finding.status]
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(width=19, no_wrap=True)
    table.add_column(overflow="fold")
    text = Text(printable(finding.sentence))
    if finding.mend and (finding.status != "ok" or finding.group == "model"):
        text.append(f"\n→ {printable(finding.mend)}", style="cyan")
    table.add_row(Text(mark, style=style), Text(printable(finding.name)), text)
    return table


def _conclusion(examination: Examination) -> str:
    failed = sum(each.status == "failed" and each.group in (examination.rung, "cvmfs") for each in examination.findings)
    if examination.rung is None:
        works = NAMES[examination.probe or "portable"]
        return f"{works[0].upper()}{works[1:]} works here, but there is no CVMFS mount to observe: see CVMFS above."
    answer = ANSWERS[examination.rung]
    if examination.exit_code == 0:
        return f"{answer}, and the answer is complete."
    if failed:
        return f"{answer}; {failed} {'check' if failed == 1 else 'checks'} failed."
    return f"{answer}."
