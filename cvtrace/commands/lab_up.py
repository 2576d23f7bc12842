"""`cvtrace lab up`: model, repository, origin and mount, all in one."""

from __future__ import annotations

from pathlib import Path

import click

from cvtrace.commands.console import tell
from cvtrace.lab.client.releases import DEFAULT as DEFAULT_RELEASE
from cvtrace.lab.client.releases import RELEASES
from cvtrace.probes.command import cvtrace_here


@click.command()
@click.option("--mount", type=click.Path(path_type=Path), help="Mountpoint. [default: below /cvmfs if writable]")
@click.option("--size", default="64MB", show_default=True, help="Size of the model.")
@click.option("--mapped-too", is_flag=True, help="Also build a model that uses its weights from the mapping.")
@click.option("--state", type=click.Path(path_type=Path), help="Where models, repository and cache are kept.")
@click.option("--client", default="auto", show_default=True, help="lab, cvmfs2, auto, or the path of a cvmfs2.")
@click.option(
    "--like",
    type=click.Choice(list(RELEASES)),
    default=DEFAULT_RELEASE,
    show_default=True,
    help="Release of cvmfs2 that the lab's client imitates.",
)
@click.option("--cache", type=click.Path(path_type=Path), help="The client's cache. [default: below the state]")
@click.option("--quota", default="4000MB", show_default=True, help="Limit of the client's cache.")
@click.option("--chunk-size", default="8MiB", show_default=True, help="Files larger than this are cut into chunks.")
@click.option("--delay", default="0ms", show_default=True, help="Origin: wait before the first byte.")
@click.option("--bandwidth", metavar="RATE", help="Origin: send no faster than this, such as 20MB/s.")
@click.option("--port", default=0, help="Port of the origin. [default: a free one]")
def command(
    mount: Path | None,
    size: str,
    mapped_too: bool,
    state: Path | None,
    client: str,
    like: str,
    cache: Path | None,
    quota: str,
    chunk_size: str,
    delay: str,
    bandwidth: str | None,
    port: int,
) -> None:
    """Build a model, publish it, serve it and mount it. Does nothing if it is up already."""
    from cvtrace.lab import quantities
    from cvtrace.lab.stack import Options, up

    options = Options(
        mount=mount.absolute() if mount else None,
        size_bytes=quantities.parse_size_bytes(size),
        mapped_too=mapped_too,
        client=client,
        like=like,
        cache=cache.absolute() if cache else None,
        quota_bytes=quantities.parse_size_bytes(quota),
        chunk_bytes=quantities.parse_size_bytes(chunk_size),
        port=port,
        delay_s=quantities.parse_duration_s(delay),
        bandwidth_bytes_per_s=quantities.parse_bandwidth_bytes_per_s(bandwidth) if bandwidth else None,
    )
    stack = up(options, state=state, say=lambda text: tell(f"cvtrace lab: {text}"))
    click.echo(f"{stack.fqrn} is mounted on {stack.mountpoint} (pid {stack.client_pid}), served by {stack.url}")
    for name, path in stack.models.items():
        click.echo(f"  {name:<18} {path}")
    suffix = f" --state {state}" if state else ""
    program = cvtrace_here()
    click.echo(
        f"Try:  {program} run \"$({program} lab example)\" -m {stack.model} -e cpu -g -l 64 -p 'What is a muon?'\n"
        f"End:  {program} lab down{suffix}"
    )
