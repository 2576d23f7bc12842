"""`cvtrace warmup`: have the client fetch what a run needs, many objects at a time, before the run needs them one after the other."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cvtrace.commands.console import doing, say
from cvtrace.commands.cvmfs_files import find_files, switch_to

if TYPE_CHECKING:
    from cvtrace.probes.cvmfs.mounts import Mount
    from cvtrace.probes.residency.survey import File
    from cvtrace.probes.residency.warming import Piece, Progress

ANALYSIS_S: Final = 600.0
MOST_BYTES: Final = 256 << 20
SHOWN: Final = 3


@click.command(name="warmup", short_help="Fetch what a run needs into the client's cache, many objects at a time.")
@click.argument("paths", metavar="TRACE|PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--threads", type=click.IntRange(1, 256), default=8, show_default=True, help="Objects fetched at a time.")
@click.option("--only-needed", is_flag=True, help="Of the files in TRACE, fetch only the chunks that the run used.")
@click.option("--check", is_flag=True, help="Fetch nothing: say what is missing; exit 1 if something is.")
@click.option(
    "--evict", is_flag=True, help="The opposite, for experiments: empty the client's cache and drop the pages."
)
@click.option("--yes", is_flag=True, help="Do not ask before --evict.")
def command(paths: tuple[Path, ...], threads: int, only_needed: bool, check: bool, evict: bool, yes: bool) -> None:
    """Read the files of TRACE, in the order in which that run used them, or PATH: files, or folders with all below them.

    Each object that the client's cache lacks is read once, so that the client fetches it. Without root it is not known what the cache holds, and
    every object is read.
    """
    from cvtrace.probes.residency.survey import client_caches
    from cvtrace.tracer.user import calling_user, switch_user

    if yes and not evict:
        raise click.UsageError("--yes has no effect without --evict: leave it out, or add that")
    if check and evict:
        raise click.UsageError("--check has no effect with --evict: leave one of the two out")
    caller = calling_user(os.environ)
    ranges, revisions = _ranges(paths, switch_to(caller), only_needed=only_needed)
    names = dict.fromkeys(path for path, _, _ in ranges) if ranges else [str(path.absolute()) for path in paths]
    files, mounts = find_files(list(names), caller)
    _say_other_revisions(mounts, revisions)
    if evict:
        _evict(files, mounts, yes=yes)
        return
    cached = client_caches(files, mounts)
    pieces = pieces_of(files, cached, ranges if only_needed else [])
    if check:
        _say_missing(files, cached, pieces)
        return
    _warn_of_quota(mounts, pieces)
    if caller.is_other:
        switch_user(caller)
    _fetch(pieces, threads, len(files))


def _ranges(
    paths: Sequence[Path], switch: Callable[[], None], *, only_needed: bool
) -> tuple[list[tuple[str, int, int]], dict[str, int]]:
    """Return what a trace shows to be used, as path, offset and size, and the revision of each repository; nothing for other paths.

    Raises UsageError, TraceDamaged.
    """
    from cvtrace.analysis.contract.quantities import pluralize
    from cvtrace.probes.cvmfs.deadline import NoAnswer, within
    from cvtrace.tracer.errors import TraceDamaged

    traces = [path for path in paths if (path / "meta.json").exists()]
    if not traces:
        if only_needed:
            raise click.UsageError(
                "--only-needed needs a trace, which shows what a run used: `cvtrace run` records one"
            )
        return [], {}
    if len(paths) > 1:
        raise click.UsageError(f"{traces[0]} is a trace: give one trace, or files and folders")
    try:
        with doing("analysing the trace"):
            answer = within(ANALYSIS_S, partial(_ranges_of_trace, str(traces[0]), switch), MOST_BYTES)
    except NoAnswer as failure:
        raise click.UsageError(f"{traces[0]} could not be analysed: {failure}") from None
    except OSError as failure:
        if failure.errno == errno.EILSEQ:  # as the child tells of a trace that is damaged
            raise TraceDamaged(failure.strerror) from None
        raise click.UsageError(failure.strerror or str(failure)) from None
    ranges = [(str(path), int(offset), int(size)) for path, offset, size in answer["ranges"]]
    missing = answer["missing"]
    if missing and not ranges:
        raise click.UsageError(
            f"none of {pluralize(len(missing), 'file')} that the run of {traces[0]} used is there now, such as {missing[0]}: "
            "mount the repository, record a run, or name files"
        )
    if missing:
        others = f", nor are {len(missing) - 1:,} others that the run used" if len(missing) > 1 else ""
        say(f"{missing[0]} is not there any more{others}: the run may need other files now")
    if not ranges:
        raise click.UsageError(f"{traces[0]} shows no file on CVMFS that is there now: record a run, or name files")
    return ranges, answer["revisions"]


def _say_other_revisions(mounts: Sequence[Mount], revisions: dict[str, int]) -> None:
    """Say it where the trace is of another revision of a repository than the one that is mounted: files may have other objects now."""
    for mount in mounts:
        recorded = revisions.get(mount.fqrn)
        if recorded is not None and mount.revision is not None and recorded != mount.revision:
            say(
                f"the trace is of revision {recorded:,} of {mount.fqrn}, and revision {mount.revision:,} is mounted: "
                "its files are fetched as they are now"
            )


def _ranges_of_trace(path: str, switch: Callable[[], None]) -> dict[str, Any]:
    """In the child, with the rights of the user who called."""
    switch()
    from cvtrace.analysis.attribution.study import study_of
    from cvtrace.analysis.storage.needed import needed_ranges
    from cvtrace.tracer.errors import TraceDamaged
    from cvtrace.tracer.store import read_trace

    try:
        study = study_of(read_trace(Path(path)))
        ranges = needed_ranges(study)
    except TraceDamaged as reason:
        raise OSError(errno.EILSEQ, str(reason)) from None
    there = {name: Path(name).exists() for name in dict.fromkeys(each.path for each in ranges)}
    kept = [(each.path, each.offset, each.size) for each in ranges if there[each.path]]
    revisions = {mount.fqrn: mount.revision for mount in study.recording.mounts if mount.revision is not None}
    missing = [name for name, is_there in there.items() if not is_there]
    return {"ranges": kept, "missing": missing, "revisions": revisions}


def pieces_of(
    files: Sequence[File], cached: Sequence[tuple[bool, ...] | None], ranges: Sequence[tuple[str, int, int]]
) -> list[Piece]:
    """Return the objects to read, in order: of `ranges`, or of whole files; without those that the client's cache holds."""
    by_path = {file.path: (file, held) for file, held in zip(files, cached, strict=True)}
    chosen: dict[Piece, None] = {}
    for path, offset, size in ranges or [(file.path, 0, file.size) for file in files]:
        if path in by_path:
            chosen |= dict.fromkeys(_pieces_within(*by_path[path], offset, size))
    return list(chosen)


