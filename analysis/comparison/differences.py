"""The time of two runs by phase, file or tensor, and class, side by side: what a difference flame graph is drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvtrace.analysis.trace.intervals import Ints, pick


@dataclass(frozen=True)
class Times:
    """Where one run spent its time: `ns` in a phase (number of `phases`), waiting for a part (number of `parts`: files and tensors; -1: none),
    in a class. A combination may occur in several rows, and a name more than once."""

    phases: tuple[str, ...]
    parts: tuple[str, ...]
    phase: Ints
    part: Ints
    value: Ints
    ns: Ints


@dataclass(frozen=True)
class Differences:
    """One row for each combination of phase, part and class that took time in one run or the other, sorted by these."""

    phases: tuple[str, ...]
    """Those of A in their order, then those that only B has."""
    parts: tuple[str, ...]
    phase: Ints
    part: Ints
    value: Ints
    a_ns: Ints
    b_ns: Ints

    @property
    def change_ns(self) -> Ints:
        return self.b_ns - self.a_ns

    def __len__(self) -> int:
        return len(self.phase)


def differences(a: Times, b: Times) -> Differences:
    """Put the times of two runs side by side: what has the same names is the same."""
    phases, parts = merged(a.phases, b.phases), merged(a.parts, b.parts)
    columns = [
        np.concatenate(each)
        for each in zip(_keys(a, phases, parts), _keys(b, phases, parts), strict=True)  # phase, part, value
    ]
    of_a = np.repeat([True, False], [len(a.ns), len(b.ns)])
    ns = np.concatenate([a.ns, b.ns])
    sizes = (len(phases) + 1, len(parts) + 2, int(columns[2].max(initial=0)) + 1)
    key = np.ravel_multi_index((columns[0], columns[1] + 1, columns[2]), sizes) if len(ns) else ns
    distinct, where = np.unique(key[ns > 0], return_inverse=True)
    spent_ns = [
        np.bincount(where.ravel(), weights=np.where(side, ns, 0)[ns > 0], minlength=len(distinct)).astype(np.int64)
        for side in (of_a, ~of_a)
    ]
    phase, part, value = (np.asarray(each, dtype=np.int64) for each in np.unravel_index(distinct, sizes))
    return Differences(phases, parts, phase, part - 1, value, *spent_ns)


def merged(a: Sequence[str], b: Sequence[str]) -> tuple[str, ...]:
    """Return each name once: those of A in their order, then those that only B has."""
    return tuple(dict.fromkeys((*a, *b)))


def numbers(names: Sequence[str], among: Sequence[str]) -> Ints:
    """Return the place of each name among others, which hold all of them."""
    place = {name: number for number, name in enumerate(among)}
    return np.array([place[name] for name in names], dtype=np.int64)


def _keys(times: Times, phases: Sequence[str], parts: Sequence[str]) -> tuple[Ints, Ints, Ints]:
    phase = pick(numbers(times.phases, phases), times.phase, -1)
    return phase, pick(numbers(times.parts, parts), times.part, -1), times.value


def relative(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return (b - a) / max(a, b): 0 for no change, 0.5 for twice as much, 1 for something new, -1 for what vanished."""
    before, after = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    larger = np.maximum(before, after)
    return np.divide(after - before, larger, out=np.zeros_like(larger), where=larger > 0)
