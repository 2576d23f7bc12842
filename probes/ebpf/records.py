"""What the programs and the recorder share: constants, and structs of the programs' maps and rings.

They are written here alone; `declarations` makes the C of it that goes before the programs.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from cvtrace.probes import wire
from cvtrace.probes.ebpf import client
from cvtrace.probes.events import AT_FDCWD, DIRECT, EVENT, NOT_KNOWN, TEXT, TEXT_MAX, Kind, Opcode
from cvtrace.probes.layouts import c_struct
from cvtrace.probes.names import FOR_TARGET
from cvtrace.probes.phases.functions import BATCH, BEAMS, INDEX
from cvtrace.probes.phases.runtimes.declaration import MANY

ROLE_TARGET: Final = 1
ROLE_DAEMON: Final = 2
"""Who is observed, as bits: `processes` has one for each process, `watch` has all that a call is watched for."""

LOST_TEXT: Final = 128
"""Slots of `lost`: of an event its kind, of a text this and its kind."""
LOST_CALLS: Final = 127
"""Calls whose begin found no room: what they would have become is not known."""

CALLS: Final = 0
OFF_CPU: Final = 1
LATECOMERS: Final = 2
"""Slots of `displacements`: calls and absences that found their slot taken, and processes whose role became known while they ran."""

CALL: Final = np.dtype(
    [
        ("tid", "<u4"),
        ("tgid", "<u4"),
        ("nr", "<u4"),
        ("role", "<u4"),
        ("ts", "<u8"),  # 0: the thread is in none
    ]
)
ABSENCE: Final = np.dtype(
    [
        ("tid", "<u4"),
        ("waker", "<u4"),
        ("ts", "<u8"),  # 0: it is there
        ("wake_ts", "<u8"),
        ("tgid", "<u4"),
        ("state", "<u4"),
    ]
)
SERVING_KEY: Final = np.dtype([("unique", "<u8"), ("tgid", "<u8")])
SERVING: Final = np.dtype(
    [
        ("key", SERVING_KEY),
        ("ts", "<u8"),  # 0: none
        ("nodeid", "<u8"),
        ("opcode_pid", "<u8"),
        ("tid", "<u4"),
        ("pad", "<u4"),
    ]
)
REQUEST_KEY: Final = np.dtype([("id", "<u8"), ("connection", "<u8")])
"""A request is known by its unique number or, where that is given to it later, by its address."""
REQUEST: Final = np.dtype(
    [
        ("key", REQUEST_KEY),
        ("ts", "<u8"),  # 0: none
        ("unique", "<u8"),  # 0: not known yet
        ("tgid", "<u4"),
        ("tid", "<u4"),
        ("opcode", "<u4"),
        ("len", "<u4"),
    ]
)

STRUCTS: Final[dict[str, np.dtype[Any]]] = {
    "event": EVENT,
    "text": TEXT,
    "call": CALL,
    "absence": ABSENCE,
    "serving_key": SERVING_KEY,
    "serving": SERVING,
    "request_key": REQUEST_KEY,
    "request": REQUEST,
    "fuse_head": wire.FUSE_HEAD,
    "fuse_in": wire.FUSE_IN,
    "fuse_read_in": wire.FUSE_READ_IN,
    "fuse_out": wire.FUSE_OUT,
}
"""Name in the programs -> layout."""

PHASE_FUNCTIONS: Final = {
    "CREATE_GENERATOR": "OgaCreateGenerator",
    "APPEND_SEQUENCES": "OgaGenerator_AppendTokenSequences",
    "GET_NEXT_TOKENS": "OgaGenerator_GetNextTokens",
    "SET_SEARCH_NUMBER": "OgaGeneratorParamsSetSearchNumber",
    "EVENT_REQUEST": "OgaEngineEventGetRequest",
    "EVENT_FLAGS": "OgaEngineEventGetFlags",
    "OWN_LOAD": "own.load",
    "OWN_DECODE": "own.decode",
    "OWN_TEARDOWN": "own.teardown",
    "LLAMA_DECODE": "llama_decode",
    "LLAMA_PROMPT": "llama_decode.prompt",
    "LLAMA_ENCODE": "llama_encode",
    "LLAMA_PROCESS": "llama_process",
    "LLAMA_CLEAR": "llama_batch_ext_clear",
    "LLAMA_ADD": "llama_batch_ext_add",
    "LLAMA_ADD_TOKEN": "llama_batch_ext_add_token",
    "LLAMA_ADD_EMBD": "llama_batch_ext_add_embd",
    "LLAMA_OUTPUT": "llama_batch_ext_set_output_logits",
}
"""Functions of which phases.bpf.c reads more than that they were called (Function.detail)."""

CLIENT_FUNCTIONS: Final = {
    "FETCH": "Fetcher::Fetch",
    "DOWNLOAD": "DownloadManager::Fetch",
    "CLEANUP": "PosixQuotaManager::DoCleanup",
    "BACKOFF": "DownloadManager::Backoff",
}

CONSTANTS: Final[dict[str, int]] = {
    "ROLE_TARGET": ROLE_TARGET,
    "ROLE_DAEMON": ROLE_DAEMON,
    "LOST_TEXT": LOST_TEXT,
    "LOST_CALLS": LOST_CALLS,
    "CALLS": CALLS,
    "OFF_CPU": OFF_CPU,
    "LATECOMERS": LATECOMERS,
    "TEXT_MAX": TEXT_MAX,
    "FOR_TARGET": FOR_TARGET,
    "DIRECT": DIRECT,
    "NOT_KNOWN": NOT_KNOWN,
    "AT_FDCWD": AT_FDCWD,
    "AF_INET": wire.AF_INET,
    "AF_INET6": wire.AF_INET6,
    "LRU_COMMAND_BYTES": wire.LRU_COMMAND_BYTES,
    "LRU_INSERT": wire.LRU_INSERT,
    "LRU_INSERT_VOLATILE": wire.LRU_INSERT_VOLATILE,
    "LRU_SIZE_MASK": wire.LRU_SIZE_MASK,
    "TLS_DATA": wire.TLS_DATA,
    "TLS_REQUEST_MIN": wire.TLS_REQUEST_MIN,
    "SEARCH_BATCH": BATCH,
    "SEARCH_BEAMS": BEAMS,
    "MANY": MANY,
    **{f"KIND_{kind.name}": int(kind) for kind in Kind},
    **{f"OP_{opcode.name}": int(opcode) for opcode in Opcode},
    **{f"FUNCTION_{name}": INDEX[symbol] for name, symbol in PHASE_FUNCTIONS.items()},
    **{f"CLIENT_{name}": client.FUNCTIONS.index(function) for name, function in CLIENT_FUNCTIONS.items()},
}
"""Name in the programs -> value."""


def declarations() -> str:
    """Return the constants and structs as the programs need them."""
    defines = [f"#define {name} {value}{'ULL' if value >= 1 << 31 else ''}" for name, value in CONSTANTS.items()]
    return "\n".join([*defines, *(c_struct(name, record, STRUCTS) for name, record in STRUCTS.items())])
