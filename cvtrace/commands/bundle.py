"""`cvtrace bundle`: writes a bundle, so that clients since 2.14 prefetch the files of a recorded run, and prints the time that it saves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from cvtrace.commands.arguments import TRACE
from cvtrace.commands.console import doing, say
from cvtrace.commands.outputs import STDOUT, refuse_existing, writing

if TYPE_CHECKING:
    from cvtrace.analysis.contract.bundle_schema import BundlePlan, BundlePrediction
    from cvtrace.analysis.whatif.bundle import Choice, Listing

LOOK_S: Final = 10.0
MOST_BYTES: Final = 256 << 20


@click.command(short_help="Write a bundle, with which clients since 2.14 prefetch what a run used.")
@click.argument("trace", type=TRACE)
@click.option(
    "--trigger",
    metavar="PATH",
    help="File whose opening starts the prefetch; default: the first file of the main folder.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    help="File or folder to write to, or - for stdout; default: .cvmfsbundle-TRIGGER here.",
)
@click.option(
    "--list",
    "list_file",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Also write the paths of the files to this file, one on each line.",
)
@click.option("--force", is_flag=True, help="Replace what is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the bundle, the saved time and its limits as JSON.")
def command(
    trace: Path, trigger: str | None, output: Path | None, list_file: Path | None, force: bool, as_json: bool
) -> None:
    """Write the bundle .cvmfsbundle-TRIGGER: the files that the run in TRACE used after it opened the file TRIGGER, in that order.

    Publish it beside TRIGGER. Clients since 2.14 with CVMFS_PREFETCH_FILEBUNDLES=yes fetch these files in the background when TRIGGER is opened. By default,
    TRIGGER is the file that the run used first in the folder of which it used most bytes.

    The saved time is predicted from the fetches of the run, so TRACE should be of a run with an empty client's cache.
    """
    if [output, list_file].count(STDOUT) + as_json > 1:
        raise click.UsageError(
            "only one of the bundle, the list and the JSON can be written to stdout: write the others to files"
        )
    from cvtrace.analysis.attribution.study import sensible_times, study_of
    from cvtrace.analysis.whatif.bundle import NoBundle, choose, plan
    from cvtrace.tracer.store import read_trace

    with doing("analysing the trace"):
        recorded = read_trace(trace)
        study = study_of(recorded)
    try:
        with sensible_times(recorded):
            choice, listings = _as_it_is_now(choose(study, trigger))
            bundle = plan(study, choice, listings)
    except NoBundle as reason:
        raise click.UsageError(f"{trace}: {reason}") from None
    place = _place(output, bundle.name)
    refuse_existing(place, force)
    refuse_existing(list_file, force)
    _write(place, json.dumps(bundle.document(), indent=1, ensure_ascii=False) + "\n")
    if list_file is not None:
        _write(list_file, _list_of(bundle))
    if as_json:
        click.echo(json.dumps({**bundle.as_dict(), "file": str(place), "document": bundle.document()}, indent=1))
    else:
        stream = sys.stderr if STDOUT in (output, list_file) else sys.stdout
        click.echo("\n".join(_fitted(_lines(bundle, place), stream)), file=stream)
    if recorded.damage:
        say(recorded.damage)


def _place(output: Path | None, name: str) -> Path:
    """Return where the bundle is written to."""
    if output is None:
        return Path(name)
    return output / name if output != STDOUT and output.is_dir() else output


def _as_it_is_now(choice: Choice) -> tuple[Choice, dict[str, Listing]]:
    """Read the sizes and objects of the files where the repository is mounted, and drop files that are gone. Raises NoBundle if all are gone."""
    from cvtrace.analysis.whatif.bundle import Listing, NoBundle
    from cvtrace.probes.cvmfs.deadline import NoAnswer, within

    paths = [file.path for file in choice.files]
    try:
        with doing("reading the sizes and chunks of the files"):
            answer = within(LOOK_S, partial(_look, choice.mount.path, choice.mount.fqrn, paths), MOST_BYTES)
    except (NoAnswer, OSError):
        answer = {}
    gone = {path for path, listing in answer.items() if listing is None}
    if gone:
        say(f"left out: {len(gone):,} of the files, such as {min(gone)}, are not in the repository any more")
    files = tuple(file for file in choice.files if file.path not in gone)
    if not files:
        raise NoBundle("none of the files that the run used is in the repository any more: record a run")
    listings = {
        path: Listing(int(listing[0]), tuple((str(name), int(size)) for name, size in listing[1]))
        for path, listing in answer.items()
        if listing is not None
    }
    return replace(choice, files=files), listings


def _look(mount: str, fqrn: str, paths: list[str]) -> dict[str, Any]:
    """In a child: return size and objects of each file, None for one that is gone; nothing where the repository is not mounted."""
    from cvtrace.probes.cvmfs.xattrs import getxattr
    from cvtrace.probes.residency.objects import objects_of

    if getxattr(mount, "user.fqrn").decode("ascii", "replace").strip("\0\n ") != fqrn:
        return {}
    listings: dict[str, Any] = {}
    for path in paths:
        try:
            size = os.stat(mount + path).st_size  # noqa: PTH116 - a text of the trace
        except OSError as failure:
            if failure.errno in (errno.ENOENT, errno.ENOTDIR):
                listings[path] = None
            continue
        listings[path] = [size, [(each.hash, each.size) for each in objects_of(mount + path) or []]]
    return listings


def _write(place: Path, text: str) -> None:
    with writing(place) as stream:
        stream.write(text.encode("utf-8", "surrogateescape"))


def _list_of(bundle: BundlePlan) -> str:
    """Return the files' paths in the mount, a line each, the trigger first."""
    return "".join(f"{bundle.mountpoint}{path}\n" for path in (bundle.trigger, *(file.path for file in bundle.files)))


