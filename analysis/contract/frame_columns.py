"""The columns of the tables that only the Python API has. columns.py has those of the exports, and explains the notation."""

from typing import Final

from cvtrace.analysis.contract.columns import REQUESTS, TABLES, Column

VERDICT_COUNTS: Final = (
    "blocked_s",
    "fuse_requests",
    "fuse_reads",
    "fuse_read_bytes",
    "http_fetches",
    "http_bytes",
)
VERDICT_PARTS: Final = ("first_token", "further_tokens", "inside_calls", "between_calls")
"""Fields of a verdict that have their own answer."""

VERDICT: Final = {
    "part": Column(
        "text",
        "question of the verdict (generation, inference or program), or a part of it: first_token, further_tokens, inside_calls"
        " or between_calls",
    ),
    "answer": Column("text", "whether it needed CVMFS: yes, no or inconclusive"),
    "tokens": Column("n", "tokens made in all sequences of a batch; empty for parts"),
    "wall_s": Column("s", "wall time of the thread that generates; only for parts"),
    "blocked_s": Column("s", "time of it that was blocked on CVMFS"),
    "fuse_requests": Column("n", "FUSE requests that it needed"),
    "fuse_reads": Column("n", "READ requests among these"),
    "fuse_read_bytes": Column("bytes", "bytes that READs returned"),
    "http_fetches": Column("n", "GETs that these requests caused"),
    "http_bytes": Column("bytes", "bodies of these GETs, as transferred (compressed)"),
    "causes": Column("text", "number of requests for each cause, as JSON"),
}

READS: Final = {
    "request": Column("index", "row of the request in requests, from 0"),
    **{name: column for name, column in REQUESTS.items() if name not in ("opcode", "by_target")},
}

WAITS: Final = {
    "start_s": Column("s", "begin, since the start of the target"),
    "wall_s": Column("s", "time on the critical path"),
    "class": Column("text", "class of time: see docs/classes.md"),
    "phase": Column("text", "name of the phase"),
    "thread": Column("index", "thread that carries the phase"),
    "path": Column("text", "file of the request that was waited for"),
    "tensor": Column("text", "tensor that most of the request's bytes belong to"),
    "token": Column("index", "token for which the request was sent"),
    "request": Column("index", "row of the request in requests, from 0; empty if the wait was not for a request"),
}

FRAMES: Final = {**TABLES, "verdict": VERDICT, "reads": READS, "waits": WAITS}
"""Table -> its columns, in their order: all that the Python API has."""

PER_EVENT: Final = ("requests", "reads", "stacks", "waits")
"""Tables that may have a row for each event: their texts are stored as pandas categories."""
