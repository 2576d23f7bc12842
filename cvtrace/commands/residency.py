"""`cvtrace residency`: where the bytes of files are now: in the page cache, in the client's disk cache, or only on the server."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from cvtrace.commands.console import say
from cvtrace.commands.cvmfs_files import find_files
from cvtrace.probes.visible import printable

if TYPE_CHECKING:
    from cvtrace.probes.cvmfs.mounts import Mount
    from cvtrace.probes.residency.survey import FileResidency

SCHEMA: Final = "cvtrace-residency/1"
BAR: Final = 12
SHORTEST_BAR: Final = 4
SHADES: Final = (("█", "green"), ("▒", "yellow"), ("░", "red"), ("·", "dim"))
"""Of bytes in the page cache, in the client's cache only, in neither, and of unknown place."""
FIGURES: Final = ("size", "page cache", "client cache", "remote")
UNLIMITED: Final = 10_000
"""Columns of what is not printed to a terminal: a program that reads names needs whole ones."""
SHOWN_FILES: Final = 40


@dataclass(frozen=True)
class Tensor:
    """A tensor of a model, and how many of its bytes are in the page cache and in the client's cache."""

    name: str
    path: str
    size: int
    page_cache: int | None
    client_cache: int | None


@dataclass(frozen=True)
class Parts:
    """Bytes by where they are at best; they add up to the size."""

    page_cache: int
    client_cache: int
    remote: int
    unknown: int

    @property
    def size(self) -> int:
        return self.page_cache + self.client_cache + self.remote + self.unknown


