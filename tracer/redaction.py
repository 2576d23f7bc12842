"""`--redact`: names of files and folders become hashes before anything reaches the disk.

Each name of a path is hashed by itself, with a key that is made for this trace and kept nowhere: equal names stay equal, so
that paths still join (a LOOKUP to its parent, an open to its folder), and no list of likely names can be tried out.
The names that lead to the mounts stay, as do content hashes: without them fetches cannot be told apart.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from cvtrace.probes.events import TEXT_MAX, Kind, Texts

NO_PATHS: Final = frozenset({Kind.HTTP_RECV, Kind.PHASE})
"""Kinds whose text holds no path."""

OBJECT: Final = re.compile(r"[0-9a-f]{2}|[0-9a-f]{38,}(?:-[a-z0-9]+)?[A-Z]?|fetch\w{6}")
"""Names that the client's cache and servers make of content hashes, and its temporary files."""

CLEAR: Final = frozenset(
    {"", ".", "..", "cvmfs", "data", "txn", ".cvmfspublished", ".cvmfswhitelist", ".cvmfsreflog", "http:", "https:"}
)
IN_TEXT: Final = re.compile(r"[^\s:;,'\"`()]*/[^\s:;,'\"`()]+")
"""A path within a sentence, or a part of one that holds blanks."""

PREFIXES: Final = ("Part of ",)
LETTERS: Final = 12


class Redaction:
    """Hashes the names in the paths of one trace."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._names: dict[str, str] = {name: name for name in CLEAR}

    def show(self, paths: Iterable[str]) -> None:
        """Let the names in these paths stay: they lead to the mounts."""
        for path in paths:
            self._names.update((name, name) for name in path.split("/"))

    def name(self, name: str) -> str:
        """Return what stands for one name."""
        known = self._names.get(name)
        if known is None:
            if OBJECT.fullmatch(name):
                known = name
            else:
                digest = hashlib.blake2s(name.encode("utf-8", "surrogateescape"), key=self._key)
                known = digest.hexdigest()[:LETTERS]
            self._names[name] = known
        return known

    def path(self, path: str) -> str:
        """Return what stands for a path, or for a single name."""
        for prefix in PREFIXES:
            if path.startswith(prefix):
                return prefix + self.path(path.removeprefix(prefix))
        return "/".join(map(self.name, path.split("/")))

    def texts(self, texts: Texts) -> Texts:
        """Return a copy of the texts with their paths hashed."""
        texts = texts.copy()
        kinds = texts["kind"]
        for index in np.flatnonzero(~np.isin(kinds, list(NO_PATHS))).tolist():
            given = bytes(texts["text"][index]).decode("utf-8", "surrogateescape")
            told = self._told(int(kinds[index]), given)
            data = told.encode("utf-8", "surrogateescape")
            texts["text"][index] = data[:TEXT_MAX]
            texts["size"][index] = min(len(data), 0xFFFF)
        return texts

    def _told(self, kind: int, given: str) -> str:
        """Return what stands for a text of an event."""
        if kind == Kind.HTTP_SEND:
            return self._request(given)
        if kind == Kind.IMPORT:  # the parts of a module's name are those of its path
            return ".".join(map(self.name, given.split(".")))
        return self.path(given)

    def _request(self, line: str) -> str:
        method, _, rest = line.partition(" ")
        target, blank, version = rest.rpartition(" ")
        scheme, separator, address = target.rpartition("://")
        host, slash, path = address.partition("/") if separator else ("", "", address)
        return f"{method} {scheme}{separator}{host}{slash}{self.path(path)}{blank}{version}"

    def meta(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        """Return meta.json with the paths in it hashed, in sentences too, and every argument of the target."""
        redacted = {name: value if name == "schema" else self._value(value) for name, value in meta.items()}
        if target := meta.get("target"):
            argv = [self._argument(str(word)) for word in target.get("argv") or ()]
            redacted["target"] |= {"argv": argv, "cwd": self.path(str(target.get("cwd") or ""))}
        for told, mount in zip(redacted.get("mounts") or (), meta.get("mounts") or (), strict=True):
            told |= {name: self.path(mount[name]) for name in ("path", "workspace") if mount.get(name)}
        for told, mount in zip(redacted.get("other_mounts") or (), meta.get("other_mounts") or (), strict=True):
            paths = [self.path(str(path)) for path in mount["paths"]]
            told |= {"path": paths[0], "paths": paths, "source": self.path(str(mount["source"]))}
        return redacted

    def _argument(self, word: str) -> str:
        """Options stay, their values and all other arguments are hashed: any of them may be a path."""
        if not word.startswith("-"):
            return self.path(word)
        option, equals, value = word.partition("=")
        return option + equals + self.path(value)

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return IN_TEXT.sub(lambda found: self.path(found[0]), value)
        if isinstance(value, list):
            return [self._value(each) for each in value]
        if isinstance(value, dict):
            return {name: self._value(each) for name, each in value.items()}
        return value
