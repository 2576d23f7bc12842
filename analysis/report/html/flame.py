"""The flame graph: phase, then file or tensor, then class; all of the time, or only that of waiting or computing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from bokeh.models import Range1d

from cvtrace.analysis.contract.classes import LABELS, WAITING
from cvtrace.analysis.contract.quantities import pluralize, seconds
from cvtrace.analysis.report.html import flame_lines
from cvtrace.analysis.report.html.palette import CLASSES, of_phase
from cvtrace.analysis.report.html.pictures import Figure, Picture, blank, pointed_at, rectangles, room_for_labels
from cvtrace.analysis.report.html.scene import SHOWN_NAME, Marks, Scene
from cvtrace.analysis.report.names import shortened
from cvtrace.analysis.trace.intervals import Bools, Ints

FOLDERS: Final = 60
"""Folders that small files are drawn by."""
FRAMES: Final = 400
"""Files and tensors that are drawn one by one, those of the longest time."""
MODES: Final = ("all", "waiting", "computing")
LEVELS: Final = 4
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Frames:
    """Time by phase, part and class; `part` numbers files, tensors, and folders of files that took little time; -1 is time that belongs to
    none. `file` is the file of the part, -1 if it is not one."""

    phase: Ints
    part: Ints
    file: Ints
    value: Ints
    ns: Ints


@dataclass(frozen=True)
class Level:
    """The frames of one depth, left to right: the row with which each begins, its place (0 to 1), and its time."""

    first: Ints
    left: Floats
    right: Floats
    ns: Ints


def picture(scene: Scene) -> Picture:
    """Return the flame graph, the root on top; one source of rectangles for each mode, the first is shown."""
    by_line = flame_lines.modes(scene)
    levels_shown = max(LEVELS, flame_lines.depth(scene)) if by_line else LEVELS
    plot = drawn({mode: _marks(scene, *_frames(scene, mode)) for mode in MODES} | by_line, levels_shown)
    return Picture(
        key="flame",
        title="Flame graph",
        about="Where the time of the critical path went: phase, then the file or tensor waited for, then the class. Widths are time. Choose a frame "
        "to zoom into it." + (" By line: phase, then the stack of the thread, then file and class." if by_line else ""),
        model=plot,
        table="stacks",
        label="Flame graph of phases, files and classes",
    )


def drawn(modes: dict[str, Marks], levels_shown: int = LEVELS) -> Figure:
    """Return the figure of a flame graph whose mode can be chosen in the page; the first is shown."""
    plot = blank("flame", 60 + 34 * levels_shown, Range1d(0, 1, bounds=(0, 1)), Range1d(levels_shown, 0), "")
    first = next(iter(modes))
    renderers = [
        rectangles(plot, f"flame-{mode}", marks, visible=mode == first, separated=True) for mode, marks in modes.items()
    ]
    pointed_at(plot, renderers)
    room_for_labels(plot, "flame-labels")
    plot.xaxis.visible = False
    plot.yaxis.visible = False
    plot.grid.visible = False
    plot.min_border_left = 10
    return plot


def _frames(scene: Scene, mode: str) -> tuple[Frames, tuple[str, ...]]:
    """Return the frames of a mode, and the names of their parts."""
    pieces = scene.stacks
    waiting = np.isin(pieces.value, WAITING)
    chosen: Bools = {
        "all": pieces.ns > 0,
        "waiting": waiting & (pieces.ns > 0),
        "computing": ~waiting & (pieces.ns > 0),
    }[mode]
    phase, file, value, ns = (column[chosen] for column in (pieces.phase, pieces.file, pieces.value, pieces.ns))
    part = np.where(pieces.tensor >= 0, len(pieces.files) + pieces.tensor, pieces.file)[chosen]
    full = (*scene.file_names, *scene.stacks.tensors)
    part, names = with_folders(phase, part, ns, full, scene.parts)
    return Frames(phase, part, np.where(part < len(full), file, -1), value, ns), names


def with_folders(
    phase: Ints, part: Ints, ns: Ints, full: Sequence[str], shown: Sequence[str]
) -> tuple[Ints, tuple[str, ...]]:
    """Return the parts, those of little time numbered by their folder, and the names of all: as `shown`, then of the folders.

    `full` are the names that `shown` may have shortened.
    """
    small = without_small(phase, part, ns) == -2
    if not small.any():
        return part, tuple(shown)
    parts, where = np.unique(part[small], return_inverse=True)
    labels, number = np.unique(_folders([full[each] for each in parts.tolist()]), return_inverse=True)
    grouped = part.copy()
    grouped[small] = len(shown) + number.ravel()[where.ravel()]
    return grouped, (*shown, *(shortened(label, SHOWN_NAME) for label in labels.tolist()))


def _folders(names: Sequence[str]) -> list[str]:
    """Return the folder of each file, with how many of the files lie in it; of deep trees the upper folders, so that they are few."""
    paths = [name.split("/")[:-1] for name in names]
    for depth in range(max(map(len, paths)), 0, -1):
        folders = ["/".join(path[:depth]) for path in paths]
        if len(set(folders)) <= FOLDERS:
            break
    else:
        folders = [""] * len(paths)
    count = Counter(folders)
    return [f"{folder}/: {pluralize(count[folder], 'file')} of little time" for folder in folders]


def without_small(phase: Ints, part: Ints, ns: Ints) -> Ints:
    """Return the parts, with -2 for those of little time, where there are more than FRAMES in the phases together."""
    key = phase * (int(part.max(initial=0)) + 2) + part + 1
    pairs, where = np.unique(key, return_inverse=True)
    if len(pairs) <= FRAMES:
        return part
    small = np.ones(len(pairs), dtype=bool)
    small[np.argsort(-np.bincount(where.ravel(), weights=ns), kind="stable")[:FRAMES]] = False
    return np.where(small[where.ravel()] & (part >= 0), -2, part)


def _marks(scene: Scene, frames: Frames, parts: tuple[str, ...]) -> Marks:
    marks = Marks()
    total = int(frames.ns.sum())
    if not total:
        return marks
    order = in_order(frames.phase, frames.part, frames.value, frames.ns)
    frames = Frames(*(column[order] for column in vars(frames).values()))
    names = (scene.phases, parts)
    marks.add(
        ["all"], [f"{seconds(total / 1e9)}"], left=0.0, right=1.0, bottom=1.0, top=0.0, paint=CLASSES, caption=["all"]
    )
    for depth, level in enumerate(levels((frames.phase, frames.part, frames.value), frames.ns), start=1):
        phase, value = frames.phase[level.first], frames.value[level.first]
        frame_names = named(depth, *names, phase, frames.part[level.first], value)
        marks.add(
            frame_names,
            [
                f"{seconds(each / 1e9)}, {100 * each / total:.1f} %, in {scene.phases[row]}"
                for each, row in zip(level.ns.tolist(), phase.tolist(), strict=True)
            ],
            left=level.left,
            right=level.right,
            bottom=depth + 1.0,
            top=float(depth),
            paint=value if depth == LEVELS - 1 else [of_phase(each) for each in phase.tolist()],
            phase=phase,
            file=frames.file[level.first] if depth > 1 else -1,
            caption=frame_names,
        )
    return marks


def in_order(phase: Ints, part: Ints, value: Ints, ns: Ints) -> Ints:
    """Return the rows by phase, then by the time of the part there, then by class."""
    key = phase * (int(part.max(initial=0)) + 3) + part + 2
    pairs, where = np.unique(key, return_inverse=True)
    of_pair = np.bincount(where.ravel(), weights=ns, minlength=len(pairs))[where.ravel()]
    order: Ints = np.lexsort((value, part, -of_pair, phase))
    return order


def levels(keys: Sequence[Ints], ns: Ints) -> list[Level]:
    """Lay rows out that are in order: a level for each key, in which neighbours that agree so far are one frame."""
    right = np.cumsum(ns) / int(ns.sum())
    left = np.append(0.0, right[:-1])
    changed = np.zeros(len(ns), dtype=bool)
    changed[0] = True
    made = []
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
        first = np.flatnonzero(changed)
        last = np.append(first[1:], len(ns)) - 1
        made.append(Level(first, left[first], right[last], np.add.reduceat(ns, first)))
    return made


def named(depth: int, phases: Sequence[str], parts: Sequence[str], phase: Ints, part: Ints, value: Ints) -> list[str]:
    """Return what the frames of a depth (1: phases, 2: files and tensors, 3: classes) are called."""
    if depth == 1:
        return [phases[each] for each in phase.tolist()]
    if depth == 2:
        return [parts[each] if each >= 0 else "no file" for each in part.tolist()]
    return [LABELS[each] for each in value.tolist()]
