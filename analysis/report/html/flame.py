"""The flame graph: phase, then file or tensor, then class; all of the time, or only that of waiting or computing."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from bokeh.models import Range1d

from cvtrace.analysis.classes import LABELS
from cvtrace.analysis.intervals import Bools, Ints
from cvtrace.analysis.report.html.palette import of_phase
from cvtrace.analysis.report.html.pictures import Picture, blank, pointed_at, rectangles, room_for_labels
from cvtrace.analysis.report.html.scene import Marks, Scene
from cvtrace.analysis.report.quantities import seconds
from cvtrace.analysis.stacks import WAITING

FRAMES: Final = 400
"""Files and tensors that are drawn one by one, those of the longest time."""
MODES: Final = ("all", "waiting", "computing")
LEVELS: Final = 4


@dataclass(frozen=True)
class Frames:
    """Time by phase, part and class; `part` numbers Scene.parts (files and tensors), -1 is time that belongs to none, -2 what
    several small ones took. `file` is the file of the part, -1 likewise."""

    phase: Ints
    part: Ints
    file: Ints
    value: Ints
    ns: Ints


def picture(scene: Scene) -> Picture:
    """Return the flame graph, the root on top; one source of rectangles for each mode, the first is shown."""
    plot = blank("flame", 60 + 34 * LEVELS, Range1d(0, 1, bounds=(0, 1)), Range1d(LEVELS, 0), "")
    renderers = [
        rectangles(plot, f"flame-{mode}", _marks(scene, _frames(scene, mode)), visible=mode == MODES[0])
        for mode in MODES
    ]
    pointed_at(plot, renderers)
    room_for_labels(plot, "flame-labels")
    plot.xaxis.visible = False
    plot.yaxis.visible = False
    plot.grid.visible = False
    plot.min_border_left = 10
    return Picture(
        key="flame",
        title="Flame graph",
        about="Where the time of the critical path went: phase, then the file or tensor waited for, then the class. Widths are time. Choose a frame "
        "to zoom into it.",
        model=plot,
        table="stacks",
        label="Flame graph of phases, files and classes",
    )


def _frames(scene: Scene, mode: str) -> Frames:
    found = scene.stacks
    waiting = np.isin(found.value, WAITING)
    chosen: Bools = {"all": found.ns > 0, "waiting": waiting & (found.ns > 0), "computing": ~waiting & (found.ns > 0)}[
        mode
    ]
    phase, file, value, ns = (column[chosen] for column in (found.phase, found.file, found.value, found.ns))
    part = np.where(found.tensor >= 0, len(found.files) + found.tensor, found.file)[chosen]
    key = phase * (len(scene.parts) + 1) + part + 1
    pairs, where = np.unique(key, return_inverse=True)
    if len(pairs) > FRAMES:
        total = np.bincount(where.ravel(), weights=ns)
        small = np.ones(len(pairs), dtype=bool)
        small[np.argsort(-total, kind="stable")[:FRAMES]] = False
        part = np.where(small[where.ravel()] & (part >= 0), -2, part)
    return Frames(phase, part, np.where(part >= 0, file, -1), value, ns)


def _marks(scene: Scene, frames: Frames) -> Marks:
    """Lay the frames out: phases in their order, within them files and classes by their time."""
    marks = Marks()
    total = int(frames.ns.sum())
    if not total:
        return marks
    order = _order(frames)
    phase, part, file, value, ns = (column[order] for column in vars(frames).values())
    right = np.cumsum(ns) / total
    left = right - ns / total
    marks.add(["all"], [f"{seconds(total / 1e9)}"], left=0.0, right=1.0, bottom=1.0, top=0.0, paint=len(LABELS) + 8)
    _level(marks, scene, 1, (phase,), left, right, ns, total, file)
    _level(marks, scene, 2, (phase, part), left, right, ns, total, file)
    _level(marks, scene, 3, (phase, part, value), left, right, ns, total, file)
    return marks


def _order(frames: Frames) -> Ints:
    """Sort by phase, then by the time of the part there, then by class."""
    key = frames.phase * (int(frames.part.max(initial=0)) + 3) + frames.part + 2
    pairs, where = np.unique(key, return_inverse=True)
    of_pair = np.bincount(where.ravel(), weights=frames.ns, minlength=len(pairs))[where.ravel()]
    order: Ints = np.lexsort((frames.value, frames.part, -of_pair, frames.phase))
    return order


def _level(
    marks: Marks,
    scene: Scene,
    level: int,
    keys: tuple[Ints, ...],
    left: np.ndarray,
    right: np.ndarray,
    ns: Ints,
    total: int,
    file: Ints,
) -> None:
    changed = np.zeros(len(ns), dtype=bool)
    changed[0] = True
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    first = np.flatnonzero(changed)
    last = np.append(first[1:], len(ns)) - 1
    spent = np.add.reduceat(ns, first)
    phase = keys[0][first]
    files = file[first] if level > 1 else np.full(len(first), -1)
    if level == 1:
        names = [scene.phases[each] for each in phase.tolist()]
        paint = [of_phase(each) for each in phase.tolist()]
    elif level == 2:
        names = [_part(scene, each) for each in keys[1][first].tolist()]
        paint = [of_phase(each) for each in phase.tolist()]
    else:
        value = keys[2][first]
        names, paint = [LABELS[each] for each in value.tolist()], value.tolist()
    marks.add(
        names,
        [
            f"{seconds(each / 1e9)}, {100 * each / total:.1f} %, in {scene.phases[row]}"
            for each, row in zip(spent.tolist(), phase.tolist(), strict=True)
        ],
        left=left[first],
        right=right[last],
        bottom=level + 1.0,
        top=float(level),
        paint=paint,
        phase=phase,
        file=np.maximum(files, -1),
    )


def _part(scene: Scene, part: int) -> str:
    return scene.parts[part] if part >= 0 else "small parts" if part == -2 else "no file"