@click.command(name="residency", short_help="Where the bytes of files are now: page cache, client's cache, server.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--tensors", "with_tensors", is_flag=True, help="List the tensors of ONNX, safetensors and GGUF files, too."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON with stable names.")
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
def command(paths: tuple[Path, ...], with_tensors: bool, as_json: bool, watch: bool) -> None:
    """Show where the bytes of PATH are at this moment: files, or folders with all files below them.

    Fetches nothing and changes no cache. Files that open(2) would fetch are not opened; their pages count as unknown.
    Without root, the content of the client's cache is unknown.
    """
    if watch and as_json:
        raise click.UsageError("--watch draws on the terminal and cannot print JSON: leave out --watch or --json")
    look = _looker([str(path.absolute()) for path in paths], with_tensors)
    if watch:
        _watch(look)
    files, tensors, reasons = look()
    for reason in reasons:
        say(reason)
    if as_json:
        click.echo(json.dumps(_document(files, tensors), indent=2))
    else:
        click.echo(_drawn(files, tensors))


Look = Callable[[], "tuple[list[FileResidency], list[Tensor], list[str]]"]


def _looker(paths: list[str], with_tensors: bool) -> Look:
    """Find mounts and files once; the result looks where their bytes are. Raises UsageError, NotLookedAt."""
    from cvtrace.probes.residency.survey import residency
    from cvtrace.tracer.user import calling_user

    files, mounts = find_files(paths, calling_user(os.environ))

    def look() -> tuple[list[FileResidency], list[Tensor], list[str]]:
        rows = residency(files, mounts)
        tensors, reasons = _tensors(rows, mounts) if with_tensors else ([], [])
        return rows, tensors, reasons

    return look


def _tensors(rows: Sequence[FileResidency], mounts: Sequence[Mount]) -> tuple[list[Tensor], list[str]]:
    """Look at the tensors of models whose headers can be read without a fetch."""
    from cvtrace.analysis.storage.headers.files import headers_on_mounts, is_model
    from cvtrace.probes.residency.survey import resident_bytes
    from cvtrace.tracer.user import calling_user

    models = [row for row in rows if is_model(row.file.path)]
    local = [row for row in models if _header_is_local(row)]
    reasons = [
        f"the tensors of {row.file.path} are not shown: its header may not be in the client's cache, and reading it would fetch it (root can see what the cache holds)"
        for row in models
        if row not in local
    ]
    headers, troubles = headers_on_mounts([mount.path for mount in mounts], calling_user(os.environ))(
        [row.file.path for row in local]
    )
    by_path = {row.file.path: row for row in rows}
    known = [each for each in headers if each.path in by_path]
    holders = list({each.path: by_path[each.path] for each in known}.values())
    ranges = [[(each.offset, each.size) for each in known if each.path == row.file.path] for row in holders]
    resident = resident_bytes([row.file for row in holders], ranges, [row.cached for row in holders])
    pages = {
        row.file.path: iter(sizes) if sizes is not None else None for row, sizes in zip(holders, resident, strict=True)
    }
    tensors = []
    for each in known:
        sizes = pages[each.path]
        cached = _cached_of(by_path[each.path], each.offset, each.size)
        tensors.append(Tensor(each.name, each.path, each.size, None if sizes is None else next(sizes), cached))
    return tensors, [*reasons, *troubles]


def _header_is_local(row: FileResidency) -> bool:
    """Return whether the file, or its first chunk where weights follow the header, is in a cache of this machine."""
    if row.cached is None or row.file.objects is None:
        return False
    needed = len(row.cached) if row.file.path.endswith(".onnx") else 1
    return all(row.cached[:needed])


def _cached_of(row: FileResidency, offset: int, size: int) -> int | None:
    """Return how many bytes of a range the client's cache holds."""
    if row.cached is None or row.file.objects is None:
        return None
    end = offset + size
    return sum(
        max(min(each.offset + each.size, end) - max(each.offset, offset), 0)
        for each, is_cached in zip(row.file.objects, row.cached, strict=True)
        if is_cached
    )


def parts_of(row: FileResidency) -> Parts:
    """Return each byte of a file where it is nearest."""
    objects = [each.size for each in row.file.objects] if row.file.objects is not None else [row.file.size]
    pages = row.page_cache or (0,) * len(objects)
    in_pages = sum(pages)
    if row.cached is None:
        return Parts(in_pages, 0, 0, row.file.size - in_pages)
    rest = [size - resident for size, resident in zip(objects, pages, strict=True)]
    in_cache = sum(size for size, is_cached in zip(rest, row.cached, strict=True) if is_cached)
    return Parts(in_pages, in_cache, sum(rest) - in_cache, row.file.size - sum(objects))


def _document(rows: Sequence[FileResidency], tensors: Sequence[Tensor]) -> dict[str, Any]:
    files = [
        {
            "path": row.file.path,
            "size_bytes": row.file.size,
            "page_cache_bytes": row.page_cache_bytes,
            "client_cache_bytes": row.client_cache_bytes,
            "remote_bytes": row.remote_bytes,
            "objects": None if row.file.objects is None else len(row.file.objects),
            "objects_in_client_cache": None if row.cached is None else sum(row.cached),
        }
        for row in rows
    ]
    keys = ("size_bytes", "page_cache_bytes", "client_cache_bytes", "remote_bytes")
    total = {key: _sum([each[key] for each in files]) for key in keys}
    listed = [
        {
            "name": each.name,
            "path": each.path,
            "size_bytes": each.size,
            "page_cache_bytes": each.page_cache,
            "client_cache_bytes": each.client_cache,
        }
        for each in tensors
    ]
    return {"schema": SCHEMA, "time": time.time(), "files": files, "total": total, "tensors": listed}


def _sum(values: Sequence[Any]) -> int | None:
    """Return the sum; None if a part of it is unknown."""
    return None if any(value is None for value in values) else sum(values)


def _drawn(rows: Sequence[FileResidency], tensors: Sequence[Tensor]) -> str:
    from rich.console import Console

    is_terminal = sys.stdout.isatty()
    width = max(shutil.get_terminal_size().columns, 80) if is_terminal else UNLIMITED
    console = Console(
        file=sys.stdout, force_terminal=is_terminal, highlight=False, no_color="NO_COLOR" in os.environ, width=width
    )  # fmt: skip
    with console.capture() as capture:
        console.print(_table(rows, width))
        console.print(_legend())
        if tensors:
            console.print()
            console.print(_tensor_table(tensors))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _table(rows: Sequence[FileResidency], width: int) -> Any:
    """Return the table of the files in `width` columns. Long names take the room of the bar, and are then shortened in the middle."""
    from rich.table import Table
    from rich.text import Text

    from cvtrace.analysis.contract.quantities import pluralize
    from cvtrace.analysis.report.names import shortened

    start = os.path.commonpath([str(Path(row.file.path).parent) for row in rows]) if rows else ""
    largest = sorted(rows, key=lambda row: -row.file.size)[:SHOWN_FILES]
    shown = [row for row in rows if row in largest]
    lines = [(printable(row.file.path[len(start) :].lstrip("/")), _cells(row), parts_of(row)) for row in shown]
    total = _total(rows)
    cells = [*(cells for _, cells, _ in lines), total[0], FIGURES]
    room = width - sum(2 + max(len(row[column]) for row in cells) for column in range(len(FIGURES))) - 2
    longest = max((len(name) for name, _, _ in lines), default=0)
    bar = min(room - longest, BAR) if room - longest >= SHORTEST_BAR else 0
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("file", no_wrap=True)
    for name in FIGURES:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name, figures, parts in lines:
        table.add_row(Text(shortened(name, room - bar)), *figures, _bar(parts, bar))
    if len(rows) > len(shown):
        left = len(rows) - len(shown)
        table.add_row(Text(f"and {pluralize(left, 'smaller file')}", style="dim"), *[""] * 5)
    if len(rows) != 1:
        table.add_row(Text("total", style="bold"), *total[0], _bar(total[1], bar))
    return table


def _total(rows: Sequence[FileResidency]) -> tuple[list[str], Parts]:
    """Return the figures of all files together, and where their bytes are; where a part is unknown, the known one is a lower bound."""
    from cvtrace.analysis.contract.quantities import size

    values = [(row.page_cache_bytes, row.client_cache_bytes, row.remote_bytes) for row in rows]
    figures = []
    for column in zip(*values, strict=True) if values else ((), (), ()):
        known = sum(value for value in column if value is not None)
        is_whole = None not in column
        figures.append(size(known) if is_whole else f"≥ {size(known)}" if known else "?")
    parts = [parts_of(row) for row in rows]
    sums = [sum(getattr(each, field.name) for each in parts) for field in fields(Parts)]
    return [size(sum(row.file.size for row in rows)), *figures], Parts(*sums)


def _cells(row: FileResidency) -> list[str]:
    from cvtrace.analysis.contract.quantities import size

    values = (row.page_cache_bytes, row.client_cache_bytes, row.remote_bytes)
    return [size(row.file.size), *("?" if value is None else size(value) for value in values)]


def _bar(parts: Parts, length: int) -> Any:
    """Return a bar; a place with few bytes gets one cell, so that it is visible."""
    from rich.text import Text

    values = (parts.page_cache, parts.client_cache, parts.remote, parts.unknown)
    if not parts.size or not length:
        return Text("")
    cells = [max(round(length * value / parts.size), 1) if value else 0 for value in values]
    while sum(cells) != length:
        cells[cells.index(max(cells))] += 1 if sum(cells) < length else -1
    return Text.assemble(*((mark * count, style) for (mark, style), count in zip(SHADES, cells, strict=True)))


def _legend() -> Any:
    from rich.text import Text

    words = ("page cache", "client cache only", "remote: a read fetches it", "unknown")
    pairs = zip(SHADES, words, strict=True)
    return Text("   ").join(Text.assemble((mark, style), f" {text}") for (mark, style), text in pairs)


def _tensor_table(tensors: Sequence[Tensor]) -> Any:
    from rich.table import Table

    from cvtrace.analysis.contract.quantities import pluralize, size

    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("tensor", overflow="fold", min_width=22)
    for name in ("size", "page cache", "client cache"):
        table.add_column(name, justify="right", no_wrap=True)
    largest = sorted(tensors, key=lambda each: -each.size)[:SHOWN_FILES]
    for each in largest:
        cells = ("?" if value is None else size(value) for value in (each.page_cache, each.client_cache))
        table.add_row(printable(each.name), size(each.size), *cells)
    if len(tensors) > len(largest):
        table.add_row(f"and {pluralize(len(tensors) - len(largest), 'smaller tensor')} (all with --json)", *[""] * 3)
    return table


def _watch(look: Look) -> NoReturn:
    from rich.console import Console, Group
    from rich.live import Live

    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            rows, tensors, _ = look()
            live.update(
                Group(_table(rows, max(console.width, 80)), _legend(), *([_tensor_table(tensors)] if tensors else [])),
                refresh=True,
            )
            time.sleep(1)
