"""The line of `--watch`: its counts and its width."""

import numpy as np
import pytest

from cvtrace.probes.events import EVENT, UNFINISHED, Events, Kind
from cvtrace.probes.phases.functions import INDEX
from cvtrace.tracer.watch import TOKEN, Watch, watching


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def events(*kinds: int, **columns: int) -> Events:
    events = np.zeros(len(kinds), dtype=EVENT)
    events["kind"] = kinds
    for name, value in columns.items():
        events[name] = value
    return events


def test_rates_are_over_the_last_seconds(clock: Clock) -> None:
    watch = Watch(-1, clock)

    for _ in range(4):
        clock.now_s += 1
        watch._count(events(*[Kind.FUSE_READ] * 50, *[Kind.HTTP_SEND] * 3, *[Kind.HANDOVER] * 5))
        watch._count(events(Kind.HTTP_RECV, ret=2_000_000))
        watch._count(events(Kind.HTTP_RECV, ret=-11))
        line = watch.line(0, 200)

    assert line == (
        "cvtrace 4.0 s · not loaded yet · 50 reads/s (200) · 3 fetches/s (12) 2.0 MB/s · 90 % cached · 0 lost"
    )
    clock.now_s += 10
    watch.line(0, 200)
    clock.now_s += 3
    assert watch.line(0, 200).endswith("· 0 reads/s (200) · 0 fetches/s (12) 0.0 MB/s · 0 lost")


def test_phases_and_tokens_come_from_marks(clock: Clock) -> None:
    watch = Watch(-1, clock)
    clock.now_s += 1

    watch._count(events(Kind.PHASE, a=INDEX["OgaCreateModel"]))
    assert "· after load ·" in watch.line(0, 200)

    watch._count(events(*[Kind.PHASE] * 7, a=TOKEN))
    assert "· decode · 7.0 tokens/s (7) ·" in watch.line(0, 200)

    watch._count(events(Kind.PHASE | UNFINISHED, a=10_000))
    assert "· decode ·" in watch.line(12_345, 200)
    assert watch.line(12_345, 200).endswith("12,345 lost")


def test_a_call_in_progress_is_the_current_phase(clock: Clock) -> None:
    # GIVEN that the model's configuration was read, which counts as load, and that the model is being created
    watch = Watch(-1, clock)
    clock.now_s += 1
    watch._count(events(Kind.PHASE, a=INDEX["OgaCreateConfig"]))

    assert "· in load ·" in watch.line(0, 200, [INDEX["OgaCreateModelFromConfig"]])
    assert "· after load ·" in watch.line(0, 200)
    assert "· in prefill ·" in watch.line(0, 200, [INDEX["OgaGenerator_AppendTokens"], TOKEN])
    assert "· decode ·" in watch.line(0, 200, [TOKEN])
    assert "· after load ·" in watch.line(0, 200, [10_000])


@pytest.mark.parametrize("columns", [200, 100, 79, 40, 1])
def test_the_watch_line_fits_the_width(clock: Clock, columns: int) -> None:
    watch = Watch(-1, clock)
    clock.now_s += 1000
    watch._count(events(*[Kind.PHASE] * 50, a=TOKEN))
    watch._count(events(*[Kind.FUSE_READ] * 50_000, *[Kind.HTTP_SEND] * 300))

    line = watch.line(7, columns)

    assert len(line) <= columns
    assert ("(50,000)" in line) == (columns >= 200)
    assert line.endswith("7 lost") == (columns >= 79)


def test_unknown_kinds_are_not_counted(clock: Clock) -> None:
    watch = Watch(-1, clock)

    watch.take(events(0x7FFF, 0, Kind.FUSE_READ), lambda: pytest.fail("asked too early"))

    assert "(1)" in watch.line(0, 200)


def test_without_a_terminal_no_watch_line_is_drawn() -> None:
    with open("/dev/null", "wb") as nowhere, watching(True, nowhere.fileno()) as watch:  # noqa: PTH123
        assert watch is None
