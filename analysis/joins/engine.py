"""What an engine of GenAI did: tokens of each of its runs, and of which request they are, as far as the target looks at its events.

A run serves several requests at once. The C API tells of each through events, which the target reads after the run: of which request
an event is (OgaEngineEventGetRequest), and whether it is a token (OgaEngineEventGetFlags, or that its token is taken).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cvtrace.analysis.joins.idle import Idle
from cvtrace.analysis.joins.library_calls import DECODE, LibraryCalls, is_attached, life, notes
from cvtrace.analysis.trace.intervals import Bools, Ints, distinct, pick
from cvtrace.analysis.trace.keys import first_of_pair, object_key, pair_key, ranked
from cvtrace.analysis.trace.recording import Recording, Rows
from cvtrace.probes.phases.functions import INDEX, TOKEN_FLAG

UNKNOWN: Final = -1
"""Number of tokens that is not known."""
RUNS: Final = (INDEX["OgaEngineRun"], INDEX["OgaEngineStep"])
TURNS: Final = (INDEX["OgaRequestBeginTurn"], INDEX["OgaRequestContinue"])
"""Calls whose first argument is the request that gets an answer."""
ASKS: Final = (*TURNS, INDEX["OgaEngineAddRequest"], INDEX["OgaRequestRewindToStartOfTurn"])


@dataclass(frozen=True)
class _Tokens:
    """Tokens that the target saw: in which run (index into the calls), and of which request (0: it did not look)."""

    run: Ints
    request: Ints


def engine_tokens(recording: Recording, calls: LibraryCalls, runs: Ints) -> Ints:
    """Return how many tokens each run made; UNKNOWN where the target does not look at the engine's events."""
    tokens = _tokens(recording, calls)
    count = np.bincount(tokens.run, minlength=len(calls)).astype(np.int64)[runs]
    looks = np.isin(calls.process[runs], calls.process[tokens.run])
    return np.where(looks, count, UNKNOWN)


def _tokens(recording: Recording, calls: LibraryCalls) -> _Tokens:
    """Return the tokens that the target read from the engine's events, each once however often it was looked at."""
    flags, taken, requests = (
        notes(recording, INDEX[name])
        for name in ("OgaEngineEventGetFlags", "OgaEngineEventGetToken", "OgaEngineEventGetRequest")
    )
    runs = np.flatnonzero(np.isin(calls.function, RUNS))
    runs = runs[np.lexsort((calls.start[runs], calls.process[runs]))]
    pointers = distinct(np.concatenate([flags.b, taken.b, requests.b]))

    def events(rows: Rows) -> Ints:
        """Return a number for each event: its run and its address."""
        run = _run_before(recording, calls, runs, rows)
        return np.where(run >= 0, pair_key(run, np.searchsorted(pointers, rows.b)), -1)

    of_flags, of_taken, of_requests = events(flags), events(taken), events(requests)
    tokens = of_flags[(flags.c & TOKEN_FLAG) != 0]
    tokens = distinct(np.concatenate([tokens, of_taken[~np.isin(of_taken, of_flags)]]))
    tokens = tokens[tokens >= 0]
    order = np.argsort(of_requests, kind="stable")
    place = np.searchsorted(of_requests[order], tokens)
    matches = pick(of_requests[order], place, -1) == tokens
    return _Tokens(first_of_pair(tokens), np.where(matches, pick(requests.c[order], place, 0), 0))


def _run_before(recording: Recording, calls: LibraryCalls, runs: Ints, rows: Rows) -> Ints:
    """Return the last run of the process before each note, -1 if there is none."""
    lanes = recording.lanes(np.concatenate([calls.process[runs], rows.tgid]))
    place = np.searchsorted(
        lanes.at(calls.process[runs], calls.start[runs]), lanes.at(rows.tgid, rows.start), side="right"
    )
    run = pick(runs, place.astype(np.int64) - 1, -1)
    return np.where(pick(calls.process, run, -1) == rows.tgid, run, -1)


