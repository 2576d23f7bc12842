"""cvtrace: where a model load from CVMFS spends its time, and whether generating tokens hits CVMFS.

The folders `probes`, `tracer`, `analysis` and `lab` stand at the top of the repository and are linked in here, so that
they are imported as `cvtrace.probes` and so on. Imports go to the left only: probes <- tracer <- analysis <- commands;
`lab` stands alone.

Scripts use `cvtrace.phase` only; importing it imports nothing heavy.
"""

from cvtrace.marking import phase

__all__ = ["phase"]

__version__ = "0.1.0"
