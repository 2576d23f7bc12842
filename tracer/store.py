"""The trace on disk: append-only while recording, Parquet when finished, readable after kill -9.

A trace is a folder:

    meta.json        what was traced and how (written at the start, replaced atomically as more is known)
    events.blocks    while recording: blocks of EVENT records
    texts.blocks     while recording: blocks of TEXT records
    events.parquet   when finished, sorted by ts; the columns of EVENT
    texts.parquet    when finished: ts, tid, kind, size, text (binary)
    nodes.parquet    with --ort-profile: the nodes of the model's graph (profile.py), made from ort-profile-N.json
    samples.parquet  with --stacks: which thread had which stack when (stack_tables.py)
    frames.parquet   with --stacks: the frames of each stack

A block (blocks.py) carries a checksum, so that a reader stops at one that was half written when the recorder
was killed and says where the trace ends. The blocks are removed once the Parquet files and a meta.json that
says `finished` are on disk.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from cvtrace.probes.events import EVENT, TEXT, Events, Texts, in_order
from cvtrace.tracer.blocks import BlockFile, BlockSource, read_records
from cvtrace.tracer.columns import PART_EVENTS, EventColumns, Part
from cvtrace.tracer.errors import TraceDamaged, TraceExists, TraceMissing, TraceTooLarge, TraceUnwritable
from cvtrace.tracer.folder import (
    EVENTS_BLOCKS,
    EVENTS_PARQUET,
    META,
    TEMPORARY,
    TEXTS_BLOCKS,
    TEXTS_PARQUET,
    TooLarge,
    create_folder,
    is_locked,
    read_meta_at,
)
from cvtrace.tracer.oldest import Oldest, begin_of, begins_of, cannot, starting_later
from cvtrace.tracer.redaction import Redaction
from cvtrace.tracer.room import check_room
from cvtrace.tracer.safe_open import open_folder, open_regular
from cvtrace.tracer.scratch import Scratch
from cvtrace.tracer.sorted_groups import kept
from cvtrace.tracer.streams import Stream
from cvtrace.tracer.trace import PackedTrace, Trace
from cvtrace.tracer.user import User

if TYPE_CHECKING:
    from cvtrace.tracer.parquet import Progress, TraceFile

__all__ = ["SCHEMA", "Trace", "TraceDamaged", "TraceExists", "TraceUnwritable", "TraceWriter", "read_trace"]

SCHEMA: Final = "cvtrace-trace/1"

SIZES: Final = (EVENT.itemsize, TEXT.itemsize)
FLUSH_RECORDS: Final = 1 << 15
FLUSH_S: Final = 0.5

META_TYPES: Final[dict[str, type]] = {
    "target": dict,
    "clock": dict,
    "mounts": list,
    "missing": list,
    "lost": dict,
}
"""What readers rely on in meta.json; an empty one stands in for what is not there."""

MISSING: Final = {errno.ENOENT: "there is no such folder", errno.ENOTDIR: "a trace is a folder, this is a file"}
"""errno of opening a trace -> why there is none."""


class TraceWriter:
    """Writes one trace. Not thread-safe: call it from one thread at a time.

    `meta` is written at once, and again by `update_meta` and `finish`. `error` is None, or the sentence that
    says why something could not be written (a full disk): what was written before stays.
    """

    def __init__(
        self,
        directory: Path,
        meta: dict[str, Any],
        owner: User | None = None,
        *,
        force: bool = False,
        redaction: Redaction | None = None,
        max_bytes: int | None = None,
    ) -> None:
        """Create the folder as `owner`; `redaction` hashes the paths in all that is written. Of more than `max_bytes`, the oldest blocks go.

        Raises TraceExists or TraceUnwritable, leaving nothing behind.
        """
        self.path = directory
        self.meta = {**meta, "schema": SCHEMA, "finished": False, "redacted": redaction is not None}
        self.error: str | None = None
        self.redaction = redaction
        self._folder = create_folder(directory, owner, force=force)
        self._flushed_s = time.monotonic()
        self._streams: dict[str, Stream] = {}
        try:
            for name in (EVENTS_BLOCKS, TEXTS_BLOCKS):
                self._streams[name] = Stream(BlockFile(self._folder.create(name)), keeps_time=max_bytes is not None)
            self._oldest = None if max_bytes is None else Oldest(max_bytes, tuple(self._streams.values()))
            self._write_meta()  # last: where there is a meta.json, there are blocks
        except OSError as error:
            self.abandon()
            raise TraceUnwritable(f"cannot write {directory}: {cannot(error)}") from None

    def write(self, events: Events, texts: Texts) -> None:
        """Take records over (do not change the arrays afterwards); they are written within half a second.

        Never raises for a full disk: see `error`. Call it with empty arrays while nothing happens.
        """
        streams = self._streams.values()
        if self.redaction is not None:
            texts = self.redaction.texts(texts)
        if self._oldest is not None:
            *full, events = self._oldest.pieces(events) or [events]
            for piece in full:
                self._streams[EVENTS_BLOCKS].add(piece)
                self.flush()
        for stream, part in zip(streams, (events, texts), strict=True):
            stream.add(part)
        now_s = time.monotonic()
        if now_s - self._flushed_s >= FLUSH_S or any(stream.waiting_records >= FLUSH_RECORDS for stream in streams):
            self.flush()
            self._flushed_s = now_s

    def flush(self) -> None:
        """Write what waits."""
        for stream in self._streams.values():
            if self.error is not None:  # a trace ends once: a gap would look like quiet
                stream.give_up()
                continue
            try:
                stream.flush()
            except OSError as error:
                self._fail(error)
        if self._oldest is not None and self.error is None:
            try:
                self._oldest.make_room(self._tell_dropped)
            except OSError as error:
                self._fail(error)

    def _tell_dropped(self, dropped: dict[str, Any]) -> None:
        """Let meta.json say what is not there any more, before it goes."""
        self.meta["dropped"] = dropped
        self._write_meta()

    def update_meta(self, **changes: Any) -> None:
        """Change fields of meta.json, atomically. A full disk sets `error`."""
        self.meta.update(changes)
        try:
            self._write_meta()
        except OSError as error:
            self._fail(error)

    def finish(self, progress: Progress | None = None, **changes: Any) -> None:
        """Write the Parquet files and the last meta.json, then remove the blocks.

        If that is impossible the blocks stay, the trace is readable all the same, and `error` says why.
        """
        from cvtrace.tracer import parquet  # pyarrow takes 0.1 s to load: not while a target waits for its start

        self.flush()
        self.meta.update(changes)
        self.meta["clock"] = starting_later(self.meta)
        self._count()
        try:
            since_ns = begin_of(self.meta)
            self.meta["events"] = self._finish_file(
                EVENTS_BLOCKS, EVENTS_PARQUET, lambda source, out: parquet.write_events(source, out, since_ns, progress)
            )
            self.meta["texts"] = self._finish_file(
                TEXTS_BLOCKS, TEXTS_PARQUET, lambda source, out: parquet.write_texts(source, out, since_ns)
            )
            self.meta["finished"] = True
            self._write_meta()
            for name in self._streams:
                self._folder.remove(name)
        except OSError as error:
            self._fail(error)
            self._leave_unfinished()
        finally:
            self.close()

    def add_file(self, name: str, data: bytes) -> None:
        """Write another file of the trace, one of folder.FILES. A full disk sets `error`."""
        try:
            self._folder.write_whole(name, data, durable=False)
        except OSError as error:
            self._fail(error)

    def abandon(self) -> None:
        """Remove what was created: nothing was recorded."""
        with contextlib.suppress(OSError):
            for name in (META, EVENTS_BLOCKS, TEXTS_BLOCKS):
                self._folder.remove(name)
            self._folder.remove_itself()
        self.close()

    def close(self) -> None:
        """Close the files, leaving the trace as it is."""
        for stream in self._streams.values():
            os.close(stream.file.fd)
        self._streams = {}
        self._folder.close()

    def _finish_file(self, source: str, target: str, convert: Callable[[BlockSource, BinaryIO], int]) -> int:
        fd = self._folder.create(target + TEMPORARY)
        try:
            with os.fdopen(fd, "wb") as out:
                file = self._streams[source].file
                count = convert(BlockSource(file.fd, file.begin), out)
                out.flush()
                os.fsync(fd)
            self._folder.replace(target + TEMPORARY, target)
        except OSError:
            self._folder.remove(target + TEMPORARY)
            raise
        return count

    def _leave_unfinished(self) -> None:
        """Say in meta.json why there are blocks; on a full disk the last block makes room for that."""
        self.meta["finished"] = False
        for name in (EVENTS_PARQUET, TEXTS_PARQUET):
            with contextlib.suppress(OSError):
                self._folder.remove(name)
        for stream in (None, *self._streams.values()):
            if stream is not None:
                stream.drop_last()
            self._count()
            try:
                self._write_meta()
                return
            except OSError:
                continue

    def _count(self) -> None:
        events, texts = (self._streams[name] for name in (EVENTS_BLOCKS, TEXTS_BLOCKS))
        dropped = self.meta.get("dropped") or {}
        self.meta["events"], self.meta["texts"] = (
            stream.written - dropped.get(name, 0) for stream, name in ((events, "events"), (texts, "texts"))
        )
        if events.lost or texts.lost:
            self.meta["lost"] = {**self.meta.get("lost", {}), "not written": events.lost + texts.lost}

    def _fail(self, error: OSError) -> None:
        if self.error is None:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "the disk is full" if full else error.strerror or str(error)
            self.error = f"cannot write {self.path}: {reason}; what was recorded before is kept"
            self.meta["error"] = self.error

    def _write_meta(self) -> None:
        meta = self.meta if self.redaction is None else self.redaction.meta(self.meta)
        data = json.dumps(meta, indent=1, ensure_ascii=False).encode("utf-8", "replace")
        self._folder.write_whole(META, data, durable=self.meta["finished"])


def read_trace(path: Path | str) -> Trace:
    """Read a trace, finished or not. Raises TraceDamaged with one sentence if there is nothing to read."""
    path = Path(path)
    folder = _opened(path)
    try:
        meta = _read_meta(path, folder)
        if meta["finished"]:
            try:
                return _read_parquet(path, folder, meta)
            except TraceDamaged:
                raise
            except (
                OSError,
                ValueError,
                TypeError,
                NotImplementedError,
                MemoryError,
            ) as error:  # pyarrow raises any of them
                if not _is_there(folder, EVENTS_BLOCKS):
                    raise TraceDamaged(f"{path} is damaged: {_first_line(error)}") from None
        return _read_blocks(path, folder, meta)
    finally:
        os.close(folder)


def _opened(path: Path) -> int:
    try:
        return open_folder(path)
    except OSError as error:
        reason = MISSING.get(error.errno or 0)
        if reason is not None:
            raise TraceMissing(f"cannot read {path}: {reason}") from None
        raise TraceDamaged(f"cannot read {path}: {error.strerror or 'it cannot be opened'}") from None


def _read_parquet(path: Path, folder: int, meta: dict[str, Any]) -> Trace:
    from cvtrace.tracer import parquet

    with (
        parquet.events_file(open_regular(folder, EVENTS_PARQUET)) as events,
        parquet.texts_file(open_regular(folder, TEXTS_PARQUET)) as texts,
    ):
        check_room(path, events.rows, texts.rows, events.size + texts.size)
        return PackedTrace(path, meta, _packed(events), texts.read(), meta.get("error"))


def _packed(file: TraceFile) -> EventColumns:
    """Pack the events part by part, so that they are never in memory as records. Raises OSError or ValueError."""
    from cvtrace.tracer.arrow import release_unused

    parts: list[Part] = []
    scratch = Scratch()
    for columns in file.parts(PART_EVENTS):
        part = Part.of(columns, scratch)
        if part is None or (parts and not parts[-1].precedes(columns)):
            return EventColumns.of(in_order(file.read()))  # another program has written them in another order
        parts.append(part)
    release_unused()
    return EventColumns(tuple(parts), scratch)


def _is_there(folder: int, name: str) -> bool:
    try:
        open_regular(folder, name).close()
    except OSError:
        return False
    return True


def _read_blocks(path: Path, folder: int, meta: dict[str, Any]) -> Trace:
    try:
        with open_regular(folder, EVENTS_BLOCKS) as event_file, open_regular(folder, TEXTS_BLOCKS) as text_file:
            begins = begins_of(meta)
            sources = [BlockSource(file.fileno(), at) for file, at in zip((event_file, text_file), begins, strict=True)]
            check_room(path, *(source.length // size for source, size in zip(sources, SIZES, strict=True)))
            (events, damage), (texts, text_damage) = (
                read_records(source, dtype) for source, dtype in zip(sources, (EVENT, TEXT), strict=True)
            )
    except (OSError, MemoryError) as error:
        raise TraceDamaged(f"{path} is damaged: {_first_line(error)}") from None
    events, texts = (in_order(kept(records, begin_of(meta))) for records in (events, texts))
    start_ns = meta["clock"].get("start_ns")
    where = "before its first event"
    if len(events):
        start_ns = int(start_ns) if isinstance(start_ns, int) else int(events["ts"][0])
        where = f"at {(int(events['ts'][-1]) - start_ns) / 1e9:.1f} s"
    if meta.get("error"):
        why = str(meta["error"])
    elif is_locked(folder):
        why = "it is still being recorded"
    else:
        why = "the recorder was killed before it could finish"
    detail = damage or text_damage
    sentence = f"the trace ends {where}: {why}" + (f" ({detail})" if detail else "")
    return Trace(path, meta, events, texts, sentence)


def _read_meta(path: Path, folder: int) -> dict[str, Any]:
    try:
        meta = read_meta_at(folder)
    except TooLarge as error:
        raise TraceTooLarge(f"{path} is not read: {error}") from None
    if not isinstance(meta, dict) or not str(meta.get("schema", "")).startswith("cvtrace-trace/"):
        raise TraceDamaged(_no_meta(path, os.listdir(folder)))
    if meta["schema"] != SCHEMA:
        schema = str(meta["schema"])[:80]
        raise TraceDamaged(f"{path} is in the format {schema} of a newer cvtrace: update cvtrace to read it")
    for name, kind in META_TYPES.items():
        if not isinstance(meta.setdefault(name, kind()), kind):
            raise TraceDamaged(f"{path} is damaged: {META} has no proper {name}")
    meta["finished"] = meta.get("finished") is True
    meta["clock"] = starting_later(meta)
    return meta


def _no_meta(path: Path, names: list[str]) -> str:
    if not names:
        return f"{path} is an empty folder, not a trace"
    if META in names:
        return f"{path} is not a trace: its {META} is not one of cvtrace"
    if EVENTS_BLOCKS in names or EVENTS_PARQUET in names:
        return f"{path} is damaged: its {META} is missing"
    return f"{path} is not a trace: it has no {META}"


def _first_line(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or [type(error).__name__])[0]
