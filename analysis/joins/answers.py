"""Which calls of the library belong to one answer: from its prefill to its last token, and how many tokens each call made.

A generator (a context of llama.cpp, too) answers once for each prefill that follows a token. Of an engine, an answer is what one turn of a request got; where the
target never looks at what the engine tells of its requests, it is all that the engine did without a pause.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.joins.engine import ASKS, UNKNOWN, engine_answers, engine_tokens
from cvtrace.analysis.joins.idle import Idle
from cvtrace.analysis.joins.library_calls import DECODE, PREFILL, LibraryCalls, is_attached, life, notes
from cvtrace.analysis.trace.intervals import Bools, Ints, distinct, pick
from cvtrace.analysis.trace.keys import object_key, ranked
from cvtrace.analysis.trace.recording import EventIndex, Recording, Rows
from cvtrace.probes.events import Kind
from cvtrace.probes.phases.counted_tokens import TAKERS, taken
from cvtrace.probes.phases.functions import BATCH, BEAMS, COUNTED, INDEX
from cvtrace.probes.phases.runtimes.declaration import MANY

OF_GENERATOR: Final = COUNTED + tuple(
    INDEX[name]
    for name in (
        "OgaGenerator_AppendTokens",
        "OgaGenerator_AppendTokenSequences",
        "OgaGenerator_SetInputs",
        "OgaGenerator_RewindTo",
        "OgaGenerator_GenerateNextToken",
        "OgaMtpGenerator_AppendTokens",
        "OgaMtpGenerator_GenerateNextToken",
    )
)
"""Their first argument is the generator."""
ENDS_GENERATOR: Final = (INDEX["OgaDestroyGenerator"], INDEX["OgaDestroyMtpGenerator"])
SEVERAL_AT_ONCE: Final = INDEX["OgaMtpGenerator_GenerateNextToken"]


@dataclass(frozen=True)
class Answers:
    """Answers, sorted by begin: from the begin of the prefill to the end of the last call for it.

    `first_end` is the end of the call that made the first token, -1 if none was made. `tokens` is UNKNOWN where the size of the batch
    is. `single_owner` tells those that are one generator's or one request's; others are single calls of a prefill that no token followed,
    or an engine's doing of which the requests are not known.
    """

    start: Ints
    first_end: Ints
    end: Ints
    thread: Ints
    process: Ints
    tokens: Ints
    steps: Ints
    failed: Ints
    single_owner: Bools

    def __len__(self) -> int:
        return len(self.start)

    def where(self, chosen: Bools | Ints) -> "Answers":
        """Return the chosen ones."""
        return Answers(**{name: column[chosen] for name, column in vars(self).items()})


@dataclass(frozen=True)
class CallTokens:
    """What each call of the library made: `tokens` (UNKNOWN, or 0), and whether it is a `step`, one that made any."""

    tokens: Ints
    step: Bools

    @property
    def total(self) -> int | None:
        """All tokens, None if of one step their number is not known."""
        of_steps = self.tokens[self.step]
        return None if (of_steps == UNKNOWN).any() else int(of_steps.sum())


def call_tokens(recording: Recording, calls: LibraryCalls) -> CallTokens:
    """Tell how many tokens each call made."""
    tokens = np.zeros(len(calls), dtype=np.int64)
    counted = np.isin(calls.function, COUNTED)
    done = ((calls.row == DECODE) | counted) & ~calls.failed & ~calls.cut
    count = calls.detail & MANY
    takers = _takers(recording)
    both = _key(np.concatenate([calls.process, takers.tgid]), np.concatenate([calls.owner, takers.b]))
    counted_here = (
        done & counted & taken(calls.function, both[: len(calls)], calls.end, both[len(calls) :], takers.start)
    )
    tokens[counted_here] = np.where(count == MANY, UNKNOWN, count)[counted_here]
    generated = done & ~counted & np.isin(calls.function, OF_GENERATOR)
    tokens[generated] = _of_generators(recording, calls, np.flatnonzero(generated))
    engine = np.flatnonzero(done & ~generated & ~counted)
    tokens[engine] = engine_tokens(recording, calls, engine)
    return CallTokens(tokens, done & (tokens != 0))


def _takers(recording: Recording) -> Rows:
    rows = recording.of(Kind.PHASE)
    return rows.where(np.isin(rows.a, TAKERS))


def _key(process: Ints, owner: Ints) -> Ints:
    """Return a number for each (process, object)."""
    return object_key(process, ranked(owner))


def _of_generators(recording: Recording, calls: LibraryCalls, steps: Ints) -> Ints:
    """Return how many tokens each step of a generator made: one for each sequence.

    The target sees it when it takes the tokens (GetNextTokens), or gave it with the sequences or the parameters.
    """
    sequences = _sequences(recording, calls, steps)
    next_tokens = notes(recording, INDEX["OgaGenerator_GetNextTokens"])
    next_tokens = next_tokens.where(next_tokens.c > 0)
    if not len(next_tokens) or not len(steps):
        return sequences
    both = _key(
        np.concatenate([next_tokens.tgid, calls.process[steps]]), np.concatenate([next_tokens.b, calls.owner[steps]])
    )
    key = both[len(next_tokens) :]
    taken = EventIndex(recording, next_tokens, both[: len(next_tokens)])
    after = taken.asof_forward(key, calls.end[steps])
    order = np.lexsort((calls.start[steps], key))
    following = np.full(len(steps), np.iinfo(np.int64).max, dtype=np.int64)
    same = key[order][1:] == key[order][:-1]
    following[order[:-1][same]] = calls.start[steps][order[1:][same]]
    in_step = (after >= 0) & (pick(taken.rows.start, after, 0) < following)
    count = np.where(in_step, pick(taken.rows.c, after, 0), 0)
    # A target that takes the tokens of some steps only has as many sequences in the others.
    names, group = np.unique(key, return_inverse=True)
    most = np.zeros(len(names), dtype=np.int64)
    np.maximum.at(most, group.ravel(), count)
    return np.where(in_step, count, np.where(most[group.ravel()] > 0, most[group.ravel()], sequences))


def _sequences(recording: Recording, calls: LibraryCalls, steps: Ints) -> Ints:
    """Return how many sequences each step's generator was given: 1 if nobody said anything else, UNKNOWN if somebody did."""
    function = calls.function
    several = notes(recording, INDEX["OgaGeneratorParamsSetSearchNumber"])
    marks = notes(recording, INDEX["cvtrace.sequences"])
    appended = np.flatnonzero((function == INDEX["OgaGenerator_AppendTokenSequences"]) & (calls.detail > 0))
    created = np.flatnonzero((function == INDEX["OgaCreateGenerator"]) & (calls.detail != 0))
    # The hook says it of the generator that is made within its mark: by a call of the library, or by no call that is seen.
    maker = EventIndex(recording, marks, marks.tid)
    place = maker.asof_backward(calls.thread[created], calls.start[created])
    within = (place >= 0) & (pick(maker.rows.end, place, 0) >= calls.end[created])
    created, place = created[within], place[within]
    owner = np.concatenate([calls.owner[appended], calls.detail[created], marks.b])
    process = np.concatenate([calls.process[appended], calls.process[created], marks.tgid])
    when = np.concatenate([calls.start[appended], calls.start[created], marks.start])
    count = np.concatenate([calls.detail[appended], pick(maker.rows.c, place, 1), marks.c])
    of_step = np.ones(len(steps), dtype=np.int64)
    beams = several.where(several.c == BEAMS)
    for rows in (several.where(several.c == BATCH), beams):
        of_step[np.isin(calls.process[steps], rows.tgid)] = UNKNOWN
    if len(owner):
        key = _key(np.concatenate([process, calls.process[steps]]), np.concatenate([owner, calls.owner[steps]]))
        order = np.lexsort((when, key[: len(owner)]))
        lanes = recording.lanes(key)
        places = lanes.at(key[: len(owner)][order], when[order])
        latest = np.searchsorted(places, lanes.at(key[len(owner) :], calls.start[steps]), side="right") - 1
        same = (latest >= 0) & (key[: len(owner)][order][np.maximum(latest, 0)] == key[len(owner) :])
        latest_count = count[order][np.maximum(latest, 0)]
        by_hook = order[np.maximum(latest, 0)] >= len(appended)
        beaming = np.isin(calls.process[steps], beams.tgid) & ~by_hook
        of_step = np.where(same & ~beaming, latest_count, of_step)
    of_step[calls.function[steps] == SEVERAL_AT_ONCE] = UNKNOWN
    return of_step


