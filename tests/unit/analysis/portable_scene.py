"""A run that was recorded without privileges: phases, and what the client counted."""

from typing import Any

from scene import Scene

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Report

GREW = {
    "cvmfs.n_fs_read": 407,
    "cvmfs.n_fs_open": 5,
    "download.n_requests": 16,
    "download.sz_transferred_bytes": 95_505_093,
}


def scene() -> Scene:
    """Return phases as an import hook marks them, and nothing else."""
    scene = Scene(end=1000)
    scene.call("OgaCreateModel", 100, 400)
    for number in range(3):
        scene.call("OgaGenerator_GenerateNextToken", 500 + 20 * number, 515 + 20 * number)
    return scene


def meta(**changes: Any) -> dict[str, Any]:
    mount = {
        **Scene().mount(scene().arrays()[0]),
        "counters_before": dict.fromkeys(GREW, 7),
        "counters_after": {name: 7 + count for name, count in GREW.items()},
    }
    return {
        "probe": "portable",
        "missing": ["single reads are not seen: nobody knows"],
        "mounts": [{**mount, **changes}],
    }


def portable(**changes: Any) -> Report:
    return analyse(scene().trace(**meta(**changes)))
