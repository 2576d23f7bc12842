"""An experiment from words, and the order of its runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from cvtrace.experiment.errors import WrongExperiment
from cvtrace.experiment.on_lab import check_arguments, settings_of
from cvtrace.experiment.request import experiment_of
from cvtrace.experiment.settings import round_of, slots_of
from cvtrace.lab.errors import LabError

ARGV = ["qa.py", "-m", "{model}"]


def test_every_round_has_each_cell_once_and_the_first_one_traced_run_more() -> None:
    experiment = experiment_of(ARGV, repeats=4, seed=1, sweep="delay=0ms,20ms", variants={"a": "-x", "b": "-y"})
    slots = list(slots_of(experiment))
    cells = Counter(slot.cell for slot in slots if not slot.traced)
    assert len(cells) == 2 * 2 * 5
    assert set(cells.values()) == {4}
    assert Counter(slot.cell for slot in slots if slot.traced) == dict.fromkeys(cells, 1)


def test_with_all_runs_traced_one_in_each_cell_is_not() -> None:
    slots = list(slots_of(experiment_of(ARGV, repeats=3, states="cold,hot", trace_all=True)))
    assert Counter((slot.state, slot.traced) for slot in slots) == {
        ("cold", True): 3,
        ("hot", True): 3,
        ("cold", False): 1,
        ("hot", False): 1,
    }


def test_the_order_is_random_within_a_round_and_the_same_for_the_same_seed() -> None:
    one, same, other = (list(slots_of(experiment_of(ARGV, repeats=20, seed=seed))) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    rounds = [[slot.state for slot in one if slot.round == number] for number in range(1, 20)]
    assert len({tuple(states) for states in rounds}) > 10
    # more repeats continue the same order
    assert list(slots_of(experiment_of(ARGV, repeats=5, seed=1))) == one[: 10 + 4 * 5]
    assert round_of(experiment_of(ARGV, repeats=1, seed=1), 3) == [slot for slot in one if slot.round == 3]


def test_without_a_seed_each_experiment_has_its_own() -> None:
    assert len({experiment_of(ARGV).seed for _ in range(5)}) == 5


def test_the_arguments_of_a_variant_follow_those_of_all() -> None:
    experiment = experiment_of(["qa.py", "-g"], variants={"int4": "-m '/cvmfs/a b'", "whole": ["-m", "/cvmfs/c"]})
    assert [each.argv for each in experiment.variants] == [
        ("qa.py", "-g", "-m", "/cvmfs/a b"),
        ("qa.py", "-g", "-m", "/cvmfs/c"),
    ]
    assert experiment_of([], variants={"gguf": "./llama -m x"}).variants[0].argv == ("./llama", "-m", "x")


def test_states_are_in_the_order_of_the_tables() -> None:
    assert experiment_of(ARGV, states="local,cold").states == ("cold", "local")


def test_a_command_continues_only_what_is_the_same_experiment() -> None:
    identity = experiment_of(ARGV, seed=1).identity
    assert experiment_of(ARGV, seed=2, repeats=9).identity == identity
    for changed in ({"states": "cold"}, {"lab": "size=8MB"}, {"models": ["/cvmfs/a"]}, {"trace_all": True}):
        assert experiment_of(ARGV, seed=1, **changed).identity != identity  # type: ignore[arg-type]
    assert experiment_of([*ARGV, "-v"], seed=1).identity != identity


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("'warm' is not a state", {"states": "warm"}),
    ("'' is not a state", {"states": ""}),
    ("0 is not a number of repeats", {"repeats": 0}),
    ("nothing to run", {"argv": []}),
    ("has nothing to run", {"argv": [], "variants": {"a": ""}}),
    ("needs a name", {"variants": {"": "-m x"}}),
    ("cannot be read", {"variants": {"a": "'"}}),
    ("the axes are size", {"sweep": "colour=1,2"}),
    ("the axes are size", {"sweep": "size"}),
    ("at least two different values", {"sweep": "size=64MB,64000kB"}),
    ("is not a size", {"sweep": "size=64MB,big"}),
    ("number of threads", {"sweep": "threads=0,1"}),
    ("not an option of the lab", {"lab": "colour=1"}),
    ("is not a duration", {"lab": "delay=fast"}),
    ("contradict each other", {"lab": "size=8MB", "sweep": "size=8MB,16MB"}),
    ("timeout of 0 s", {"timeout_s": 0.0}),
    ("timeout of nan s", {"timeout_s": float("nan")}),
    ("there is no sweep", {"hold_out": "8MB"}),
    ("not among the values", {"hold_out": "9MB", "sweep": "size=8MB,16MB"}),
]


@pytest.mark.parametrize("sentence, values", WRONG)
def test_a_mistake_is_one_sentence(sentence: str, values: dict[str, Any]) -> None:
    with pytest.raises((WrongExperiment, LabError), match=sentence) as refusal:
        experiment_of(**{"argv": ARGV, **values})
    assert "\n" not in str(refusal.value)


def test_the_lab_at_a_value_of_the_sweep() -> None:
    settings = settings_of({"size": "8MB", "delay": "5ms"}, "chunk", 4e6)
    assert (settings.size, settings.chunk, settings.delay, settings.bandwidth) == (8e6, 4e6, 0.005, None)
    models = {settings_of({}, "delay", value).model for value in (0.0, 0.1)}
    assert len(models) == 1
    assert len({settings_of({}, "threads", value).model for value in (1.0, 2.0)}) == 2


def test_the_model_of_the_lab_needs_a_place_in_the_arguments() -> None:
    with pytest.raises(WrongExperiment, match=r"write \{model\}"):
        check_arguments({"": ("qa.py",)}, on_lab=True)
    with pytest.raises(WrongExperiment, match="add --lab"):
        check_arguments({"": ("qa.py", "-m", "{model}")}, on_lab=False)
    check_arguments({"": ("qa.py", "--model={model}/x")}, on_lab=True)
