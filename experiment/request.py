"""An experiment from words, as a command line or a call from Python has them. Every mistake is one sentence."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cvtrace.analysis.bench.schema import STATES, Variant
from cvtrace.experiment.errors import WrongExperiment
from cvtrace.experiment.on_lab import AXES, parse_options, parse_sweep
from cvtrace.experiment.settings import Experiment

MOST_REPEATS: Final = 10_000
LONGEST_S: Final = 1_000_000.0


def experiment_of(
    argv: Sequence[str],
    *,
    states: str | Sequence[str] = tuple(STATES),
    repeats: int = 5,
    seed: int | None = None,
    trace_all: bool = False,
    variants: Mapping[str, str | Sequence[str]] | None = None,
    sweep: str | None = None,
    hold_out: str | None = None,
    lab: str | None = None,
    models: Sequence[str] = (),
    python: str | None = None,
    copy_to: Path | None = None,
    directory: Path | None = None,
    timeout_s: float | None = None,
) -> Experiment:
    """Return the experiment. Raises WrongExperiment, and LabError for what concerns the lab."""
    if not 1 <= repeats <= MOST_REPEATS:
        raise WrongExperiment(f"{repeats} is not a number of repeats from 1 to {MOST_REPEATS:,}")
    if timeout_s is not None and not 0 < timeout_s <= LONGEST_S:
        raise WrongExperiment(f"a timeout of {timeout_s:g} s is not one between 0 and {LONGEST_S:,.0f} s")
    chosen_sweep = parse_sweep(sweep) if sweep is not None else None
    options = parse_options(lab) if lab is not None else {}
    if lab is not None and not options:
        options = parse_options("size=64MB")
    if chosen_sweep is not None and chosen_sweep.axis in options:
        raise WrongExperiment(
            f"--lab {chosen_sweep.axis}=… and --sweep {chosen_sweep.axis}=… contradict each other: leave one of them out"
        )
    held_out = None
    if hold_out is not None:
        if chosen_sweep is None:
            raise WrongExperiment("--hold-out names a value of --sweep, and there is no sweep")
        held_out = AXES[chosen_sweep.axis][0](hold_out)
        if held_out not in chosen_sweep.values:
            raise WrongExperiment(f"{hold_out} is not among the values of the sweep: what is held out is measured, too")
    return Experiment(
        variants=_variants(argv, variants or {}),
        states=_states(states),
        repeats=repeats,
        seed=secrets.randbelow(1 << 31) if seed is None else seed,
        trace_all=trace_all,
        sweep=chosen_sweep,
        held_out=held_out,
        lab=options,
        models=tuple(models),
        python=python,
        copy_to=copy_to,
        directory=directory or Path.cwd(),
        timeout_s=timeout_s,
    )


def _states(names: str | Sequence[str]) -> tuple[str, ...]:
    chosen = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    for name in chosen:
        if name not in STATES:
            raise WrongExperiment(f"'{name}' is not a state of the caches: there are {', '.join(STATES)}")
    return tuple(name for name in STATES if name in chosen)


def _variants(argv: Sequence[str], variants: Mapping[str, str | Sequence[str]]) -> tuple[Variant, ...]:
    if not variants:
        if not argv:
            raise WrongExperiment(
                "nothing to run: cvtrace bench SCRIPT [ARGS…], or a whole command in each --variant NAME=COMMAND"
            )
        return (Variant("", tuple(argv)),)
    rows = []
    for name, words in variants.items():
        if not name or not name.isprintable():
            raise WrongExperiment("a variant needs a name: --variant NAME=ARGS")
        try:
            more = shlex.split(words) if isinstance(words, str) else list(words)
        except ValueError as error:
            raise WrongExperiment(f"the arguments of the variant {name} cannot be read ({error})") from None
        if not (*argv, *more):
            raise WrongExperiment(
                f"the variant {name} has nothing to run: give SCRIPT, or a whole command in --variant {name}=COMMAND"
            )
        rows.append(Variant(name, (*argv, *more)))
    return tuple(rows)