def answers(recording: Recording, calls: LibraryCalls, tokens: CallTokens) -> Answers:
    """Put the calls that make tokens together, by what they are for."""
    idle = Idle(recording)
    parts = [
        _of_each_generator(recording, calls, tokens, idle),
        Answers(**engine_answers(recording, calls, tokens.tokens, tokens.step, idle)),
        _single(calls),
    ]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])}
    unsorted = Answers(**columns)
    return unsorted.where(np.lexsort((unsorted.end, unsorted.start)))


def _of_each_generator(recording: Recording, calls: LibraryCalls, tokens: CallTokens, idle: Idle) -> Answers:
    chosen = np.flatnonzero(np.isin(calls.function, (*OF_GENERATOR, *ENDS_GENERATOR)))
    key = _key(calls.process[chosen], calls.owner[chosen])
    order = np.lexsort((calls.start[chosen], key))
    chosen, key = chosen[order], key[order]
    ends = np.isin(calls.function[chosen], ENDS_GENERATOR)
    prefill = calls.row[chosen] == PREFILL
    new = np.ones(len(chosen), dtype=bool)
    before, after = chosen[:-1], chosen[1:]
    again = prefill[1:] & (
        ~prefill[:-1]  # a prefill after a token, or one before which somebody was waited for
        | tokens.step[before]
        | idle.lies_between(calls.thread[after], calls.end[before], calls.start[after])
    )
    new[1:] = (key[1:] != key[:-1]) | again | ends[:-1]
    which = np.cumsum(new) - 1
    is_call = ~ends
    by_generator = _grouped(calls, tokens, chosen[is_call], which[is_call])
    return _since_attached(recording, calls, by_generator, chosen[new & ~prefill & is_call])


