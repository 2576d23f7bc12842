"""Stacks add up to the times of the phases."""

import numpy as np
from runs import cold_run
from scene import MODEL

from benchmarks.big_trace import big_trace
from cvtrace.analysis.storage.stacks import stacks
from cvtrace.analysis.summary.assemble import full_analysis


def test_stacks_name_phase_thread_file_and_class() -> None:
    study, _, _ = full_analysis(cold_run().trace())

    table = stacks(study)
    times = {table.frames(row): int(table.ns[row]) for row in range(len(table))}

    assert times["load", "thread 100", MODEL, "network.transfer"] == 80_000_000
    assert times["load", "thread 100", "compute.cpu"] > 0
    assert all(len(frames) in (3, 4) for frames in times)


def test_stacks_add_up_to_the_wall_time_of_every_phase() -> None:
    study, _, report = full_analysis(big_trace(2000, tokens=20))

    table = stacks(study)

    for phase in report.phases:
        in_phase = table.phase == table.phases.index(phase.name)
        assert int(table.ns[in_phase].sum()) == round(phase.wall_s * 1e9)
        for name, spent in phase.classes.items():
            of_class = np.array([table.frames(row)[-1] == name for row in range(len(table))])
            assert int(table.ns[in_phase & of_class].sum()) == round(spent * 1e9)
