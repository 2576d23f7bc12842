"""The one rule of all answers."""

import pytest

from cvtrace.analysis.evidence.decision import decide


@pytest.mark.parametrize("need", ["requests", "counters", "unobserved"])
@pytest.mark.parametrize("missing", [(), ("events were lost",), False, True])
def test_one_need_is_a_yes_whatever_is_missing(need: str, missing: tuple[str, ...] | bool) -> None:
    assert decide(**{"requests": False, need: True, "missing": missing}) == "yes"  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", [("events were lost",), True])
def test_without_a_need_a_gap_in_the_proof_makes_it_inconclusive(missing: tuple[str, ...] | bool) -> None:
    assert decide(requests=False, missing=missing) == "inconclusive"


@pytest.mark.parametrize("missing", [(), False])
def test_without_a_need_a_complete_proof_makes_it_a_no(missing: tuple[str, ...] | bool) -> None:
    assert decide(requests=False, missing=missing) == "no"