def engine_answers(
    recording: Recording, calls: LibraryCalls, made_tokens: Ints, step: Bools, idle: Idle
) -> dict[str, Any]:
    """Return the columns of answers.Answers for the engines' requests."""
    tokens = _tokens(recording, calls)
    looks = np.isin(calls.process, calls.process[tokens.run[tokens.request != 0]])
    chosen = np.flatnonzero(np.isin(calls.function, (*RUNS, *ASKS)))
    chosen = chosen[np.lexsort((calls.start[chosen], calls.process[chosen]))]
    burst = _bursts(calls, chosen, idle)
    parts = [
        _of_bursts(calls, chosen, burst, made_tokens, step, ~looks[chosen]),
        _of_requests(recording, calls, tokens, chosen, burst),
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _bursts(calls: LibraryCalls, chosen: Ints, idle: Idle) -> Ints:
    """Number the stretches of a process in which its engine's calls follow each other without a wait for work."""
    before, after = chosen[:-1], chosen[1:]
    new = np.ones(len(chosen), dtype=bool)
    new[1:] = calls.process[before] != calls.process[after]
    new[1:] |= idle.lies_between(calls.thread[after], calls.end[before], calls.start[after])
    return np.cumsum(new) - 1


def _of_bursts(
    calls: LibraryCalls, chosen: Ints, burst: Ints, made_tokens: Ints, step: Bools, mask: Bools
) -> dict[str, Any]:
    """Return an answer for each burst: whose tokens they are is not known."""
    chosen, burst = chosen[mask], burst[mask]
    groups = distinct(burst)
    which, count = np.searchsorted(groups, burst), len(groups)
    first = np.searchsorted(which, np.arange(count))
    is_step = step[chosen]
    tokens = np.bincount(which, weights=np.maximum(made_tokens[chosen], 0), minlength=count).astype(np.int64)
    tokens[which[is_step & (made_tokens[chosen] == UNKNOWN)]] = UNKNOWN
    return {
        "start": calls.start[chosen[first]],
        "first_end": _least(which[is_step], calls.end[chosen][is_step], count),
        "end": _most(which, calls.end[chosen], count),
        "thread": calls.thread[chosen[first]],
        "process": calls.process[chosen[first]],
        "tokens": tokens,
        "steps": np.bincount(which[is_step], minlength=count).astype(np.int64),
        "failed": np.bincount(which[calls.failed[chosen] & (calls.row[chosen] == DECODE)], minlength=count).astype(
            np.int64
        ),
        "single_owner": np.zeros(count, dtype=bool),
    }


def _of_requests(
    recording: Recording, calls: LibraryCalls, tokens: _Tokens, chosen: Ints, burst: Ints
) -> dict[str, Any]:
    """Return an answer for each turn of a request of which tokens were seen, or for which its process waited in vain."""
    turn_calls = np.flatnonzero(np.isin(calls.function, TURNS) & np.isin(calls.process, calls.process[tokens.run]))
    run, request = tokens.run[tokens.request != 0], tokens.request[tokens.request != 0]
    # Requests whose begin was not seen: they begin with their first run, or with the recording of a running target.
    object_rank = ranked(np.concatenate([calls.owner[turn_calls], request]))
    of_process = np.concatenate([calls.process[turn_calls], calls.process[run]])
    names, which = np.unique(object_key(of_process, object_rank), return_inverse=True)
    which = which.ravel().astype(np.int64)
    turn_of, token_of = which[: len(turn_calls)], which[len(turn_calls) :]
    without_turn = np.setdiff1d(token_of, turn_of)
    earliest = _least(token_of, calls.start[run], len(names))[without_turn]
    since = np.full(len(without_turn), life(recording)[0]) if is_attached(recording) else earliest
    by_run = _first_run(token_of, run, without_turn)
    start = np.concatenate([calls.start[turn_calls], since])
    thread = np.concatenate([calls.thread[turn_calls], calls.thread[by_run]])
    process = np.concatenate([calls.process[turn_calls], calls.process[by_run]])
    owner = np.concatenate([turn_of, without_turn])
    until = np.concatenate([_burst_end(calls, chosen, burst, turn_calls), earliest])
    order = np.lexsort((start, owner))
    start, thread, process, owner, until = (column[order] for column in (start, thread, process, owner, until))
    lanes = recording.lanes(np.arange(len(names)))
    turn = np.searchsorted(lanes.at(owner, start), lanes.at(token_of, calls.start[run]), side="right") - 1
    known = (turn >= 0) & (pick(owner, turn, -1) == token_of)
    turn, run = turn[known], run[known]
    count = len(start)
    pairs = distinct(pair_key(turn, run))
    end = _most(turn, calls.end[run], count)
    return {
        "start": start,
        "first_end": _least(turn, calls.end[run], count),
        "end": np.where(end > 0, end, until),
        "thread": thread,
        "process": process,
        "tokens": np.bincount(turn, minlength=count).astype(np.int64),
        "steps": np.bincount(first_of_pair(pairs), minlength=count).astype(np.int64),
        "failed": np.zeros(count, dtype=np.int64),
        "single_owner": np.ones(count, dtype=bool),
    }


def _first_run(token_of: Ints, run: Ints, request: Ints) -> Ints:
    """Return the first run of each request that is wanted."""
    order = np.lexsort((run, token_of))
    return run[order][np.searchsorted(token_of[order], request)]


def _burst_end(calls: LibraryCalls, chosen: Ints, burst: Ints, call: Ints) -> Ints:
    """Return the end of the burst that each call is in."""
    ends = _most(burst, calls.end[chosen], int(burst[-1]) + 1 if len(burst) else 0)
    of_call = np.zeros(len(calls), dtype=np.int64)
    of_call[chosen] = burst
    return ends[of_call[call]] if len(call) else np.empty(0, dtype=np.int64)


def _least(group: Ints, value: Ints, count: int) -> Ints:
    """Return the least value of each group, -1 for a group without any."""
    least = np.full(count, np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(least, group, value)
    return np.where(least < np.iinfo(np.int64).max, least, -1)


def _most(group: Ints, value: Ints, count: int) -> Ints:
    """Return the largest value of each group, 0 for a group without any."""
    most = np.zeros(count, dtype=np.int64)
    np.maximum.at(most, group, value)
    return most
