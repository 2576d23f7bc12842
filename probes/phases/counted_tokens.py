"""Tokens of calls that say how many they made: of those of llama.cpp, only if the target took the logits afterwards.

Programs decode a batch to warm up, or to try what a context can do, and take nothing of it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from cvtrace.probes.phases.functions import INDEX

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

TAKERS: Final = tuple(
    INDEX[name] for name in ("llama_get_logits", "llama_get_logits_ith", "llama_get_sampled_token_ith")
)
"""Their first argument is the context."""
TAKEN_FROM: Final = tuple(INDEX[name] for name in ("llama_decode", "llama_decode.prompt", "llama_process"))


def taken(function: Ints, context: Ints, end: Ints, taker_context: Ints, taker_start: Ints) -> Bools:
    """Tell which calls made tokens that were taken: between their end and the next call of the same context, sorted by start.

    True for calls of other functions, and where no taking was seen at all: a build may have it inlined.
    """
    result = np.ones(len(function), dtype=bool)
    chosen = np.flatnonzero(np.isin(function, TAKEN_FROM))
    if not len(taker_start) or not len(chosen):
        return result
    both = np.concatenate([context[chosen], taker_context])
    _, key = np.unique(both, return_inverse=True)
    when = np.concatenate([end[chosen], taker_start])
    is_call = np.arange(len(both)) < len(chosen)
    order = np.lexsort((~is_call, when, key.ravel()))
    follows = np.zeros(len(both), dtype=bool)
    follows[order[:-1]] = (key.ravel()[order][1:] == key.ravel()[order][:-1]) & ~is_call[order][1:]
    result[chosen] = follows[: len(chosen)]
    return result
