"""Generation is prefill, further tokens, and the time between the calls: each counts for the answer, and is reported separately."""

import pytest
from runs import generation
from scene import TARGET, WORKER, Fetch, Scene

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.contract.verdict_schema import Part
from cvtrace.probes.events import Kind, Opcode

SIBLING, CHILD = TARGET + 1, TARGET + 50
PREFILL, DECODE, BETWEEN, AFTER = 440, 525, 517, 600


def with_read(at: float, tid: int = TARGET, scene: Scene | None = None) -> Scene:
    """Return a hot run of three tokens in which a thread reads once."""
    scene = generation(scene)
    scene.off(at + 0.5, at + 2, at + 2.1, by=WORKER, state=2, tid=tid)
    scene.request(Opcode.READ, at + 1, at + 1.8, at + 2.2, sent=at + 0.2, offset=1 << 20, asker=tid)
    return scene


def parts(report: Report) -> dict[str, int | None]:
    verdict = report.verdict
    by_name = (verdict.first_token, verdict.further_tokens, verdict.inside_calls, verdict.between_calls)
    names = ("first", "further", "inside", "between")
    return {name: part.fuse_reads for name, part in zip(names, by_name, strict=True) if part and part.fuse_reads}


@pytest.mark.parametrize(
    "at, expected, affected",
    [
        (PREFILL, {"first": 1, "inside": 1}, (0,)),
        (485, {"first": 1, "between": 1}, (0,)),
        (505, {"first": 1, "inside": 1}, (0,)),
        (DECODE, {"further": 1, "inside": 1}, (1,)),
        (BETWEEN, {"further": 1, "between": 1}, (1,)),
    ],
    ids=["prefill", "after the prefill", "first token", "second token", "between tokens"],
)
def test_a_read_anywhere_in_an_answer_is_a_yes(at: float, expected: dict[str, int], affected: tuple[int, ...]) -> None:
    verdict = analyse(with_read(at).trace()).verdict

    assert verdict.generation_hits_cvmfs == verdict.answer == "yes"
    assert verdict.fuse_reads == 1
    assert parts(analyse(with_read(at).trace())) == expected
    assert verdict.tokens_affected == affected
    assert verdict.blocked_s == pytest.approx(1.6e-6)


@pytest.mark.parametrize("at", [410, AFTER, 650], ids=["before the prefill", "after the last token", "before the end"])
def test_a_read_outside_of_each_answer_does_not_belong_to_generation(at: float) -> None:
    verdict = analyse(with_read(at).trace()).verdict

    assert verdict.generation_hits_cvmfs == "no"
    assert verdict.fuse_reads == 0


@pytest.mark.parametrize("at", [485, BETWEEN, DECODE])
def test_reads_of_another_thread_or_a_child_meanwhile_count(at: float) -> None:
    for tid in (SIBLING, CHILD):
        scene = Scene()
        scene.add(Kind.PROC_FORK, 2, tid=TARGET, a=tid if tid == CHILD else TARGET, b=tid)
        report = analyse(with_read(at, tid, scene).trace())

        assert report.verdict.generation_hits_cvmfs == "yes"
        assert report.verdict.fuse_reads == 1


def test_waits_of_other_threads_between_tokens_are_reported_separately() -> None:
    # GIVEN a thread that reads between two tokens, for which generation does not wait
    scene = Scene()
    scene.add(Kind.PROC_FORK, 2, tid=TARGET, a=TARGET, b=SIBLING)
    between = analyse(with_read(BETWEEN, SIBLING, scene).trace()).verdict.between_calls

    assert between is not None
    assert between.blocked_s == 0
    assert between.others_blocked_s == pytest.approx(2e-6)


def test_the_parts_of_generation_add_up() -> None:
    scene = generation()
    for number, at in enumerate((PREFILL, 485, 505, DECODE, BETWEEN)):
        scene.request(Opcode.READ, at + 1, at + 1.8, at + 2.2, sent=at + 0.2, offset=number << 20)
    scene.request(Opcode.OPEN, 545.2, 548, 549, sent=545)
    scene.fetch(Fetch(handed=546, get=546.5, first=547, last=547.5, done=547.6, filled=547.8, number=9), worker=WORKER)

    verdict = analyse(scene.trace()).verdict

    def total(first: Part | None, second: Part | None, name: str) -> float:
        return float(getattr(first, name) + getattr(second, name))

    for name in ("fuse_requests", "fuse_reads", "fuse_read_bytes", "http_fetches", "http_bytes", "blocked_s"):
        whole_part = getattr(verdict, name)
        assert total(verdict.first_token, verdict.further_tokens, name) == pytest.approx(whole_part), name
        assert total(verdict.inside_calls, verdict.between_calls, name) == pytest.approx(whole_part), name
    assert (verdict.fuse_requests, verdict.http_fetches) == (6, 1)
    walls = [part.wall_s for part in (verdict.first_token, verdict.further_tokens) if part]
    assert sum(walls) == pytest.approx((555 - 420) * 1e-6)


