"""Colours of the classes, the same in every picture, in the legend and in the tables.

The four groups differ in hue and lightness as in the palette of Okabe and Ito, which people with any colour blindness can tell
apart: network orange, cache blue, compute green, other pink and grey. Within a group the lightness differs. No colour carries
meaning alone: every mark names its class when pointed at, and every picture has its table.
"""

from typing import Final

from bokeh.palettes import Sunset11

from cvtrace.analysis.contract.classes import Class

COLOURS: Final[dict[Class, str]] = {
    Class.NETWORK_CONNECT: "#8c3b00",
    Class.NETWORK_REQUEST: "#d55e00",
    Class.NETWORK_TRANSFER: "#f0a830",
    Class.NETWORK_QUEUE: "#b58b4c",
    Class.NETWORK_SHARED: "#f7cf8f",
    Class.CACHE_FILL: "#0a5a96",
    Class.CACHE_READ: "#3d8fd1",
    Class.CACHE_LOOKUP: "#56b4e9",
    Class.CACHE_TRANSPORT: "#7f8fd9",
    Class.CACHE_PAGE: "#a9d3f2",
    Class.COMPUTE_CPU: "#009e73",
    Class.COMPUTE_WAIT: "#7cc9a9",
    Class.OTHER_IO: "#cc79a7",
    Class.OTHER_IDLE: "#a8a8ac",
    Class.OTHER_FUSE: "#7d6b4f",
    Class.UNATTRIBUTED: "#f0e442",
}
PHASES: Final = ("#bbcc33", "#77aadd", "#ee8866", "#eedd88", "#99ddff", "#ffaabb", "#44bb99", "#aaaa00", "#dddddd")
"""Paul Tol's light scheme: phases are named in the picture, too."""

CHANGES: Final = Sunset11
"""Paul Tol's diverging scheme: much less, the same, much more."""
SIDES: Final = ("#8a8f98", "#9a4ed1")
"""Of two runs, A and B: apart in lightness too, and on light and dark ground."""

CLASSES: Final = len(Class)
PAINTS: Final = (*(COLOURS[member] for member in Class), *PHASES, *CHANGES, *SIDES)
"""What a column `paint` of a picture numbers: the classes, then the colours of phases, of changes, of two runs."""
FIRST_CHANGE: Final = CLASSES + len(PHASES)
FIRST_SIDE: Final = FIRST_CHANGE + len(CHANGES)


def of_phase(row: int) -> int:
    """Return the paint of a phase."""
    return CLASSES + row % len(PHASES)
