"""The times of one run, from the marks of its calls: the same for a run that was traced and for one that was not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.probes.events import Events, Kind, Texts
from cvtrace.probes.phases.counted_tokens import TAKERS, taken
from cvtrace.probes.phases.functions import COUNTED, FUNCTIONS, INDEX, TOKEN_FLAG, USER_PHASE
from cvtrace.probes.phases.runtimes.declaration import MANY

USER_LOAD: Final = b"load"
"""A phase of this name that a script gives itself (`cvtrace.phase("load")`) stands for calls of a library that is not known."""
_PHASE_OF: Final = np.array([function.phase for function in FUNCTIONS])
_NO_PROMPT: Final = (INDEX["OgaCreateGenerator"],)
_ENGINE: Final = (INDEX["OgaEngineStep"], INDEX["OgaEngineRun"])


@dataclass(frozen=True)
class RunTimes:
    """Seconds, None for what the run did not do or was not seen to do."""

    load_s: float | None = None
    first_token_s: float | None = None
    tokens: int | None = None
    tokens_per_s: float | None = None


def run_times(events: Events, texts: Texts) -> RunTimes:
    """Return the times of a run. `events` has at least its PHASE events; those of calls that failed are left out."""
    calls = events[(events["kind"] == Kind.PHASE) & (events["ret"] >= 0) & (events["a"] < len(FUNCTIONS))]
    calls = calls[np.argsort(calls["ts"], kind="stable")]
    phase = _PHASE_OF[calls["a"].astype(np.int64)] if len(calls) else np.zeros(0, dtype="U8")
    loads = calls[phase == "load"]
    loads = loads if len(loads) else _named_loads(calls, texts)
    load_s = _union_ns(loads) / 1e9 if len(loads) else None
    return RunTimes(load_s, *_tokens(calls, phase))


def _named_loads(calls: Events, texts: Texts) -> Events:
    named = texts[(texts["kind"] == Kind.PHASE) & (texts["text"] == USER_LOAD)]
    users = calls[calls["a"] == USER_PHASE]
    chosen: Events = users[np.isin(users[["ts", "tid"]], named[["ts", "tid"]])]
    return chosen


def _ends(calls: Events) -> np.ndarray:
    ends: np.ndarray = (calls["ts"] + calls["dur"]).astype(np.int64)
    return ends


def _union_ns(calls: Events) -> int:
    """Return the time in which at least one of the calls, sorted by begin, was under way."""
    start, end = calls["ts"].astype(np.int64), _ends(calls)
    reached = np.maximum.accumulate(end)
    before = np.concatenate([start[:1], reached[:-1]])
    return int(np.maximum(reached - np.maximum(start, before), 0).sum())


def _tokens(calls: Events, phase: np.ndarray) -> tuple[float | None, int | None, float | None]:
    """Return the time to the first token of the first answer, the number of tokens, and the rate of those after the first of each answer."""
    is_prompt = (phase == "prefill") & ~np.isin(calls["a"], _NO_PROMPT)
    is_step = ((phase == "decode") & ~np.isin(calls["a"], COUNTED)) | _counted(calls)
    if not is_step.any():
        return None, None, None
    made = _made(calls, is_step)
    kept = is_prompt | is_step
    prompt, stepping = is_prompt[kept], is_step[kept]
    starts, ends = calls["ts"].astype(np.int64)[kept], _ends(calls)[kept]
    after = prompt[:-1] & ~stepping[:-1]
    answer = np.cumsum(prompt & np.concatenate([[True], ~after]))
    first_s = rate_ns = further = None
    for number in np.unique(answer):
        steps = (answer == number) & stepping
        if not steps.any():
            continue
        if first_s is None:
            first_s = (ends[steps][0] - starts[answer == number][0]) / 1e9
        count = int(made[kept][steps][1:].sum())
        if count:
            rate_ns = (rate_ns or 0) + int(ends[steps][-1] - ends[steps][0])
            further = (further or 0) + count
    return first_s, int(made.sum()), further * 1e9 / rate_ns if further and rate_ns else None


def _counted(calls: Events) -> np.ndarray:
    """Tell which calls say that they made tokens, and these were taken."""
    takers = calls[np.isin(calls["a"], TAKERS)]
    keys = [each["tgid"].astype(np.uint64) << np.uint64(48) ^ each["b"] for each in (calls, takers)]
    was_taken = taken(calls["a"], keys[0], _ends(calls), keys[1], takers["ts"].astype(np.int64))
    counted: np.ndarray = np.isin(calls["a"], COUNTED) & (calls["c"] & MANY > 0) & was_taken
    return counted


def _made(calls: Events, is_step: np.ndarray) -> np.ndarray:
    """Return how many tokens each call made: one, one of each sequence of its generator, or what an engine's events say."""
    made = is_step.astype(np.int64)
    counted = is_step & np.isin(calls["a"], COUNTED)
    made[counted] = np.where(calls["c"] & MANY == MANY, 1, calls["c"] & MANY).astype(np.int64)[counted]
    several = calls[calls["a"] == INDEX["cvtrace.sequences"]]
    for owner, count in zip(several["b"].tolist(), several["c"].tolist(), strict=True):
        made[is_step & (calls["b"] == owner)] = count
    engine = np.flatnonzero(is_step & np.isin(calls["a"], _ENGINE))
    flags = calls[(calls["a"] == INDEX["OgaEngineEventGetFlags"]) & (calls["c"].astype(np.int64) & TOKEN_FLAG > 0)]
    if len(engine) and len(flags):
        made[engine] = 0
        place = np.searchsorted(calls["ts"][engine], flags["ts"], side="right") - 1
        np.add.at(made, engine[np.maximum(place, 0)], 1)
    return made
