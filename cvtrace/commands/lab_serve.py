"""`cvtrace lab serve`: the origin in the foreground."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from cvtrace.commands.refusals import is_set, refuse_with, refuse_without
from cvtrace.lab.origin import Injection, Origin
from cvtrace.lab.quantities import parse_bandwidth_bytes_per_s, parse_duration_s, parse_size_bytes


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--port", default=8000, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--delay", metavar="TIME", default="0ms", help="Wait before the first byte, such as 50ms.")
@click.option("--bandwidth", metavar="RATE", help="Send bodies no faster than this, such as 20MB/s.")
@click.option("--status", metavar="CODE", type=int, help="Answer with this status instead, such as 503.")
@click.option("--truncate", metavar="SIZE", help="Send only this much of a body, then close the connection.")
@click.option("--drop", is_flag=True, help="Close connections without an answer.")
@click.option("--every", metavar="N", default=1, help="Inject into every N-th request only.")
@click.option("--match", metavar="GLOB", default="*", help="Inject into these URL paths only; re:… is a regex.")
@click.option("--access-log", type=click.Path(path_type=Path), help="Append one JSON object per request.")
@click.option("--control", type=click.Path(path_type=Path), help="Unix socket to change injections with.")
@click.pass_context
def command(
    context: click.Context,
    store: Path,
    port: int,
    host: str,
    delay: str,
    bandwidth: str | None,
    status: int | None,
    truncate: str | None,
    drop: bool,
    every: int,
    match: str,
    access_log: Path | None,
    control: Path | None,
) -> None:
    """Serve the repositories in STORE over HTTP until Ctrl-C, with the delays and faults of the options."""
    harms = [name for name in ("delay", "bandwidth", "status", "truncate", "drop") if is_set(context, name)]
    for name in ("every", "match"):
        refuse_without(
            context,
            name,
            f"--{name}",
            bool(harms),
            "something to inject (--delay, --bandwidth, --status, --truncate, --drop)",
        )
    for name in ("bandwidth", "status", "truncate"):
        refuse_with(context, name, f"--{name}", drop, "--drop")
    injection = Injection(
        match=match,
        every=every,
        first_byte_delay_s=parse_duration_s(delay),
        drop=drop,
        status=status,
        truncate_after_bytes=parse_size_bytes(truncate) if truncate else None,
        bandwidth_bytes_per_s=parse_bandwidth_bytes_per_s(bandwidth) if bandwidth else None,
    )
    origin = Origin(store, host=host, port=port, injections=[injection], access_log=access_log, control=control)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with origin:
        click.echo(f"Serving {store} at {origin.url}/cvmfs/; Ctrl-C ends.")
        ended.wait()
