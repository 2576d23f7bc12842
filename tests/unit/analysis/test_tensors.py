"""Reads, faults, waits, fetched bytes and evictions by tensor: they add up to those of the file."""

import dataclasses
from collections.abc import Sequence

import pytest
from scene import MODEL, MOUNT, TARGET, WORKER, Fetch, Scene

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.contract.storage_schema import Tensor
from cvtrace.analysis.report import text
from cvtrace.analysis.storage.headers import HeaderTensor
from cvtrace.probes.events import Kind, Opcode

MIB = 1 << 20
READ = 131072
GRAPH = MODEL.removesuffix(".data")


def header(name: str, offset: int, size: int, path: str = MODEL) -> HeaderTensor:
    return HeaderTensor(name, "float32", (size // 4,), path, offset, size)


LAID_OUT = [
    header("model.embed_tokens.weight", 0, MIB),
    header("model.layers.0.norm.weight", MIB, 4096),
    header("model.layers.0.attn.weight", MIB + 4096, MIB),
    header("model.layers.1.attn.weight", 3 * MIB, MIB),
]


def lookup(paths: Sequence[str]) -> tuple[list[HeaderTensor], list[str]]:
    return LAID_OUT, []


def loaded() -> Scene:
    """Return a scene whose model file is open, in a load from 90 µs on."""
    scene = Scene(end=2000)
    scene.call("OgaCreateModel", 5, 700)
    scene.opened(10, 30, 5)
    scene.request(Opcode.OPEN, 15, 20, 25, sent=12)
    return scene


def read(scene: Scene, at: float, offset: int, size: int = READ) -> None:
    """Let the target wait 50 µs for a READ."""
    scene.off(at, at + 50, at + 50, by=WORKER, state=2)
    scene.request(Opcode.READ, at + 5, at + 48, at + 51, sent=at, offset=offset, size=size)


def reported(scene: Scene) -> Report:
    return analyse(scene.trace(), lookup)


def by_name(report: Report) -> dict[str, Tensor]:
    return {row.name: row for row in report.tensors}


def test_a_read_counts_for_the_tensor_most_of_it_is_of_and_its_bytes_for_each() -> None:
    # GIVEN a READ over the end of one tensor, a small one, and the begin of a third
    scene = loaded()
    read(scene, 100, MIB - 8192)

    tensors = by_name(reported(scene))

    rows = [tensors[tensor.name] for tensor in LAID_OUT]
    assert [row.reads for row in rows] == [0, 0, 1, 0]
    assert [row.read_bytes for row in rows] == [8192, 4096, READ - 12288, 0]
    assert [row.blocked_s for row in rows] == pytest.approx([0, 0, 50e-6, 0])
    assert [row.layer for row in rows] == [None, 0, 0, 1]
    assert (rows[0].dtype, rows[0].shape, rows[0].path, rows[0].offset_bytes) == ("float32", (MIB // 4,), MODEL, 0)


def test_bytes_between_tensors_are_reported_without_a_name() -> None:
    scene = loaded()
    read(scene, 100, 2 * MIB + 4096 + READ)
    read(scene, 200, 3 * MIB - 4096)

    tensors = by_name(reported(scene))

    assert (tensors[""].reads, tensors[""].read_bytes) == (1, READ + 4096)
    assert tensors["model.layers.1.attn.weight"].reads == 1


def test_tensors_add_up_to_the_file() -> None:
    scene = loaded()
    for number in range(12):
        at = 100 + 100 * number
        read(scene, at, number * 300_000 // 4096 * 4096)
        if number % 3 == 0:
            scene.fetch(Fetch(at + 15, at + 17, at + 20, at + 30, at + 40, number=number, size=1_000_003))
            scene.cache_read(at + 42, at + 46, 66, READ, offset=5000)

    report = reported(scene)

    (file,) = (row for row in report.files if row.path == MODEL)
    assert sum(row.reads for row in report.tensors) == file.reads == 12
    assert sum(row.read_bytes for row in report.tensors) == file.read_bytes
    assert sum(row.fetched_bytes for row in report.tensors) == file.fetched_bytes == 4 * 1_000_003
    assert sum(row.blocked_s for row in report.tensors) == pytest.approx(file.blocked_s)
    assert max(row.fetched_bytes for row in report.tensors if row.name) > 500_000


def test_faults_belong_to_the_tensor_of_their_page() -> None:
    scene = loaded()
    for page in (0, 255, 256, 257, 600, 768):
        scene.page(Kind.FAULT, 50, page)
    scene.page(Kind.PAGE_MAP, 60, 0, 16).page(Kind.FAULT, 70, 3, node=99)

    tensors = by_name(reported(scene))

    assert [tensors[tensor.name].faults for tensor in LAID_OUT] == [2, 1, 1, 1]
    assert tensors[""].faults == 1


def test_generation_and_evictions_are_reported_by_tensor_and_layer() -> None:
    # GIVEN a tensor that is read in the load, and again by a token
    scene = loaded()
    read(scene, 100, 3 * MIB)
    scene.call("OgaGenerator_GenerateNextToken", 800, 1000)
    read(scene, 850, 3 * MIB)

    report = reported(scene)

    row = by_name(report)["model.layers.1.attn.weight"]
    assert (row.reads, row.generation_reads, row.evictions) == (2, 1, 1)
    assert (row.blocked_s, row.generation_blocked_s) == (pytest.approx(100e-6), pytest.approx(50e-6))
    assert [(layer.layer, layer.tensors, layer.reads, layer.generation_reads) for layer in report.layers] == [
        (0, 2, 0, 0),
        (1, 1, 2, 1),
        (None, 1, 0, 0),
    ]


def test_reads_of_other_processes_are_not_counted_by_tensor() -> None:
    scene = loaded()
    scene.request(Opcode.READ, 105, 148, 151, sent=100, asker=4711, offset=0)
    assert by_name(reported(scene))["model.embed_tokens.weight"].reads == 0


def test_without_headers_nothing_else_changes() -> None:
    scene = loaded()
    read(scene, 100, 0)

    with_tensors, without = reported(scene), analyse(scene.trace())

    assert without.tensors == without.layers == ()
    assert dataclasses.replace(with_tensors, tensors=(), layers=()) == without


def test_an_unreadable_header_is_reported_and_nothing_else_changes() -> None:
    scene = loaded()
    read(scene, 100, 0)

    report = analyse(scene.trace(), lambda paths: ([], [f"the tensors of {len(paths)} files"]))

    assert report.trace.missing == ("the tensors of 1 files",)
    assert report.files == analyse(scene.trace()).files


def test_only_files_that_the_target_used_are_looked_up() -> None:
    scene = loaded()
    scene.opened(40, 60, 6, f"{MOUNT}/other.onnx")
    scene.request(Opcode.OPEN, 45, 50, 55, sent=42, node=8)
    scene.request(Opcode.OPEN, 65, 70, 75, sent=62, node=9, asker=4711)
    looked_up: list[str] = []

    def remember(paths: Sequence[str]) -> tuple[list[HeaderTensor], list[str]]:
        looked_up.extend(paths)
        return [header("elsewhere", 0, 100, "/etc/shadow")], []

    report = analyse(scene.trace(), remember)

    assert sorted(looked_up) == sorted([MODEL, f"{MOUNT}/other.onnx"])
    assert report.tensors == ()


def test_a_redacted_trace_says_why_it_has_no_tensors() -> None:
    scene = loaded()
    report = analyse(scene.trace(redacted=True), lookup)
    assert report.tensors == ()
    assert report.trace.missing[-1].startswith("the tensors of the model (")


def test_overlapping_or_empty_tensors_are_accepted() -> None:
    scene = loaded()
    read(scene, 100, 0)
    scene.page(Kind.FAULT, 90, 1, tid=TARGET)
    odd = [header("a", 0, 2**60), header("a", 0, 2**60), header("b", 4096, 0), header("c", 2**59, 5)]

    report = analyse(scene.trace(), lambda paths: (odd, []))

    assert sum(row.read_bytes for row in report.tensors) == READ
    assert report.tensors[0].reads + report.tensors[1].reads == 1


def test_a_tensor_name_contains_no_control_characters_on_a_terminal() -> None:
    scene = loaded()
    read(scene, 100, 0)
    evil = [header("\x1b]0;owned\x07\x1b[31mw\n\u202e", 0, MIB)]

    summary = text.render(analyse(scene.trace(), lambda paths: (evil, [])), verbose=True)

    assert "owned" in summary
    assert not set(summary) & {"\x1b", "\x07", "\u202e"}