def _since_attached(recording: Recording, calls: LibraryCalls, answers: Answers, first_calls: Ints) -> Answers:
    """Let the answers that were under way when the recording of a running target began go back to its begin."""
    if not is_attached(recording) or not len(first_calls):
        return answers
    start_ns, _ = life(recording)
    first = np.isin(answers.start, calls.start[first_calls])
    for process in np.unique(answers.process).tolist():
        of_process = np.flatnonzero(answers.process == process)
        first[of_process[answers.start[of_process] > answers.start[of_process].min()]] = False
    return Answers(**{**vars(answers), "start": np.where(first, start_ns, answers.start)})


def _single(calls: LibraryCalls) -> Answers:
    """Return the calls of a prefill that are no generator's: making it, and looking at pictures. Each stands for itself."""
    prefills = np.flatnonzero((calls.row == PREFILL) & ~np.isin(calls.function, (*OF_GENERATOR, *ASKS)))
    nothing = np.zeros(len(prefills), dtype=np.int64)
    return Answers(
        start=calls.start[prefills],
        first_end=nothing - 1,
        end=calls.end[prefills],
        thread=calls.thread[prefills],
        process=calls.process[prefills],
        tokens=nothing,
        steps=nothing,
        failed=nothing,
        single_owner=nothing == 1,
    )


def _grouped(calls: LibraryCalls, tokens: CallTokens, chosen: Ints, which: Ints) -> Answers:
    """Return an answer for each group of calls, which are sorted by (group, start)."""
    groups = distinct(which)
    which = np.searchsorted(groups, which)
    first = np.searchsorted(which, np.arange(len(groups)))
    count = len(groups)
    end = np.zeros(count, dtype=np.int64)
    np.maximum.at(end, which, calls.end[chosen])
    step = tokens.step[chosen]
    first_end = np.full(count, np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(first_end, which[step], calls.end[chosen][step])
    made_here, unknown = tokens.tokens[chosen], (tokens.tokens[chosen] == UNKNOWN) & step
    total = np.bincount(which, weights=np.maximum(made_here, 0), minlength=count).astype(np.int64)
    total[which[unknown]] = UNKNOWN
    return Answers(
        start=calls.start[chosen[first]],
        first_end=np.where(first_end < np.iinfo(np.int64).max, first_end, -1),
        end=end,
        thread=calls.thread[chosen[first]],
        process=calls.process[chosen[first]],
        tokens=total,
        steps=np.bincount(which[step], minlength=count).astype(np.int64),
        failed=np.bincount(which[calls.failed[chosen]], minlength=count).astype(np.int64),
        single_owner=np.ones(count, dtype=bool),
    )
