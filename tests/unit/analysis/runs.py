"""Whole runs, made up, for tests of what is said about them; and where one is written as a trace."""

from pathlib import Path

from scene import TARGET, WORKER, Fetch, Scene

from cvtrace.probes.events import Kind, Opcode
from cvtrace.tracer.store import TraceWriter


def loading() -> Scene:
    """Return a run of which only the load is there: it opens and maps the model."""
    scene = Scene(end=900_000)
    scene.add(Kind.PROC_EXEC, 0, tid=TARGET, text="/usr/bin/python3")
    scene.call("OgaCreateModel", 100_000, 500_000)
    scene.opened(110_000, 110_100, 5)
    scene.request(Opcode.OPEN, 110_020, 110_050, 110_060, sent=110_010)
    scene.add(Kind.SYS_MMAP, 111_000, 111_002, tid=TARGET, a=5, c=1 << 20)
    return scene


def cold_run() -> Scene:
    """Return a run whose load fetches 1 MB for one read, and whose second of three tokens reads one page range."""
    scene = loading()
    scene.off(200_000, 400_000, 400_100, by=WORKER, state=2)
    scene.request(Opcode.READ, 200_100, 399_990, 400_010, sent=199_999)
    scene.fetch(Fetch(200_200, 200_300, 250_000, 380_000, 390_000, polls=((260_000, 340_000),), size=1_000_000))
    scene.call("OgaGenerator_AppendTokens", 510_000, 600_000)
    for number in range(3):
        scene.call("OgaGenerator_GenerateNextToken", 610_000 + 20_000 * number, 628_000 + 20_000 * number)
    scene.off(631_000, 633_000, 633_000, by=WORKER, state=2)
    scene.request(Opcode.READ, 631_100, 632_900, 633_100, sent=630_999, offset=1 << 20)
    return scene


def hot_run() -> Scene:
    """Return a run whose weights lie in the page cache: opens and mappings, and nothing else in 383 tokens."""
    scene = loading()
    scene.add(Kind.PAGE_MAP, 120_000, tid=TARGET, a=42, b=7, c=16 << 48)
    scene.preempted(890_000, 890_100)
    for number in range(383):
        scene.call("OgaGenerator_GenerateNextToken", 610_000 + 500 * number, 610_490 + 500 * number)
    return scene


def large_run() -> Scene:
    """Return a run with numbers as wide as they get: minutes, gigabytes, scattered tokens."""
    second = 1_000_000
    scene = Scene(end=1_200 * second)
    scene.add(Kind.PROC_EXEC, 0, tid=TARGET, text="/usr/bin/python3")
    scene.call("OgaCreateModel", second, 500 * second)
    scene.opened(2 * second, 2 * second + 100, 5)
    scene.request(Opcode.OPEN, 2 * second + 20, 2 * second + 50, 2 * second + 60, sent=2 * second + 10)
    for number in range(12):
        at = (10 + 30 * number) * second
        scene.off(at, at + 29 * second, at + 29 * second, by=WORKER, state=2)
        scene.request(
            Opcode.READ, at + 1000, at + 29 * second - 500, at + 29 * second, sent=at - 1, offset=number << 30
        )
        times = (at + 2000, at + 3000, at + 5 * second, at + 28 * second, at + 28 * second + 9)
        polls = ((at + 6 * second, at + 20 * second),)
        scene.fetch(Fetch(*times, polls=polls, size=1_900_000_000, number=number, suffix="C" if number else "P"))
    for number in range(1024):
        at = 510 * second + number * second // 2
        scene.call("OgaGenerator_GenerateNextToken", at, at + 400_000)
        if number % 50 < 2:
            scene.off(at + 1000, at + 90_000, at + 90_500, by=WORKER, state=2)
            scene.request(Opcode.READ, at + 1100, at + 89_900, at + 90_100, sent=at + 999, offset=number << 17)
    return scene


def portable_run() -> Scene:
    """Return phases as an import hook marks them, with what the client counted."""
    scene = Scene(end=900_000)
    scene.call("OgaCreateModel", 100_000, 400_000)
    for number in range(3):
        scene.call("OgaGenerator_GenerateNextToken", 500_000 + 20_000 * number, 515_000 + 20_000 * number)
    grew = (407, 5, 16, 95_505_093)
    mount = scene.mount(scene.arrays()[0])
    mount["counters_after"] = {name: 10 + by for name, by in zip(mount["counters_before"], grew, strict=True)}
    scene.meta = {"probe": "portable", "missing": ["single reads are not seen: nobody knows"], "mounts": [mount]}
    return scene


def stored(folder: Path, scene: Scene) -> Path:
    """Write a scene as a trace."""
    events, texts = scene.arrays()
    writer = TraceWriter(folder / "trace", scene.trace().meta)
    writer.write(events, texts)
    writer.finish()
    return folder / "trace"


def generation(scene: Scene | None = None, tokens: int = 3) -> Scene:
    """Return a load that opens and reads the model, then tokens of 20 µs each from 500 µs on."""
    scene = scene or Scene()
    scene.add(Kind.PROC_EXEC, 1, tid=TARGET, text="/usr/bin/python3")
    scene.call("OgaCreateModel", 100, 400)
    scene.opened(110, 130, 5)
    scene.request(Opcode.OPEN, 115, 120, 125, sent=112)
    scene.hit(116, 1)
    scene.add(Kind.SYS_MMAP, 140, 141, tid=TARGET, a=5, c=1 << 20)
    scene.off(200, 290, 300, by=WORKER, state=2)
    scene.request(Opcode.READ, 210, 280, 295, sent=199)
    scene.cache_read(220, 270)
    scene.call("OgaGenerator_AppendTokens", 420, 480)
    for number in range(tokens):
        scene.call("OgaGenerator_GenerateNextToken", 500 + 20 * number, 515 + 20 * number)
    scene.call("OgaDestroyModel", 700, 750)
    scene.add(Kind.PROC_EXIT, 900, tid=TARGET)
    return scene
