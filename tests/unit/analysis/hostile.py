"""A run in which everything that can have a name has one that tries to be something else."""

from collections.abc import Sequence

from runs import cold_run
from scene import MOUNT, Fetch, Scene

from cvtrace.probes.events import Opcode

NAMES = (
    'semi;colon "quoted" \\ back, comma | bar',
    "red \x1b[31m bell \x07 new\nline\r tab\t end 12",
    "gpj.\u202eexe \u200b\ufeff \ufffd",
    '# EOF\n# TYPE x gauge {a="b"} 1',
    "=HYPERLINK(1) </script> &amp;",
    "not utf-8: \udcff\udc80",
    "deep/" * 60 + "end",
)
"""The last but one stands for bytes that are no UTF-8, as Python decodes them in paths and arguments."""


def hostile_run(names: Sequence[str] = NAMES) -> Scene:
    """Return a run with a file, a fetch, a phase, an argument and a sentence on what is missing of each of the names."""
    scene = cold_run()
    for number, name in enumerate(names):
        at, node = 300_000 + 1000 * number, 50 + number
        text = name.encode("utf-8", "replace").decode()
        called = text.replace("\x00", "")  # neither a path nor the name of a phase can have one
        scene.named(called[:400], 700_000 + 1000 * number, 700_900 + 1000 * number)
        scene.opened(at, at + 90, 20 + number, f"{MOUNT}/{called}")
        scene.request(Opcode.OPEN, at + 20, at + 50, at + 60, sent=at + 10, node=node)
        scene.request(Opcode.READ, at + 120, at + 180, at + 200, sent=at + 110, node=node, offset=number << 20)
        parts = Fetch(at + 130, at + 135, at + 140, at + 150, at + 160, number=90 + number, descriptor=70 + number)
        parts.path = f"/{text}"
        scene.fetch(parts)
    scene.meta = {
        "target": {"argv": ["sh", "-c", *names], "pid": 100, "cwd": "/", "exit_code": 0},
        "host": " ".join(names[:2]),
        "missing": list(names),
    }
    return scene
