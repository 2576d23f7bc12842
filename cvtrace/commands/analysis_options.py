"""Options of `cvtrace report` for predictions and for the comparison with an access log."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from cvtrace.commands.refusals import is_set, refuse_without

DURATION: Final = re.compile(r"(?P<number>\d{1,9}(?:\.\d{1,9})?)\s*(?P<unit>us|µs|ms|s)")
UNITS: Final = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


def seconds(_context: click.Context, _option: click.Parameter, value: str) -> float:
    """Return a time with its unit as seconds."""
    match = DURATION.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a time such as 20ms or 1.5s")
    return float(match["number"]) * UNITS[match["unit"]]


def factor(_context: click.Context, _option: click.Parameter, value: float) -> float:
    """Return how many times larger; refuse what no model is."""
    if not 0.01 <= value <= 10_000:
        raise click.BadParameter(f"{value!r} is not a number from 0.01 to 10000")
    return value


OPTIONS: Final = (
    click.option(
        "--access-log",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Cross-check with the log of the server or proxy (common, combined, Squid, JSON of the lab).",
    ),
    click.option(
        "--log-client",
        multiple=True,
        metavar="ADDRESS",
        help="This client's address in that log. [default: that of the fetches found in both]",
    ),
    click.option("--what-if", is_flag=True, help="Predict the times with other caches, network or model size."),
    click.option(
        "--rtt",
        callback=seconds,
        default="20ms",
        metavar="TIME",
        show_default=True,
        help="What if: the round trip to the server; implies --what-if.",
    ),
    click.option(
        "--parallel",
        type=click.IntRange(1, 1000),
        default=8,
        show_default=True,
        help="What if: chunks fetched at once; implies --what-if.",
    ),
    click.option(
        "--scale",
        type=float,
        callback=factor,
        default=4.0,
        show_default=True,
        help="What if: size of the model, as a multiple of this one; implies --what-if.",
    ),
)


def analysis_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options, and what was asked as `asked`."""

    @functools.wraps(command)
    def asking(
        *args: Any,
        access_log: Path | None,
        log_client: tuple[str, ...],
        what_if: bool,
        rtt: float,
        parallel: int,
        scale: float,
        **arguments: Any,
    ) -> None:
        from cvtrace.analysis.contract.report_options import Changes, ReportOptions

        context = click.get_current_context()
        refuse_without(context, "log_client", "--log-client", access_log is not None, "--access-log")
        predicts = what_if or any(is_set(context, name) for name in ("rtt", "parallel", "scale"))
        options = ReportOptions(access_log, log_client, Changes(rtt, parallel, scale), predicts)
        command(*args, options=options, **arguments)

    decorated: Callable[..., None] = asking
    for option in reversed(OPTIONS):
        decorated = option(decorated)
    return decorated
