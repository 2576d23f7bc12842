"""What a runtime declares so that its calls mark phases; docs/probes.md is made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

PHASES: Final = ("load", "tokenizer", "prefill", "decode", "run", "teardown")
"""Phases that a call may mark. Others: `user` is a phase that a script names, and a `note` takes no time, but describes other calls."""


Returns = Literal["status", "pointer", "nothing"]
"""Of a function: 0 for success, a pointer that is NULL for a failure, or nothing that says whether it failed."""

MANY: Final = 2**32 - 1
"""Number of tokens of a call that made some, and it is not known how many."""


@dataclass(frozen=True)
class Function:
    """A function and the phase its call belongs to; those of phase `note` take no time, but describe others.

    `index` is what traces store: it is never given to another function. `detail` is what the field `c` of its event says, where the
    probe can read it. `returns` says how a failure is recognised. With `counts`, `c` is how many tokens the call made (MANY: not known).
    """

    index: int
    symbol: str
    phase: str
    detail: str = ""
    returns: Returns = "status"
    slot: int = -1
    """Its place in the table of pointers of onnxruntime's C API (../pointer_table.py), where that is how it is called."""
    counts: bool = False


@dataclass(frozen=True)
class Method:
    """A method of a Python class (or a function of a module, where `owner` is empty) that the hook wraps, and what its call marks.

    `destroyed` is what the end of the object marks, "" if nothing. `how` names the wrapper in the hook if the plain one is not enough.
    """

    owner: str
    name: str
    function: str
    destroyed: str = ""
    how: str = ""


@dataclass(frozen=True)
class Runtime:
    """A runtime: where its functions are, which phase each marks, and how it is tested. Sentences are for docs/probes.md."""

    name: str
    functions: tuple[Function, ...]
    library: str = ""
    """Regular expression that matches the names of its libraries; "" if no symbols are probed."""
    packages: tuple[str, ...] = ()
    """Where its libraries are below site-packages, as patterns."""
    tails: tuple[bytes, ...] = ()
    """How names of its libraries may end, 8 bytes each: when such a file is opened, it is looked for at once."""
    program: str = ""
    """Regular expression that matches the names of programs that contain it."""
    methods: tuple[tuple[str, tuple[Method, ...]], ...] = ()
    """Of each Python module: what the hook wraps when that module is imported."""
    module_file: str = ""
    """Regular expression that matches the name of a file that the interpreter opens when it loads the module."""
    tokens: str = ""
    """How tokens are counted."""
    symbols: str = "–"
    """Where uprobes see its calls."""
    hook: str = "–"
    """Where the hook in Python sees its calls."""
    model: bytes = b""
    """How the name of a file ends that every load reads first."""
    tested: str = ""
    """How this was tested."""