def test_the_time_a_chat_waits_for_the_next_question_is_not_generation() -> None:
    # GIVEN two answers of one generator, 3 ms for the keyboard between them, and a read meanwhile
    scene = Scene(end=10_000)
    scene.call("OgaCreateModel", 100, 400)
    scene.opened(110, 130, 5).request(Opcode.OPEN, 115, 120, 125, sent=112)
    scene.add(Kind.SYS_MMAP, 140, 141, tid=TARGET, a=5, c=1 << 20)
    scene.call("OgaGenerator_AppendTokens", 420, 480).call("OgaGenerator_GenerateNextToken", 500, 515)
    scene.add(Kind.SYS_READ, 600, 3600, tid=TARGET, a=0, ret=9)
    scene.request(Opcode.READ, 2001, 2002, 2003, sent=2000, asker=SIBLING, offset=1 << 20)
    scene.add(Kind.PROC_FORK, 2, tid=TARGET, a=TARGET, b=SIBLING)
    scene.call("OgaGenerator_AppendTokens", 4420, 4480).call("OgaGenerator_GenerateNextToken", 4500, 4515)
    scene.add(Kind.SYS_READ, 5000, 9900, tid=TARGET, a=0, ret=0)

    report = analyse(scene.trace())

    assert report.verdict.generation_hits_cvmfs == "no"
    rows = {row.name: round(row.wall_s * 1e6) for row in report.phases}
    assert rows["waiting for work"] == 3000 + 4900
    assert rows["between"] == 40
    assert [(answer.tokens, round(answer.wall_s * 1e6)) for answer in report.answers] == [(1, 95), (1, 95)]


def test_waiting_for_a_typed_prompt_after_the_first_prefill_is_not_generation() -> None:
    # GIVEN a generator that takes the instructions at once, and the question when it has been typed
    scene = Scene(end=10_000)
    scene.call("OgaGenerator_AppendTokens", 420, 480)
    scene.add(Kind.SYS_READ, 600, 3600, tid=TARGET, a=0, ret=9)
    scene.call("OgaGenerator_AppendTokens", 4000, 4100).call("OgaGenerator_GenerateNextToken", 4200, 4300)

    first = analyse(scene.trace()).verdict.first_token

    assert first is not None
    assert first.wall_s == pytest.approx((60 + 300) * 1e-6)


def test_an_answer_in_progress_when_the_recording_begins_starts_with_it() -> None:
    # GIVEN a target that ran already, and reads before the first token that the recording has
    scene = Scene().call("OgaGenerator_GenerateNextToken", 300, 320).call("OgaGenerator_GenerateNextToken", 330, 350)
    scene.request(Opcode.READ, 101, 102, 103, sent=100)
    target = scene.trace().meta["target"]

    verdict = analyse(scene.trace(target={**target, "attached": True})).verdict

    assert verdict.generation_hits_cvmfs == "yes"
    assert verdict.between_calls is not None
    assert verdict.between_calls.fuse_reads == 1


def test_another_process_that_loads_meanwhile_makes_it_inconclusive() -> None:
    # GIVEN a child that loads a model of its own while its parent generates
    scene = generation()
    scene.add(Kind.PROC_FORK, 2, tid=TARGET, a=CHILD, b=CHILD)
    scene.call("OgaCreateModel", 510, 560, tid=CHILD, tgid=CHILD)
    scene.request(Opcode.READ, 526, 530, 532, sent=524.5, asker=CHILD, offset=1 << 20)
    scene.events[-1] = (*scene.events[-1][:2], CHILD, *scene.events[-1][3:])

    verdict = analyse(scene.trace()).verdict

    assert verdict.generation_hits_cvmfs == "inconclusive"
    assert f"pid {CHILD}" in verdict.missing[0]
    assert verdict.fuse_reads == 0


# What counts as a token.