def _fitted(lines: list[str], stream: TextIO) -> list[str]:
    """Return the lines, cut to the width of the terminal if they go to one."""
    if not stream.isatty():
        return lines
    wrap = textwrap.TextWrapper(
        max(shutil.get_terminal_size().columns, 40), break_long_words=False, break_on_hyphens=False
    )
    pieces = []
    for line in lines:
        wrap.subsequent_indent = "    " if line.startswith(" ") else "  "
        pieces += wrap.wrap(line) or [""]
    return pieces


def _lines(bundle: BundlePlan, place: Path) -> list[str]:
    from cvtrace.analysis.contract.quantities import pluralize, size
    from cvtrace.probes.visible import printable

    known = [file.size_bytes for file in bundle.files if file.size_bytes is not None]
    amount = f", {size(sum(known))}" if len(known) == len(bundle.files) else ""
    folder = bundle.directory.rstrip("/")
    lines = [
        f"{'The bundle' if place == STDOUT else place} lists {pluralize(len(bundle.files), 'file')}{amount}.",
        f"Clients prefetch these files when {bundle.trigger} is opened.",
        f"Publish it as {bundle.mountpoint}{folder}/{bundle.name}",
        "Clients since 2.14 with CVMFS_PREFETCH_FILEBUNDLES=yes use it; others ignore it.",
        "",
        f"Saves: {_saving(bundle.prediction)}",
    ]
    if bundle.does_not_help:
        lines += ["Does not help:", *(f"  - {sentence}" for sentence in bundle.does_not_help)]
    return [printable(line) for line in lines]


def _saving(prediction: BundlePrediction) -> str:
    from cvtrace.analysis.contract.quantities import seconds

    if (
        prediction.predicted_s is None
        or prediction.predicted_wait_s is None
        or prediction.saves_s is None
        or prediction.background_s is None
    ):
        return f"unknown, because {prediction.reason}"
    error = f" (error in the lab: up to {prediction.lab_error:.0%} of the run)" if prediction.lab_error else ""
    return (
        f"{seconds(max(prediction.saves_s, 0.0))} of {seconds(prediction.measured_s)}{error}. The run then waits {seconds(max(prediction.predicted_wait_s, 0.0))} for these fetches instead "
        f"of {seconds(prediction.fetch_wait_s)}. The last file is fetched {seconds(prediction.background_s)} after the trigger was opened."
    )
