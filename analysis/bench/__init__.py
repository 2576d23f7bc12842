"""What `cvtrace bench` measured: runs of one script in known states of the caches, as numbers without a live system.

`schema` has the dataclasses, `folder` reads and writes a folder of such runs. Making the runs is the package `cvtrace.experiment`.
"""

from cvtrace.analysis.bench.folder import NotABench, is_bench, read_bench
from cvtrace.analysis.bench.schema import Bench, BenchInfo, Law, Run, Statistic, SummaryRow

__all__ = ["Bench", "BenchInfo", "Law", "NotABench", "Run", "Statistic", "SummaryRow", "is_bench", "read_bench"]