def test_a_failed_call_does_not_count_as_a_token() -> None:
    scene = generation(tokens=2)
    scene.call("OgaGenerator_GenerateNextToken", 540, 555, ret=-1)

    report = analyse(scene.trace())

    assert (report.verdict.tokens, report.verdict.steps, report.verdict.failed_steps) == (2, 2, 1)
    assert report.verdict.generation_hits_cvmfs == "no"
    assert [token.index for token in report.tokens] == [0, 1]
    assert next(row for row in report.phases if row.name == "decode").count == 2
    assert (report.answers[0].steps, report.answers[0].failed_steps) == (2, 1)


def test_where_all_calls_failed_the_answer_is_inconclusive() -> None:
    scene = generation(tokens=0)
    scene.call("OgaGenerator_GenerateNextToken", 540, 555, ret=-1)

    verdict = analyse(scene.trace()).verdict

    assert verdict.generation_hits_cvmfs == "inconclusive"
    assert verdict.missing[0] == "no token was made: 1 call that should have made one returned an error"


def test_a_call_that_failed_because_of_what_it_read_is_a_yes() -> None:
    scene = generation(tokens=0)
    scene.call("OgaGenerator_GenerateNextToken", 540, 555, ret=-1)
    scene.request(Opcode.READ, 543, 544, 545, sent=542, offset=1 << 20)

    assert analyse(scene.trace()).verdict.generation_hits_cvmfs == "yes"


GENERATOR, PARAMS = 0x7F0000001000, 0x7F0000002000


def batch(scene: Scene, steps: int = 7, generator: int = GENERATOR, at: float = 500) -> Scene:
    for number in range(steps):
        scene.call("OgaGenerator_GenerateNextToken", at + 20 * number, at + 15 + 20 * number, b=generator)
    return scene


def test_the_sequences_that_were_appended_are_those_of_the_batch() -> None:
    scene = Scene().call("OgaGenerator_AppendTokenSequences", 420, 480, b=GENERATOR, c=3)
    scene.call("OgaGeneratorParamsSetSearchNumber", 410, 411, b=PARAMS, c=1)

    verdict = analyse(batch(scene).trace()).verdict

    assert (verdict.tokens, verdict.steps) == (21, 7)


def test_the_tokens_that_the_target_takes_are_counted() -> None:
    # GIVEN a target that takes the tokens of its batch after each step but the last
    scene = batch(Scene().call("OgaGenerator_AppendTokens", 420, 480, b=GENERATOR))
    for number in range(6):
        scene.call("OgaGenerator_GetNextTokens", 516 + 20 * number, 516.5 + 20 * number, b=GENERATOR, c=3)

    report = analyse(scene.trace())

    assert (report.verdict.tokens, report.verdict.steps) == (21, 7)
    assert "between" in {row.name for row in report.phases}  # taking them is no phase of its own


def test_the_hook_records_the_batch_size_of_the_new_generator() -> None:
    scene = Scene().call("cvtrace.sequences", 400, 415, b=77, c=3)
    scene.call("OgaCreateGenerator", 402, 414, b=1, c=GENERATOR).call(
        "OgaGeneratorParamsSetSearchNumber", 390, 391, c=1
    )
    scene.call("OgaGenerator_AppendTokens", 420, 480, b=GENERATOR)

    assert analyse(batch(scene).trace()).verdict.tokens == 21

    # AND of one that the hook sees alone
    alone = Scene().call("cvtrace.sequences", 400, 415, b=GENERATOR, c=2)
    assert analyse(batch(alone).trace()).verdict.tokens == 14


def test_a_batch_of_unknown_size_has_steps_and_no_tokens() -> None:
    scene = Scene().call("OgaGeneratorParamsSetSearchNumber", 410, 411, b=PARAMS, c=1)
    scene.call("OgaGenerator_AppendTokens", 420, 480, b=GENERATOR)

    report = analyse(batch(scene).trace())

    assert (report.verdict.tokens, report.verdict.steps) == (None, 7)
    assert report.answers[0].tokens is None


def test_generators_of_different_batch_sizes_are_counted_separately() -> None:
    scene = Scene(end=2000).call("OgaGenerator_AppendTokenSequences", 420, 480, b=GENERATOR, c=3)
    batch(scene).call("OgaGenerator_AppendTokenSequences", 700, 780, b=GENERATOR + 64, c=1)
    batch(scene, 5, GENERATOR + 64, 800)

    report = analyse(scene.trace())

    assert report.verdict.tokens == 26
    assert [answer.tokens for answer in report.answers] == [21, 5]
