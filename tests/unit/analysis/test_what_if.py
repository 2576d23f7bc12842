"""Predictions: the critical path of a scene with known times, replayed with something changed."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import stored
from scene import DOWNLOADER, TARGET, WORKER, Fetch, Scene

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.contract.report_options import Changes, ReportOptions
from cvtrace.analysis.contract.whatif_schema import Prediction
from cvtrace.cli import main
from cvtrace.probes.events import Kind, Opcode

MS = 1000
SIZE = 1 << 20


def cold(chunks: int = 4, *, request: float = 10, transfer: float = 5, fill: float = 5, size: int = SIZE) -> Scene:
    """Return a load of 500 ms with chunks fetched one after the other; times in ms, a fifth of one for the cache."""
    scene = Scene(end=1000 * MS)
    scene.add(Kind.PROC_EXEC, 0, tid=TARGET, text="/usr/bin/python3")
    scene.call("OgaCreateModel", 0, 500 * MS)
    scene.opened(1 * MS, 2 * MS, 5)
    for number in range(chunks):
        at = (100 + 50 * number) * MS
        sent, first = at + 20, at + 20 + request * MS
        fetched_at = first + (transfer + fill) * MS
        scene.fetch(
            Fetch(
                at + 15,
                sent,
                first,
                fetched_at,
                fetched_at,
                polls=((first, first + transfer * MS),),
                number=number,
                size=size,
            )
        )
        scene.request(Opcode.READ, at + 1, fetched_at + 100, fetched_at + 200, sent=at, offset=number << 20)
        scene.cache_read(fetched_at + 10, fetched_at + 90)
        scene.off(at, fetched_at + 200, fetched_at + 200, by=WORKER, state=2)
    for number in range(4):
        scene.call("OgaGenerator_GenerateNextToken", (600 + 20 * number) * MS, (610 + 20 * number) * MS)
    scene.add(Kind.PROC_EXIT, 900 * MS, tid=TARGET)
    return scene


def predicted(report: Report, name: str) -> Prediction:
    assert report.what_if is not None
    return next(prediction for prediction in report.what_if.predictions if prediction.name == name)


def load_ms(report: Report, name: str) -> float:
    """Return the predicted length of the load, in ms."""
    (seconds,) = (row.predicted_s for row in predicted(report, name).phases if row.name == "load")
    assert seconds is not None
    return seconds * 1000


def report_with(scene: Scene, **changes: float) -> Report:
    return analyse(scene.trace(), options=ReportOptions(changes=Changes(**changes)))  # type: ignore[arg-type]


def test_with_everything_cached_network_and_unpacking_are_gone() -> None:
    # GIVEN four fetches of 20 ms each
    report = report_with(cold())

    assert load_ms(report, "all_cached") == pytest.approx(500 - 4 * 20, abs=0.2)
    assert load_ms(report, "in_memory") == pytest.approx(500 - 4 * 20.2, abs=0.2)
    assert load_ms(report, "local_copy") == pytest.approx(500 - 4 * 20.2, abs=0.2)
    decode = [row for row in predicted(report, "all_cached").phases if row.name == "decode"]
    assert decode[0].predicted_s == decode[0].measured_s == pytest.approx(0.04)


@pytest.mark.parametrize(("rtt_s", "change_ms"), [(0.010, 0), (0.020, 4 * 10), (0.050, 4 * 40), (0.0, -4 * 10)])
def test_a_prediction_adds_one_round_trip_for_each_get(rtt_s: float, change_ms: float) -> None:
    # GIVEN the only sign of the round trip: 10 ms from each GET to its first byte
    report = report_with(cold(), rtt_s=rtt_s)

    assert report.what_if is not None
    assert report.what_if.rtt_s == pytest.approx(0.010)
    assert report.what_if.rtt_from == "the shortest wait for a first byte"
    assert load_ms(report, "round_trip") == pytest.approx(500 + change_ms, abs=0.2)


def test_the_round_trip_is_measured_by_a_connect() -> None:
    # GIVEN a connect of 2 ms; the server needs the rest of each answer's 10 ms
    scene = Scene(end=1000 * MS)
    scene.call("OgaCreateModel", 0, 500 * MS)
    scene.request(Opcode.READ, 100 * MS, 150 * MS, 150 * MS + 9, sent=99.9 * MS)
    scene.fetch(Fetch(100 * MS + 20, 102 * MS + 30, 112 * MS, 140 * MS, 140 * MS, connect=100 * MS + 30, size=SIZE))
    scene.off(99.9 * MS, 150 * MS, 150 * MS, by=WORKER, state=2)

    report = report_with(scene, rtt_s=0.022)

    assert report.what_if is not None
    assert (report.what_if.rtt_s, report.what_if.rtt_from) == (pytest.approx(0.002), "the shortest connect")
    assert load_ms(report, "round_trip") == pytest.approx(500 + 2 * 20, abs=0.1)


def test_parallel_chunks_share_their_round_trips() -> None:
    # GIVEN four fetches of 10 ms for the answer, 2 for the body and 2 for unpacking, over a link that is fast enough
    scene = cold(transfer=2, fill=2)

    assert load_ms(report_with(scene, parallel=1), "parallel") == pytest.approx(500, abs=0.2)
    assert load_ms(report_with(scene, parallel=2), "parallel") == pytest.approx(500 - 4 * 14 + 2 * 12 + 4 * 2, abs=0.2)
    # THEN they need at least the time of their bytes on the link, which brought the fastest in 3.9 ms
    assert load_ms(report_with(scene, parallel=100), "parallel") == pytest.approx(500 - 4 * 14 + 4 * 4, abs=0.5)


def test_a_saturated_link_does_not_speed_up_parallel_chunks() -> None:
    # GIVEN bodies that take 40 of 41 ms, all on the wire
    report = report_with(cold(request=1, transfer=40, fill=0.1), parallel=4)

    assert load_ms(report, "parallel") == pytest.approx(500 - 3 * 1, abs=1.5)


def test_catalogs_cannot_be_fetched_ahead() -> None:
    scene = cold()
    scene.texts = [(*text[:4], text[4].replace(b"P HTTP", b"C HTTP")) for text in scene.texts]

    assert load_ms(report_with(scene, parallel=4), "parallel") == 500


def test_a_near_proxy_saves_network_time_and_not_unpacking() -> None:
    # GIVEN 10 ms for the answer, 20 for the body of which 12 are waited, 8 unpacked; at 1 Gbit/s it takes 8.4
    report = report_with(cold(transfer=12, fill=8))

    assert load_ms(report, "near_proxy") == pytest.approx(500 - 4 * (10 - 0.5 + 12 - 0.4), abs=0.5)


def test_a_larger_model_scales_reads_and_computing_on_weights() -> None:
    # GIVEN that the weights are touched from 100 to 300 ms
    scene = cold()
    for at in (100, 300):
        scene.add(Kind.PAGE_MAP, at * MS - 50, tid=TARGET, a=42, b=7, c=at)

    report = report_with(scene, scale=3)

    assert load_ms(report, "larger_model") == pytest.approx(500 + 2 * 200, abs=1)
    decode = next(row for row in predicted(report, "larger_model").phases if row.name == "decode")
    assert decode.predicted_s == pytest.approx(3 * 0.04)
    script = next(row for row in predicted(report, "larger_model").phases if row.name == "script")
    assert script.predicted_s == script.measured_s


def test_without_requests_only_the_reason_is_reported() -> None:
    scene = Scene(end=900_000)
    scene.call("OgaCreateModel", 100_000, 400_000)
    scene.meta = {"probe": "portable"}

    report = report_with(scene)

    assert report.what_if is not None
    for prediction in report.what_if.predictions:
        assert prediction.wall_s is None
        assert prediction.reason == "the portable probe sees no single request, so the time spent on CVMFS is not known"
        assert all(row.predicted_s is None for row in prediction.phases)


def test_without_a_load_a_larger_model_is_not_reported() -> None:
    report = report_with(Scene())

    assert predicted(report, "larger_model").wall_s is None
    assert "no model load" in (predicted(report, "larger_model").reason or "")
    assert predicted(report, "round_trip").wall_s == pytest.approx(report.trace.duration_s)


def test_a_get_without_an_answer_gives_no_round_trip() -> None:
    scene = cold(1)
    scene.events = [row for row in scene.events if row[3] != DOWNLOADER or row[4] == Kind.HTTP_SEND]

    prediction = predicted(report_with(scene), "round_trip")

    assert prediction.wall_s is None
    assert "not known" in (prediction.reason or "")


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 6),
    st.floats(0, 1),
    st.integers(1, 20),
    st.floats(0.01, 100),
    st.floats(0.1, 20),
    st.integers(0, 10**8),
)
def test_predictions_are_never_negative(
    chunks: int, rtt_s: float, parallel: int, scale: float, request: float, size: int
) -> None:
    report = report_with(cold(chunks, request=request, size=size), rtt_s=rtt_s, parallel=parallel, scale=scale)

    assert report.what_if is not None
    for prediction in report.what_if.predictions:
        assert prediction.wall_s is None or prediction.wall_s >= 0
        assert all(row.predicted_s is None or row.predicted_s >= 0 for row in prediction.phases)
    for name in ("all_cached", "in_memory", "local_copy", "parallel"):
        wall_s = predicted(report, name).wall_s
        assert wall_s is None or wall_s <= sum(row.wall_s for row in report.phases) + 1e-9


def test_predictions_are_printed_on_request(tmp_path: Path) -> None:
    trace = str(stored(tmp_path, cold()))

    plain = CliRunner().invoke(main, ["report", trace])
    asking = CliRunner().invoke(
        main, ["report", trace, "--what-if", "--rtt", "50ms", "--parallel", "2", "--scale", "3"]
    )

    assert (plain.exit_code, asking.exit_code) == (0, 0)
    assert "what if" not in plain.output
    for words in ("a round trip of 50.0 ms", "2 chunks fetched at once", "a model 3 times larger", "as it was"):
        assert words in asking.output
    assert max(len(line) for line in asking.output.splitlines()[:-1]) <= 80


@pytest.mark.parametrize("wrong", [["--rtt", "20"], ["--rtt", "-1ms"], ["--parallel", "0"], ["--scale", "nan"]])
def test_impossible_what_if_options_are_refused(wrong: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(tmp_path), "--what-if", *wrong])

    assert result.exit_code == 2
    assert "Traceback" not in result.output