def _pieces_within(file: File, cached: tuple[bool, ...] | None, offset: int, size: int) -> Iterator[Piece]:
    from cvtrace.probes.residency.warming import Piece

    if file.objects is None:
        yield Piece(file.path, 0, file.size, whole=True)
        return
    whole = len(file.objects) == 1  # its open fetches it, whatever is read then
    for number, each in enumerate(file.objects):
        is_cached = cached is not None and cached[number]
        if not is_cached and (whole or (each.offset < offset + size and offset < each.offset + each.size)):
            yield Piece(file.path, each.offset, each.size)


def _say_missing(files: Sequence[File], cached: Sequence[tuple[bool, ...] | None], pieces: Sequence[Piece]) -> None:
    from cvtrace.analysis.contract.quantities import pluralize, size
    from cvtrace.probes.command import SUDO

    if any(held is None and file.size for file, held in zip(files, cached, strict=True)):
        raise click.UsageError(f"only root sees what the client's cache holds: {SUDO} warmup --check …")
    total = sum(file.size for file in files)
    if not pieces:
        click.echo(f"nothing is missing: {pluralize(len(files), 'file')}, {size(total)}")
        return
    missing = sum(piece.size for piece in pieces)
    holding = len({piece.path for piece in pieces})
    click.echo(
        f"missing: {pluralize(len(pieces), 'object')} of {pluralize(holding, 'file')}, {size(missing)} of {size(total)}"
    )
    raise click.exceptions.Exit(1)


def _warn_of_quota(mounts: Sequence[Mount], pieces: Sequence[Piece]) -> None:
    """Warn if the files are larger than the client's cache, so that it evicts some of them again."""
    from cvtrace.analysis.contract.quantities import size
    from cvtrace.probes.cvmfs.quota import LIMIT, megabytes
    from cvtrace.probes.cvmfs.talk import ask

    total = sum(piece.size for piece in pieces)
    for mount in mounts:
        try:
            quota = megabytes(ask(mount, LIMIT))
        except OSError:
            continue
        if quota is not None and total > quota:
            say(
                f"the files to fetch have {size(total)} and the client's cache of {mount.path} is limited to {size(quota)}: the client will evict some of them again"
            )


def _fetch(pieces: Sequence[Piece], threads: int, files: int) -> None:
    from cvtrace.analysis.contract.quantities import pluralize, seconds, size
    from cvtrace.probes.residency.warming import Warming

    if not pieces:
        say(f"nothing to fetch: the client's cache holds all of {pluralize(files, 'file')}")
        return
    warming = Warming(pieces, threads)
    total = sum(piece.size for piece in pieces)
    try:
        with _shown(total) as show:
            took_s = warming.run(show)
    except KeyboardInterrupt:
        done = warming.progress
        say(f"stopped: {size(done.bytes)} of {size(total)} were fetched and stay in the client's cache")
        raise
    done = warming.progress
    say(
        f"read {pluralize(done.pieces, 'object')} of {pluralize(len({piece.path for piece in pieces}), 'file')}, {size(done.bytes)}, "
        f"in {seconds(took_s)} ({size(done.bytes / took_s)}/s), {threads} at a time"
    )
    for sentence in done.failures[:SHOWN]:
        say(f"not read: {sentence}")
    if len(done.failures) > SHOWN:
        say(f"{len(done.failures) - SHOWN} more objects were not read")
    if done.failures:
        raise click.exceptions.Exit(1)


@contextmanager
def _shown(total: int) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that draws progress, rate and time left; without a terminal it draws nothing."""
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("cvtrace: warming up"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda progress: bar.update(task, completed=progress.bytes)


def _evict(files: Sequence[File], mounts: Sequence[Mount], *, yes: bool) -> None:
    """Empty the caches of the clients that serve the files, and drop the files' pages."""
    from cvtrace.analysis.contract.quantities import pluralize
    from cvtrace.probes.cvmfs.talk import ask
    from cvtrace.probes.residency.survey import drop_pages

    names = ", ".join(mount.path for mount in mounts)
    if not yes:
        click.confirm(f"Empty the whole cache of the client of {names}, for all its users?", abort=True, err=True)
    drop_pages(files)
    for mount in mounts:
        try:
            ask(mount, "cleanup 0", seconds=60)
        except OSError as failure:
            raise click.UsageError(f"the client of {mount.path} did not empty its cache: {failure}") from None
    say(
        f"emptied the client's cache of {names}, except for objects that are open, and dropped the pages of {pluralize(len(files), 'file')}"
    )
