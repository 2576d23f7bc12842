"""The rows of the table of answers: what each prompt got, how long it took, and what it needed of CVMFS."""

import numpy as np

from cvtrace.analysis.attribution.path import class_times
from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import BLOCKED_ON_CVMFS
from cvtrace.analysis.contract.verdict_schema import Answer
from cvtrace.analysis.evidence.complete import Evidence
from cvtrace.analysis.evidence.decision import decide
from cvtrace.analysis.evidence.generation import generation_needs, process_of
from cvtrace.analysis.joins.engine import UNKNOWN
from cvtrace.analysis.joins.phases import life
from cvtrace.analysis.trace.intervals import Bools, Ints


def answer_rows(study: Study, evidence: Evidence) -> tuple[Answer, ...]:
    """Return one row for each answer, or request of an engine, in the order in which they began."""
    answers = study.phases.answers
    answers = answers.where(answers.single_owner | (answers.steps > 0) | (answers.failed > 0))
    start_ns, _ = life(study.recording)
    count, is_seen = len(answers), study.recording.sees_requests
    path = study.threads.between(answers.thread, answers.start, answers.end)
    blocked = class_times(path, np.arange(count), max(count, 1))[:, list(BLOCKED_ON_CVMFS)].sum(axis=1)
    needed, requests = generation_needs(study).all, study.requests
    get = np.isin(np.arange(len(requests)), study.gets.request)
    number = [_within(study, needed & each, answers.process, answers.start, answers.end) for each in (
        np.ones(len(requests), dtype=bool), requests.reads, get)]  # fmt: skip
    requests_of_answer, reads, fetched = (column.tolist() for column in number)
    rows = []
    for place in range(count):
        first_end = int(answers.first_end[place])
        rows.append(
            Answer(
                index=place,
                start_s=int(answers.start[place] - start_ns) / 1e9,
                wall_s=int(answers.end[place] - answers.start[place]) / 1e9,
                first_token_s=int(first_end - answers.start[place]) / 1e9 if first_end >= 0 else None,
                tokens=None if answers.tokens[place] == UNKNOWN else int(answers.tokens[place]),
                steps=int(answers.steps[place]),
                failed_steps=int(answers.failed[place]),
                hits_cvmfs=decide(
                    requests=bool(requests_of_answer[place]),
                    missing=bool(evidence.missing or not is_seen or not answers.steps[place]),
                ),
                blocked_s=int(blocked[place]) / 1e9 if is_seen else None,
                fuse_requests=requests_of_answer[place] if is_seen else None,
                fuse_reads=reads[place] if is_seen else None,
                http_fetches=fetched[place] if is_seen else None,
            )
        )
    return tuple(rows)


def _within(study: Study, chosen: Bools, process: Ints, start: Ints, end: Ints) -> Ints:
    """Count the chosen requests that were sent in each interval, by its process or by one that makes no calls of the library."""
    requests = study.requests
    index = np.flatnonzero(chosen)
    asker = process_of(study, requests.asker[index])
    is_helper = ~np.isin(asker, process)
    lanes = study.recording.lanes(process)
    of_answer_process = np.sort(lanes.at(asker[~is_helper], requests.sent[index[~is_helper]]))
    of_other_processes = np.sort(requests.sent[index[is_helper]])
    first, last = lanes.at(process, start), lanes.at(process, end)
    of_process = np.searchsorted(of_answer_process, last, side="right") - np.searchsorted(
        of_answer_process, first, side="left"
    )
    of_helpers = np.searchsorted(of_other_processes, end, side="right") - np.searchsorted(
        of_other_processes, start, side="left"
    )
    count: Ints = of_process + of_helpers
    return count
