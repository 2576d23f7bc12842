"""Stacks hold the same time as the phases, in another order."""

import numpy as np
from runs import cold_run
from scene import MODEL

from benchmarks.big_trace import big_trace
from cvtrace.analysis.storage.stacks import stacks
from cvtrace.analysis.summary.assemble import full_analysis


def test_stacks_name_phase_thread_file_and_class() -> None:
    study, _, _ = full_analysis(cold_run().trace())

    found = stacks(study)
    times = {found.frames(row): int(found.ns[row]) for row in range(len(found))}

    assert times["load", "thread 100", MODEL, "network.transfer"] == 80_000_000
    assert times["load", "thread 100", "compute.cpu"] > 0
    assert all(len(frames) in (3, 4) for frames in times)


def test_stacks_add_up_to_the_wall_time_of_every_phase() -> None:
    study, _, report = full_analysis(big_trace(2000, tokens=20))

    found = stacks(study)

    for phase in report.phases:
        mine = found.phase == found.phases.index(phase.name)
        assert int(found.ns[mine].sum()) == round(phase.wall_s * 1e9)
        for name, spent in phase.classes.items():
            of_class = np.array([found.frames(row)[-1] == name for row in range(len(found))])
            assert int(found.ns[mine & of_class].sum()) == round(spent * 1e9)
