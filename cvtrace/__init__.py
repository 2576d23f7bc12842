"""cvtrace: where a model load from CVMFS spends its time, and whether generating tokens hits CVMFS.

The folders `probes`, `tracer`, `analysis` and `lab` stand at the top of the repository and are linked in here, so that
they are imported as `cvtrace.probes` and so on. Imports go to the left only: probes <- tracer <- analysis <- api <- commands;
`lab` stands alone.

Scripts use `cvtrace.phase` and `cvtrace.token`. Programs and notebooks that look at traces use the other names (docs/api.md). Importing cvtrace imports
nothing heavy: pandas and the analysis are imported when a name that needs them is used.
"""

from cvtrace.marking import phase, token

TYPE_CHECKING = False  # typing is not imported for nothing
if TYPE_CHECKING:
    from cvtrace.analysis.contract.report_schema import Report
    from cvtrace.api.comparison import Comparison, compare
    from cvtrace.api.errors import BenchError, FleetError
    from cvtrace.api.experiment import Bench, bench, read_bench
    from cvtrace.api.fleet import Fleet, fleet
    from cvtrace.api.trace import Trace, open
    from cvtrace.tracer.errors import TraceError

__all__ = [
    "Bench",
    "BenchError",
    "Comparison",
    "Fleet",
    "FleetError",
    "Report",
    "Trace",
    "TraceError",
    "bench",
    "compare",
    "fleet",
    "open",
    "phase",
    "read_bench",
    "token",
]

__version__ = "0.2.0"

_PLACES = {
    "Bench": "cvtrace.api.experiment",
    "BenchError": "cvtrace.api.errors",
    "Comparison": "cvtrace.api.comparison",
    "Fleet": "cvtrace.api.fleet",
    "FleetError": "cvtrace.api.errors",
    "Report": "cvtrace.analysis.contract.report_schema",
    "Trace": "cvtrace.api.trace",
    "TraceError": "cvtrace.tracer.errors",
    "bench": "cvtrace.api.experiment",
    "compare": "cvtrace.api.comparison",
    "fleet": "cvtrace.api.fleet",
    "open": "cvtrace.api.trace",
    "read_bench": "cvtrace.api.experiment",
}
"""Name of the API -> module that it is imported from when it is used."""


if not TYPE_CHECKING:  # a type checker refuses other names

    def __getattr__(name: str) -> object:
        module = _PLACES.get(name)
        if module is None:
            raise AttributeError(f"module 'cvtrace' has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(module), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
