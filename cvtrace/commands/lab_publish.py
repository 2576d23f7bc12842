"""`cvtrace lab publish`: a folder becomes a CVMFS repository."""

from __future__ import annotations

from pathlib import Path

import click

from cvtrace.analysis.contract.quantities import pluralize
from cvtrace.commands.console import say
from cvtrace.commands.refusals import refuse_with
from cvtrace.lab.publish import DEFAULT_URL, Compression, publish
from cvtrace.lab.quantities import parse_size_bytes
from cvtrace.probes.visible import printable


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--fqrn", metavar="NAME", required=True, help="Name of the repository, such as models.example.org.")
@click.option("--store", type=click.Path(path_type=Path), required=True, help="Where repositories are kept.")
@click.option("--at", default="/", show_default=True, help="Directory of the repository that DIR becomes.")
@click.option("--chunk-size", default="8MiB", show_default=True, help="Files larger than this are cut into chunks.")
@click.option("--compression", type=click.Choice(["zlib", "none"]), default="zlib", show_default=True)
@click.option("--level", type=click.IntRange(0, 9), default=1, show_default=True, help="zlib level.")
@click.option("--url", default=DEFAULT_URL, show_default=True, help="Origin to name in the client's configuration.")
@click.pass_context
def command(
    context: click.Context,
    folder: Path,
    fqrn: str,
    store: Path,
    at: str,
    chunk_size: str,
    compression: Compression,
    level: int,
    url: str,
) -> None:
    """Publish the content of DIR as a CVMFS repository, or as its next revision.

    If DIR is a file, it is added to the directory that --at names, and all else stays: so a bundle is published after the files that it lists.
    A file .cvmfsbundle-TRIGGER beside TRIGGER is a bundle: clients since 2.14 prefetch the files in it when TRIGGER is opened.

    Writes STORE/cvmfs/NAME, the key STORE/keys/NAME.pub and STORE/NAME.conf for a real client.
    """
    refuse_with(context, "level", "--level", compression == "none", "--compression none")
    published = publish(
        folder,
        fqrn=fqrn,
        store=store,
        at=at,
        chunk_size=parse_size_bytes(chunk_size),
        compression=compression,
        level=level,
        url=url,
    )
    click.echo(
        f"{fqrn} revision {published.revision}: {published.objects_added} objects added "
        f"({published.bytes_added:,} bytes), {published.objects_reused} were there\n"
        f"repository  {published.store_path}\n"
        f"public key  {published.key_path}\n"
        f"client      {published.config_path}"
    )
    for bundle in published.bundles:
        click.echo(
            printable(f"bundle      {bundle.path}: {pluralize(bundle.files, 'file')}, triggered by {bundle.trigger}")
        )
        if bundle.problem:
            say(f"{bundle.path} helps less than it says: {bundle.problem}")
