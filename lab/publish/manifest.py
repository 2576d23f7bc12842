"""The two signed files at the root of a repository: .cvmfspublished and .cvmfswhitelist.

Format: cvmfs manifest.cc, whitelist.cc.
"""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvtrace.lab.errors import LabError

MANIFEST: Final = ".cvmfspublished"
WHITELIST: Final = ".cvmfswhitelist"
TTL_S: Final = 240
WHITELIST_DAYS: Final = 3650  # long: a store is published once and served for years; each publication renews it
MARK: Final = b"--\n"


@dataclass(frozen=True)
class Manifest:
    """What the repository is now; clients follow it to the catalog and the certificate."""

    fqrn: str
    revision: int
    root_hash: str
    """Hex SHA-1 of the catalog object."""
    catalog_bytes: int
    """Size of the catalog, not compressed."""
    certificate_hash: str
    published_s: int
    """Seconds since 1970; clients refuse a manifest older than the one they have."""


def manifest_text(manifest: Manifest) -> bytes:
    """Return the manifest as it is signed: one letter and its value per line."""
    lines = [
        f"C{manifest.root_hash}",
        f"B{manifest.catalog_bytes}",
        f"R{hashlib.md5(b'').hexdigest()}",
        f"D{TTL_S}",
        f"S{manifest.revision}",
        "Gno",
        "Ano",
        f"N{manifest.fqrn}",
        f"X{manifest.certificate_hash}",
        f"T{manifest.published_s}",
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def read_manifest(file: Path) -> Manifest | None:
    """Return the manifest in `file`, None when there is none; the signature is not checked.

    Raises LabError when it is damaged.
    """
    try:
        text, mark, _ = file.read_bytes().partition(MARK)
    except FileNotFoundError:
        return None
    fields = {line[:1]: line[1:] for line in text.decode("ascii", "replace").splitlines()}
    try:
        if not mark:
            raise KeyError("--")
        return Manifest(
            fqrn=fields["N"],
            revision=int(fields["S"]),
            root_hash=fields["C"],
            catalog_bytes=int(fields["B"]),
            certificate_hash=fields["X"],
            published_s=int(fields["T"]),
        )
    except (KeyError, ValueError) as error:
        raise LabError(
            f"{file} is damaged ({error}); remove {file.parent} to publish the repository from the start"
        ) from error


def whitelist_text(fqrn: str, fingerprint: str, now_s: int) -> bytes:
    """Return the whitelist as it is signed: made when, valid until when, for which name and certificate."""
    timestamp = datetime.datetime.fromtimestamp(now_s, datetime.UTC)
    expires = timestamp + datetime.timedelta(days=WHITELIST_DAYS)
    return f"{timestamp:%Y%m%d%H%M%S}\nE{expires:%Y%m%d%H%M%S}\nN{fqrn}\n{fingerprint}\n".encode()
