"""An experiment from its begin to its end: the folder, the lab if there is one, the runs, the summary; also if it is interrupted."""

from __future__ import annotations

import contextlib
import datetime
import platform
import socket
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

import cvtrace
from cvtrace.analysis.bench.schema import Bench, BenchInfo
from cvtrace.analysis.contract.quantities import script as script_name
from cvtrace.experiment.errors import ScriptFailed
from cvtrace.experiment.interruption import interruption
from cvtrace.experiment.launch import Script
from cvtrace.experiment.on_lab import Lab, check_arguments, lab_for
from cvtrace.experiment.record import Record, open_record
from cvtrace.experiment.runner import Callbacks, Runner
from cvtrace.experiment.settings import Experiment, slots_of
from cvtrace.tracer.user import User


def measure(
    experiment: Experiment,
    user: User,
    caller: User,
    callbacks: Callbacks,
    *,
    output: Path | None = None,
    force: bool = False,
    command: tuple[str, ...] = (),
) -> Bench:
    """Make an experiment, or what is left of it, and return its folder.

    Raises CannotObserve, WrongExperiment, WrongTarget, ScriptFailed, LabError, TraceExists, TraceUnwritable with one sentence, and
    KeyboardInterrupt. Finished runs are kept then, and summarised; the copies and the lab are gone.
    """
    check_arguments({each.name: each.argv for each in experiment.variants}, experiment.on_lab)
    for variant in experiment.variants:
        Script(variant.argv, experiment.python, experiment.directory, user, caller).command(None)
    record = _opened(experiment, user, callbacks, output, force, command)
    try:
        with interruption() as noted, _place(experiment, callbacks) as lab, ExitStack() as copies:
            made = replace(experiment, seed=record.info.seed)
            try:
                Runner(made, record, user, caller, callbacks, lab, copies, noted).run()
            finally:
                noted.end()
        record.info = replace(record.info, finished=True)
    except BaseException as failure:
        if record.runs:
            _finish(record, callbacks)
        elif not isinstance(failure, ScriptFailed):  # its output is to be looked at
            record.discard()
        if isinstance(failure, KeyboardInterrupt):
            kept = "the finished runs are kept, and the same command continues"
            callbacks.say(f"stopped: {kept if record.runs else 'no run had ended, and nothing is kept'}")
        raise
    return _finish(record, callbacks)


def _finish(record: Record, callbacks: Callbacks) -> Bench:
    bench = record.summarised()
    record.finish(bench, callbacks.render(bench))
    return bench


def _place(experiment: Experiment, callbacks: Callbacks) -> AbstractContextManager[Lab | None]:
    return (
        lab_for(experiment.lab, experiment.sweep, callbacks.show.step)
        if experiment.on_lab
        else contextlib.nullcontext()
    )


def _opened(
    experiment: Experiment, user: User, callbacks: Callbacks, output: Path | None, force: bool, command: tuple[str, ...]
) -> Record:
    info = BenchInfo(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command,
        seed=experiment.seed,
        repeats=experiment.repeats,
        states=experiment.states,
        variants=experiment.variants,
        sweep=experiment.sweep,
        host=socket.gethostname(),
        versions={"cvtrace": cvtrace.__version__, "kernel": platform.release()},
        trace_all=experiment.trace_all,
        lab=experiment.lab,
        settings=experiment.identity,
    )
    title = script_name(experiment.variants[0].argv).removesuffix(".py")
    record, continued = open_record(output, title, info, user, force=force, held_out=experiment.held_out)
    total = sum(1 for _ in slots_of(experiment))
    callbacks.say(
        f"{'continuing' if continued else 'writing'} {record.path}, seed {record.info.seed}, "
        + (f"{len(record.runs)} of {total} runs are there" if continued else f"{total} runs")
    )
    return record
