"""Rows of the report on what proves the answer: counts that are compared, and the log of a server. Part of the contract: see report_schema."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """A number in the trace, compared with the client's own counter."""

    name: str
    traced: int | None
    client: int
    agree: bool | None


@dataclass(frozen=True)
class Numbering:
    """The numbers the kernel gave the FUSE requests of a mount while it was recorded.

    `missing` of them, between the first and the last, are not in the trace; None where this kernel does not number them
    one after the other. `unanswered` were sent, and the client was not seen to take them.
    """

    path: str
    first: int
    last: int
    requests: int
    missing: int | None
    unanswered: int


@dataclass(frozen=True)
class AccessCheck:
    """Traced fetches against the log of a server or proxy, within the time of the recording.

    `lines` of the file: `unreadable` ones are of no known format, `elsewhere` ones of other repositories. `only_in_log`
    are by this client, or by an unknown one where `unknown_client`; `of_others` are not. `at_edges` may have been made
    before or after the recording. `in_decode` may have been made while a token was generated. `bytes_differ` counts the
    `matched` ones that the log tells another size of. `without_path` counts the `fetches` that are not compared: external data is
    fetched by names, which a trace leaves out. `clock_ahead_s` is what the log's clock was ahead of the trace's.
    """

    file: str
    format: str
    of_proxy: bool
    lines: int
    unreadable: int
    elsewhere: int
    fetches: int
    matched: int
    traced_bytes: int
    log_bytes: int
    bytes_differ: int
    only_in_trace: int
    only_in_log: int
    unknown_client: bool
    of_others: int
    at_edges: int
    in_decode: int
    clock_ahead_s: float
    examples: tuple[str, ...]
    """Paths that are only in the log."""
    behind_proxy: bool
    """All fetches went to a proxy, and the log is of a server behind it: it has what the proxy did not have."""
    agree: bool | None
    """None where there was nothing to compare."""
    without_path: int = 0
