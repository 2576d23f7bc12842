"""A target of the benchmarks: reads the files of a folder one after the other, with a little computing between. Run as a script."""

import sys
import time
from pathlib import Path

COMPUTING_S_PER_MB = 0.010

for path in sorted(Path(sys.argv[1]).iterdir()):
    if path.name.startswith("."):
        continue
    with path.open("rb") as file:
        while content := file.read(1 << 20):
            until_s = time.perf_counter() + COMPUTING_S_PER_MB * len(content) / 1e6
            while time.perf_counter() < until_s:
                pass
