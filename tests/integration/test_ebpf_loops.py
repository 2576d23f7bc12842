"""Programs for kernels that this one is not: what the verifier of 5.10 refuses in the bytes, whatever compiler made them."""

from __future__ import annotations

import numpy as np
import pytest

from cvtrace.probes.ebpf import bcc, kprobes, loader
from cvtrace.probes.ebpf.probe import EbpfProbe
from cvtrace.probes.probe import CannotObserve

pytestmark = pytest.mark.root

INSTRUCTION = np.dtype([("code", "u1"), ("registers", "u1"), ("offset", "<i2"), ("immediate", "<i4")])
JUMPS, CALL, EXIT, ALWAYS, TWO_WORDS = (5, 6), 0x80, 0x90, 0x00, 0x18


def next_instructions(codes: list[int], offsets: list[int], place: int) -> list[tuple[int, bool]]:
    """Return where a program goes on from an instruction, and whether it may have been there (check_cfg in kernel/bpf/verifier.c of 5.10)."""
    code = codes[place]
    operation = code & 0xF0 if code & 7 in JUMPS else CALL
    if operation == EXIT:
        return []
    if operation == CALL:
        return [(place + (2 if code == TWO_WORDS else 1), False)]
    target = (place + offsets[place] + 1, True)
    return [target] if operation == ALWAYS else [(place + 1, True), target]


def loops_entered_in_the_middle(program: bytes) -> list[tuple[int, int]]:
    """Return the steps back that are no jumps."""
    instructions = np.frombuffer(program, INSTRUCTION)
    codes, offsets = instructions["code"].tolist(), instructions["offset"].tolist()
    refused, done, path = [], set[int](), [(0, iter(next_instructions(codes, offsets, 0)))]
    on_path = {0}
    while path:
        place, steps = path[-1]
        for target, may_be_back in steps:
            if target in on_path and not may_be_back:
                refused.append((place, target))
            elif target not in on_path and target not in done:
                on_path.add(target)
                path.append((target, iter(next_instructions(codes, offsets, target))))
                break
        else:
            path.pop()
            on_path.remove(place)
            done.add(place)
    return refused


def test_no_loop_is_entered_in_its_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN the programs as they are for a kernel that has one for each function
    with monkeypatch.context() as patch:
        patch.setattr(kprobes, "release", lambda: (5, 10))
        text = loader.source(EbpfProbe()._rings, EbpfProbe().slots).text
    assert "phase_enter_63" in text

    # WHEN they are compiled
    try:
        programs = bcc.compile_program(text)
    except CannotObserve as reason:
        pytest.skip(str(reason))
    try:
        library = bcc.load().lib
        names = [
            library.bpf_function_name(programs.module, number)
            for number in range(library.bpf_num_functions(programs.module))
        ]
        refused = {name: loops_entered_in_the_middle(programs.dump_func(name)) for name in names}
    finally:
        programs.cleanup()

    # THEN each goes back by jumps alone
    assert len(names) > 200
    assert {name: steps for name, steps in refused.items() if steps} == {}
