"""Options of `cvtrace report` that ask for more than the trace tells by itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def questions(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options, and what was asked as `asked`."""

    @click.option(
        "--access-log",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Compare with the log of the server or proxy (common, combined, Squid, JSON of the lab).",
    )
    @click.option(
        "--log-client",
        multiple=True,
        metavar="ADDRESS",
        help="This client's address in that log. [default: as told by the fetches that are in both]",
    )
    @functools.wraps(command)
    def asking(*args: Any, access_log: Path | None, log_client: tuple[str, ...], **others: Any) -> None:
        from cvtrace.analysis.asked import Asked

        command(*args, asked=Asked(access_log, log_client), **others)

    return asking
