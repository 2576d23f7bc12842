"""Publish a folder: objects, then the catalog, the manifest last; clients always see a whole revision."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import sqlite3
import tempfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast, get_args

from cvtrace.lab.errors import LabError
from cvtrace.lab.publish import manifest as signed
from cvtrace.lab.publish.bundles import Bundle, bundles_in, mark_triggers
from cvtrace.lab.publish.catalog import Chunk, Entry, read_catalog, write_catalog
from cvtrace.lab.publish.chunker import DEFAULT_CHUNK_BYTES, Span, is_chunked, spans
from cvtrace.lab.publish.objects import DEFAULT_LEVEL, Compression, ObjectStore, StoredObject, Suffix
from cvtrace.lab.publish.signing import Keys, load_or_create_keys, sign_manifest, sign_whitelist
from cvtrace.lab.publish.tree import SourceItem, file_in, parse_at, plant, walk

DEFAULT_URL: Final = "http://127.0.0.1:8000"
"""Where `cvtrace lab serve` serves when no port is given."""

# Clients add a default domain to a name without a dot, so a dot is required.
_FQRN: Final = re.compile(r"(?=.{1,60}$)[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9][A-Za-z0-9_-]*)+", re.ASCII)


@dataclass(frozen=True)
class Published:
    """One publication."""

    fqrn: str
    revision: int
    root_hash: str
    """Hex SHA-1 of the catalog object."""
    store_path: Path
    """STORE/cvmfs/NAME."""
    key_path: Path
    """STORE/keys/NAME.pub."""
    config_path: Path
    """STORE/NAME.conf."""
    objects_added: int
    objects_reused: int
    bytes_added: int
    """Size of the added objects as stored."""
    bundles: tuple[Bundle, ...] = ()
    """Those of the folder that was published."""


def publish(
    source: Path,
    *,
    fqrn: str,
    store: Path,
    at: str = "/",
    chunk_size: int = DEFAULT_CHUNK_BYTES,
    compression: Compression = "zlib",
    level: int = DEFAULT_LEVEL,
    url: str = DEFAULT_URL,
) -> Published:
    """Publish the content of `source` as directory `at` of the next revision of the repository `fqrn`.

    What the repository had at `at` is replaced, what it had elsewhere stays. If `source` is a file it is added to that directory, and all else stays. Files larger than `chunk_size`
    bytes are stored in chunks. `url` is the origin named in the client configuration. Memory: two chunks
    per processor. Raises LabError.
    """
    _check(source, fqrn, store, chunk_size, compression)
    path = parse_at(at)
    try:
        with _locked(store, fqrn):
            return _publish(source, fqrn, store.resolve(), path, chunk_size, compression, level, url)
    except OSError as error:
        raise LabError(f"cannot publish into {store}: {error.strerror}: {error.filename}") from error


def write_client_config(store: Path, fqrn: str, url: str) -> Path:
    """Write STORE/NAME.conf, with which a real client mounts the repository from the origin at `url`."""
    store = store.resolve()
    config = store / f"{fqrn}.conf"
    config.write_text(
        "# Configuration of a CVMFS client, read by a shell. See docs/lab.md for how to mount with it.\n"
        f"CVMFS_SERVER_URL={url}/cvmfs/{fqrn}\n"
        "CVMFS_HTTP_PROXY=DIRECT\n"
        f"CVMFS_PUBLIC_KEY={shlex.quote(f'{store}/keys/{fqrn}.pub')}\n"
        "CVMFS_USE_GEOAPI=no\n"
    )
    return config


def _publish(
    source: Path,
    fqrn: str,
    store: Path,
    at: bytes,
    chunk_bytes: int,
    compression: Compression,
    level: int,
    url: str,
) -> Published:
    repository = store / "cvmfs" / fqrn
    objects = ObjectStore(repository, level)
    keys = load_or_create_keys(store / "keys", fqrn)
    before = signed.read_manifest(repository / signed.MANIFEST)
    now_s = max(int(time.time()), before.published_s if before else 0)

    entries, items = _tree(source, at, compression, _entries_of(objects, before) if before else [], now_s)
    new, added = _add_content(items, objects, chunk_bytes)
    entries = mark_triggers([*entries, *new])

    revision = before.revision + 1 if before else 1
    catalog, catalog_bytes = _add_catalog(entries, objects, revision, before.root_hash if before else "", now_s)
    certificate = objects.add(keys.certificate_pem, Suffix.CERTIFICATE)
    manifest = signed.Manifest(fqrn, revision, catalog.digest.hex(), catalog_bytes, certificate.digest.hex(), now_s)
    _write_signed(repository, manifest, keys)
    added += [catalog, certificate]
    return Published(
        fqrn=fqrn,
        revision=revision,
        root_hash=manifest.root_hash,
        store_path=repository,
        key_path=keys.public_path,
        config_path=write_client_config(store, fqrn, url),
        objects_added=sum(item.added for item in added),
        objects_reused=sum(not item.added for item in added),
        bytes_added=sum(item.stored_bytes for item in added if item.added),
        bundles=bundles_in(items, entries),
    )


def _tree(
    source: Path, at: bytes, compression: Compression, before: list[Entry], now_s: int
) -> tuple[list[Entry], list[SourceItem]]:
    """Return what stays of the repository as it was `before`, and what is to be added: a folder in the place of `at`, or a file in it."""
    mtime_ns = now_s * 1_000_000_000
    if source.is_dir():
        return plant(at, before if at else [], mtime_ns), list(walk(source, at, compression))
    file = file_in(source, at, compression)
    return plant(file.entry.path, before, mtime_ns), [file]


def _add_content(
    items: list[SourceItem], objects: ObjectStore, chunk_bytes: int
) -> tuple[list[Entry], list[StoredObject]]:
    """Store the files of a tree, several at a time, and return its entries with their hashes."""
    ranges = [(item, span) for item in items if item.is_file for span in spans(item.entry.size_bytes, chunk_bytes)]

    def add(part: tuple[SourceItem, Span]) -> StoredObject:
        item, span = part
        suffix = Suffix.CHUNK if is_chunked(item.entry.size_bytes, chunk_bytes) else Suffix.FILE
        return objects.add(_read(item, span), suffix, item.entry.compression)

    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        stored = list(pool.map(add, ranges))
    finally:
        pool.shutdown(cancel_futures=True)
    parts: dict[bytes, list[Chunk]] = {}
    for (item, span), part in zip(ranges, stored, strict=True):
        parts.setdefault(item.entry.path, []).append(Chunk(span.offset, span.size_bytes, part.digest))
    return [_with_content(item.entry, parts.get(item.entry.path, []), chunk_bytes) for item in items], stored


def _with_content(entry: Entry, parts: list[Chunk], chunk_bytes: int) -> Entry:
    if is_chunked(entry.size_bytes, chunk_bytes) and parts:
        return replace(entry, chunks=tuple(parts))
    return replace(entry, digest=parts[0].digest) if parts else entry


def _read(item: SourceItem, span: Span) -> bytes:
    name = item.source
    try:
        with item.source.open("rb", buffering=0) as file:
            content = os.pread(file.fileno(), span.size_bytes, span.offset) if span.size_bytes else b""
            changed = os.fstat(file.fileno()).st_mtime_ns != item.entry.mtime_ns
    except OSError as error:
        raise LabError(f"cannot read {name}: {error.strerror}") from error
    if changed or len(content) != span.size_bytes:
        raise LabError(f"{name} changed while it was published; publish again when nobody writes to it")
    return content


def _add_catalog(
    entries: list[Entry], objects: ObjectStore, revision: int, previous: str, now_s: int
) -> tuple[StoredObject, int]:
    """Store the catalog; return it and its size before compression."""
    with tempfile.TemporaryDirectory(prefix="cvtrace-catalog-") as folder:
        file = Path(folder) / "catalog"
        write_catalog(file, entries, revision=revision, previous=previous, now_s=now_s)
        content = file.read_bytes()
    return objects.add(content, Suffix.CATALOG), len(content)


def _entries_of(objects: ObjectStore, manifest: signed.Manifest) -> list[Entry]:
    """Return the entries of a published revision."""
    with tempfile.TemporaryDirectory(prefix="cvtrace-catalog-") as folder:
        file = Path(folder) / "catalog"
        try:
            file.write_bytes(objects.read(bytes.fromhex(manifest.root_hash), Suffix.CATALOG))
            return read_catalog(file)
        except (ValueError, zlib.error, sqlite3.DatabaseError) as error:
            raise LabError(
                f"the catalog of revision {manifest.revision} is damaged ({error}); publish at / to replace it"
            ) from error


def _write_signed(repository: Path, manifest: signed.Manifest, keys: Keys) -> None:
    whitelist = signed.whitelist_text(manifest.fqrn, keys.fingerprint, int(time.time()))
    letters = {  # the manifest last: with it the new revision is there
        signed.WHITELIST: sign_whitelist(whitelist, keys),
        signed.MANIFEST: sign_manifest(signed.manifest_text(manifest), keys),
    }
    for name, letter in letters.items():
        incoming = repository / f"{name}.new"
        incoming.write_bytes(letter)
        incoming.replace(repository / name)


@contextlib.contextmanager
def _locked(store: Path, fqrn: str) -> Iterator[None]:
    """Let one publication of a repository wait for the other."""
    folder = store / "keys"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{fqrn}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check(source: Path, fqrn: str, store: Path, chunk_bytes: int, compression: str) -> None:
    if not source.is_dir() and not source.is_file():
        raise LabError(f"{source} is not a folder, nor a file; name the folder whose content is to be published")
    if not _FQRN.fullmatch(fqrn):
        raise LabError(
            f"'{fqrn}' is not the name of a repository; "
            "use letters, digits and '-' with a dot, such as models.example.org"
        )
    if chunk_bytes < 1:
        raise LabError("the chunk size must be at least one byte")
    if compression not in cast("tuple[str, ...]", get_args(Compression)):
        raise LabError(f"'{compression}' is not a compression; use zlib or none")
    if store.resolve().is_relative_to(source.resolve()):
        raise LabError(f"the store {store} lies inside {source}, which is published; name a folder outside of it")
