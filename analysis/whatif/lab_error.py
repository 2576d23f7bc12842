"""The largest error of each prediction in the table of docs/what-if.md, as a share, and at least 0.10: rounds differ by that.

Written by `python -m benchmarks --update what_if`, together with the table.
"""

from typing import Final

LAB_ERROR: Final = {
    "all_cached": 0.14,
    "in_memory": 0.12,
    "local_copy": 0.12,
    "larger_model": 0.10,
    "round_trip": 0.10,
    "near_proxy": 0.10,
    "parallel": 0.10,
}
