"""The columns of the tables that the Python API has beyond those of the exports: see columns.py for how they are written."""

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
"""Fields of a verdict that have an answer of their own."""

VERDICT: Final = {
    "part": Column(
        "text",
        "generation, inference or program: the question of the verdict; then its parts first_token and further_tokens, and"
        " inside_calls and between_calls",
    ),
    "answer": Column("text", "yes, no or inconclusive: whether it needed CVMFS"),
    "tokens": Column("n", "tokens made, of all sequences of a batch; of the whole only"),
    "wall_s": Column("s", "of the thread that generates; of the parts only"),
    "blocked_s": Column("s", "of that, blocked on CVMFS"),
    "fuse_requests": Column("n", "FUSE requests that it needed"),
    "fuse_reads": Column("n", "READ requests among them"),
    "fuse_read_bytes": Column("bytes", "brought by READs"),
    "http_fetches": Column("n", "GETs that these requests caused"),
    "http_bytes": Column("bytes", "bodies of those GETs, as sent (compressed)"),
    "causes": Column("text", "why: the number of requests for each cause, as JSON"),
}

READS: Final = {
    "request": Column("index", "row of the request in requests, from 0"),
    **{name: column for name, column in REQUESTS.items() if name not in ("opcode", "by_target")},
}

WAITS: Final = {
    "start_s": Column("s", "since the start of the target"),
    "wall_s": Column("s", "of the critical path"),
    "class": Column("text", "what it waited for: see docs/classes.md"),
    "phase": Column("text", "name of the phase"),
    "thread": Column("index", "that carries the phase"),
    "path": Column("text", "file whose request was waited for"),
    "tensor": Column("text", "that most of the bytes of the request belong to"),
    "token": Column("index", "for which the request was sent"),
    "request": Column("index", "row of the request in requests, from 0; empty where it waited for something else"),
}

FRAMES: Final = {**TABLES, "verdict": VERDICT, "reads": READS, "waits": WAITS}
"""Table -> its columns, in their order: all that the Python API has."""

PER_EVENT: Final = ("requests", "reads", "stacks", "waits")
"""Tables that may have a row for each event: their texts are numbered (categories)."""
