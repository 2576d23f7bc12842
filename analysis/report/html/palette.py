"""Colours: each means one thing, the same in every picture, in the legend and in the tables.

Classes of time: the four groups differ in hue and lightness as in the palette of Okabe and Ito, which people with any colour blindness can
tell apart: network orange, cache blue, compute green, other pink and grey. Within a group the lightness differs.
Requests: raspberry if something had to be fetched for them, lavender if the client's cache had it, violet grey for names and attributes.
Phases, tokens and files: shades of grey, because their names are written. Two runs: olive (A) and purple (B), and what changed between
them is shaded from one to the other. States of the caches in a bench: from indigo (cold) over violet to pink (hot), and slate for the local copy. No colour carries meaning alone: every mark says its meaning when pointed at, and every picture has
its table.
"""

from typing import Final

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
    Class.CACHE_TRANSPORT: "#7fa3c4",
    Class.CACHE_PAGE: "#a9d3f2",
    Class.COMPUTE_CPU: "#009e73",
    Class.COMPUTE_WAIT: "#7cc9a9",
    Class.OTHER_IO: "#e0a3b8",
    Class.OTHER_IDLE: "#a8a8ac",
    Class.OTHER_FUSE: "#7d6b4f",
    Class.UNATTRIBUTED: "#f0e442",
}
PHASES: Final = ("#c6cbd3", "#a9b1bd")
"""Neighbouring phases, tokens and files differ in lightness; their names are written."""

FETCHED, CACHED, NAMES = range(3)
ANSWERS: Final = (
    ("#b3246b", "from the network: something had to be fetched"),
    ("#b19cd9", "from the client's cache"),
    ("#8f8799", "names and attributes"),
)
"""Where the answer to a FUSE request came from."""

SIDES: Final = ("#938c00", "#9a4ed1")
"""Of two runs, A and B: apart in lightness too, and on light and dark ground."""
CHANGES: Final = (
    "#5c5800", "#817b00", "#a49e2e", "#c3be6c", "#dcd9a8", "#e9e8e6", "#e0cbf0", "#cba6e6", "#b47fdc", "#9a4ed1", "#6f22a8",
)  # fmt: skip
"""From what A took more of, over the same, to what B took more of."""

STATES: Final = {
    "cold": "#4c5fd7",
    "warm-disk": "#8a63d2",
    "warm-memory": "#b95cc4",
    "hot": "#e0559a",
    "local": "#7c8796",
}
"""Of the states of a bench, in the order of temperature."""

CLASSES: Final = len(Class)
PAINTS: Final = (
    *(COLOURS[member] for member in Class),
    *PHASES,
    *(colour for colour, _ in ANSWERS),
    *CHANGES,
    *SIDES,
    *STATES.values(),
)
"""What a column `paint` of a picture numbers: classes, then colours of phases, of answers, of changes, of two runs, of states."""
FIRST_ANSWER: Final = CLASSES + len(PHASES)
FIRST_CHANGE: Final = FIRST_ANSWER + len(ANSWERS)
FIRST_SIDE: Final = FIRST_CHANGE + len(CHANGES)
FIRST_STATE: Final = FIRST_SIDE + len(SIDES)


def of_phase(row: int) -> int:
    """Return the paint of a phase."""
    return CLASSES + row % len(PHASES)


def of_state(state: str) -> int:
    """Return the paint of a state of a bench."""
    return FIRST_STATE + list(STATES).index(state)
