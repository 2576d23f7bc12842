"""`cvtrace lab mount`: the lab's client."""

from __future__ import annotations

from pathlib import Path

import click

from cvtrace.commands.refusals import refuse_with
from cvtrace.lab.client.releases import DEFAULT as DEFAULT_RELEASE
from cvtrace.lab.client.releases import RELEASES
from cvtrace.lab.quantities import parse_duration_s, parse_size_bytes


@click.command()
@click.argument("name")
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("--url", required=True, help="URL of the repository, http://HOST[:PORT]/cvmfs/NAME.")
@click.option("--key", required=True, help="Public key of the repository, a PEM file.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=Path("~/.cache/cvtrace/cvmfs"),
    show_default=True,
    help="Folder of the caches; this repository's is CACHE/NAME.",
)
@click.option("--quota", default="4000MB", show_default=True, help="Limit of the cache.")
@click.option("--proxy", help="DIRECT or http://HOST:PORT; default: CVMFS_HTTP_PROXY, else DIRECT.")
@click.option(
    "--retries", type=click.IntRange(min=0), default=1, show_default=True, help="Retries of a failed download."
)
@click.option("--backoff", default="2s", show_default=True, help="Pause before the first retry, doubled each time.")
@click.option("--timeout", default="10s", show_default=True, help="How long to wait for a server that does not answer.")
@click.option(
    "--like",
    type=click.Choice(list(RELEASES)),
    default=DEFAULT_RELEASE,
    show_default=True,
    help="Release of cvmfs2 that the lab's client imitates.",
)
@click.option("--foreground", is_flag=True, help="Stay in the foreground; Ctrl-C ends the mount.")
@click.pass_context
def command(
    context: click.Context,
    name: str,
    mountpoint: Path,
    url: str,
    key: str,
    cache: Path,
    quota: str,
    proxy: str | None,
    retries: int,
    backoff: str,
    timeout: str,
    like: str,
    foreground: bool,
) -> None:
    """Mount the repository NAME on MOUNTPOINT with the lab's client.

    Returns when the mount answers. Unmount it with umount or fusermount3 -u.
    """
    from cvtrace.lab.client import mounting

    refuse_with(context, "backoff", "--backoff", retries == 0, "--retries 0")
    first_s = parse_duration_s(backoff)
    configuration = mounting.configure(
        name,
        mountpoint,
        url,
        key,
        cache.expanduser(),
        parse_size_bytes(quota),
        proxy=proxy,
        max_retries=retries,
        backoff_s=(first_s, max(10.0, first_s)),
        timeout_s=max(1, round(parse_duration_s(timeout))),
        like=like,
    )
    if foreground:
        target = configuration.mountpoint
        mounting.serve_here(configuration, lambda: click.echo(f"{name} is mounted on {target}; Ctrl-C ends it"))
    mounted = mounting.start(configuration)
    click.echo(f"{name} is mounted on {mounted.mountpoint} (pid {mounted.pid}, cache {mounted.workspace})")
