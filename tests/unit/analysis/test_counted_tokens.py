"""Tokens of batches count if somebody took them, before the next batch of the same context."""

from __future__ import annotations

import numpy as np

from cvtrace.probes.phases.counted_tokens import taken
from cvtrace.probes.phases.functions import INDEX

DECODE, PROMPT, OTHER = INDEX["llama_decode"], INDEX["llama_decode.prompt"], INDEX["OgaCreateModel"]


def array(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_a_batch_of_which_nothing_is_taken_makes_no_token() -> None:
    # GIVEN two contexts; the second batch of the first one is not taken
    function, context, end = array(PROMPT, DECODE, DECODE, OTHER), array(1, 1, 2, 1), array(10, 20, 22, 23)

    assert taken(function, context, end, array(1, 2), array(12, 25)).tolist() == [True, False, True, True]


def test_where_no_taking_is_seen_every_batch_counts() -> None:
    assert taken(array(PROMPT, DECODE), array(1, 1), array(10, 20), array(), array()).all()


def test_several_takings_are_of_the_batch_before_them() -> None:
    assert taken(array(DECODE, DECODE), array(1, 1), array(10, 20), array(1, 1, 1), array(21, 22, 23)).tolist() == [
        False,
        True,
    ]
