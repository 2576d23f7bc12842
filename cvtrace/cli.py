"""The command line: the list of verbs, and the one place where error families become exit codes.

A verb's module is imported when the verb is called, so that `cvtrace run` starts without pandas or the lab.
"""

from __future__ import annotations

from typing import Any, Final

import click

import cvtrace
from cvtrace.commands.lazy import LazyGroup, Verb
from cvtrace.commands.telling import say, take_the_place_of_closed_streams

VERBS: Final = {
    "run": Verb("cvtrace.commands.run", "Record a script or program, then print the summary."),
    "attach": Verb("cvtrace.commands.attach", "Record a running process; it goes on as it was."),
    "report": Verb("cvtrace.commands.report", "Turn a trace into text, JSON and other forms."),
    "check": Verb("cvtrace.commands.check", "Hold a trace against expressions; exit 1 if one fails."),
    "compare": Verb("cvtrace.commands.compare", "What changed from one run, or set of runs, to another."),
    "doctor": Verb("cvtrace.commands.doctor", "What can be observed here, why not, and what mends it."),
    "lab": Verb("cvtrace.commands.lab", "The embedded CVMFS: model, repository, origin, mount."),
}

EXIT_CODES: Final = {
    "cvtrace.analysis.access_log.LogUnreadable": 2,
    "cvtrace.lab.errors.LabError": 2,
    "cvtrace.tracer.errors.WrongTarget": 2,
    "cvtrace.tracer.errors.UnknownUser": 2,
    "cvtrace.tracer.errors.TraceExists": 2,
    "cvtrace.tracer.errors.TraceUnwritable": 2,
    "cvtrace.probes.probe.CannotObserve": 3,
    "cvtrace.tracer.errors.TraceDamaged": 4,
}
"""Error families by name, subclasses included, so that knowing them imports nothing."""

LAB_PACKAGES: Final = frozenset({"cryptography", "mfusepy", "onnx", "onnxruntime_genai", "pycurl"})
"""Import names of what the extra `lab` installs."""


def refusal(error: Exception) -> tuple[str, int] | None:
    """Return what the user is told and the exit code, or None for a defect, which wants its traceback."""
    for family in type(error).__mro__:
        code = EXIT_CODES.get(f"{family.__module__}.{family.__qualname__}")
        if code is not None:
            return str(error), code
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in LAB_PACKAGES:
        return f"the lab needs the Python package {error.name}: pip install 'cvtrace[lab]'", 2
    return None


class CommandLine(LazyGroup):
    """The group of all verbs; what a verb raises leaves it as an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; families of EXIT_CODES become one sentence and an exit code, Ctrl-C becomes 130."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(130)
        except Exception as error:
            told = refusal(error)
            if told is None:
                raise
            message, code = told
            say(message)
            ctx.exit(code)


@click.group(
    cls=CommandLine,
    verbs=VERBS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(cvtrace.__version__, prog_name="cvtrace")
def main() -> None:
    """Where a model load from CVMFS spends its time, and whether generating tokens hits CVMFS."""
    take_the_place_of_closed_streams()
