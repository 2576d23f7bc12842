"""The command line: the list of verbs, and the one place where error families become exit codes.

A verb's module is imported when the verb is called, so that `cvtrace run` starts without pandas or the lab.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Final

import click

import cvtrace
from cvtrace.commands.console import report_defect, say, take_the_place_of_closed_streams
from cvtrace.commands.installation import how_to_add
from cvtrace.commands.lazy_group import LazyGroup, Verb
from cvtrace.commands.sudo_caller import be_caller, explain_missing
from cvtrace.probes.visible import printable_lines

VERBS: Final = {
    "run": Verb("cvtrace.commands.run", "Record a script or program, then print the summary."),
    "attach": Verb("cvtrace.commands.attach", "Record a running process, which continues afterwards."),
    "report": Verb(
        "cvtrace.commands.report", "Write a report of a trace: text, HTML, JSON and others.", as_caller=True
    ),
    "check": Verb("cvtrace.commands.check", "Test a trace against conditions; exit 1 if one fails.", as_caller=True),
    "compare": Verb("cvtrace.commands.compare", "Say what changed between two runs, or sets of runs.", as_caller=True),
    "bench": Verb("cvtrace.commands.bench", "Measure a script in known states of the caches, many times."),
    "fleet": Verb("cvtrace.commands.fleet", "Report on the traces of many nodes together.", as_caller=True),
    "bugreport": Verb(
        "cvtrace.commands.bugreport", "Write a redacted trace, checks and versions to a zip.", as_caller=True
    ),
    "residency": Verb("cvtrace.commands.residency", "Show where the bytes of files are now; fetches nothing."),
    "warmup": Verb("cvtrace.commands.warmup", "Fetch what a run needs into the client's cache beforehand."),
    "bundle": Verb(
        "cvtrace.commands.bundle",
        "Write a bundle, so that clients since 2.14 prefetch what a run used.",
        as_caller=True,
    ),
    "doctor": Verb("cvtrace.commands.doctor", "Check what can be observed here and how to fix the rest."),
    "lab": Verb("cvtrace.commands.lab", "Run an embedded CVMFS: model, repository, origin, mount."),
    "help": Verb("cvtrace.commands.help", "Show the help of a verb."),
}

EXIT_CODES: Final = {
    "cvtrace.analysis.evidence.access_log.LogUnreadable": 2,
    "cvtrace.experiment.errors.ScriptFailed": 2,
    "cvtrace.experiment.errors.WrongExperiment": 2,
    "cvtrace.lab.errors.LabError": 2,
    "cvtrace.tracer.errors.WrongTarget": 2,
    "cvtrace.tracer.errors.UnknownUser": 2,
    "cvtrace.tracer.errors.TraceExists": 2,
    "cvtrace.tracer.errors.TraceUnwritable": 2,
    "cvtrace.probes.probe.CannotObserve": 3,
    "cvtrace.tracer.errors.TraceMissing": 2,
    "cvtrace.tracer.errors.TraceDamaged": 4,
}
"""Error families by name, subclasses included, so that knowing them imports nothing."""

LAB_PACKAGES: Final = frozenset({"cryptography", "mfusepy", "onnx", "onnxruntime_genai", "pycurl"})
"""Import names of what the extra `lab` installs."""


def refusal(error: Exception) -> tuple[str, int] | None:
    """Return what the user reads and the exit code, or None for a defect, which wants its traceback."""
    for family in type(error).__mro__:
        code = EXIT_CODES.get(f"{family.__module__}.{family.__qualname__}")
        if code is not None:
            return str(error), code
    if isinstance(error, MemoryError):
        return "not enough memory: use a machine with more, or record for a shorter time", 4
    if isinstance(error, ModuleNotFoundError | FileNotFoundError | PermissionError) and (reason := explain_missing()):
        return reason, 3
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in LAB_PACKAGES:
        return f"the lab needs the Python package {error.name}: {how_to_add('lab')}", 2
    return None


@contextlib.contextmanager
def _refusals_are_printable() -> Iterator[None]:
    """Write control characters out in what click says of wrong usage: paths and names from traces are in it."""
    try:
        yield
    except click.ClickException as error:
        error.args = (printable_lines(error.message),)
        vars(error)["message"] = error.args[0]
        raise


class CommandLine(LazyGroup):
    """The group of all verbs; what a verb raises leaves it as an exit code."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the options before the verb; what is wrong with them is said without control characters."""
        with _refusals_are_printable():
            return super().make_context(*args, **extra)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Give up root, before the verb looks at its first option, where the verb needs no privileges and sudo called."""
        name = args[0] if args else ""
        verb = self.verbs.get(name)
        if verb is not None and verb.as_caller:
            be_caller()
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; families of EXIT_CODES become one sentence and an exit code, Ctrl-C becomes 130."""
        try:
            with _refusals_are_printable():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(130)
        except Exception as error:
            answer = refusal(error)
            if answer is None:
                raise
            message, code = answer
            say(message)
            ctx.exit(code)


@click.group(
    cls=CommandLine,
    verbs=VERBS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(cvtrace.__version__, prog_name="cvtrace")
def main() -> None:
    """Report where a model load from CVMFS spends its time, and whether generating tokens hits CVMFS."""
    take_the_place_of_closed_streams()
    sys.excepthook = report_defect
