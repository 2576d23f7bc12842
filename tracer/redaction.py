"""`--redact`: names of files and folders become hashes before anything reaches the disk.

`docs/security.md` says what that covers, and `UNKNOWABLE` what it cannot know. Each name of a path is hashed by itself, with a key that is made for this trace and kept nowhere: equal names stay equal, so
that paths still join (a LOOKUP to its parent, an open to its folder), and no list of likely names can be tried out.
The names that lead to the mounts stay, as do content hashes: without them fetches cannot be distinguished.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from cvtrace.probes.events import TEXT_MAX, Kind, Texts

NO_NAMES: Final = frozenset({Kind.HTTP_RECV})
"""Kinds whose text holds no name."""
OF_CLIENT: Final = frozenset({Kind.CACHE_OPEN, Kind.CACHE_RENAME, Kind.HTTP_SEND})
"""Kinds whose text may hold content hashes, which stay."""

UNKNOWABLE: Final = (
    "names are hashed (--redact), except names of long options, types of operators, and the folders of the mounts; content hashes, hosts of "
    "servers and proxies, sizes, times and numbers are not hashed, so anyone who can read the repository can find out which of its files were read"
)
"""What a redacted trace still shows."""

OBJECT: Final = re.compile(r"[0-9a-f]{2}|[0-9a-f]{38,}(?:-[a-z0-9]+)?[A-Z]?|fetch\w{6}")
"""Names that the client's cache and servers make of content hashes, and its temporary files."""

CLEAR: Final = frozenset(
    {"", ".", "..", "cvmfs", "data", "txn", ".cvmfspublished", ".cvmfswhitelist", ".cvmfsreflog", "http:", "https:"}
)
IN_TEXT: Final = re.compile(r"(?<![^\s:;,'\"`()/])[^\s:;,'\"`()]*/[^\s:;,'\"`()]+")
"""A path within a sentence, or a part of one that holds blanks."""

LONG_OPTION: Final = re.compile(r"--[A-Za-z][A-Za-z0-9_-]{0,39}")
SHORT_OPTION: Final = re.compile(r"-[A-Za-z]")
"""Whatever follows the letter may be its value: `-p/home/ann`, `-psecret`."""
DISTINCTIVE: Final = re.compile(r"[\w.+-]{3,}\.[\w+-]+|[\w.+-]{8,}")
"""Names of files, and long words: short ones are in any sentence by themselves."""
LAYER: Final = re.compile(r"(?:^|[./_])(?:layers?|blocks?|blk|h)[./_](\d{1,6})(?=[./_]|$)", re.IGNORECASE)
"""As analysis.headers.tensor looks for it."""

PREFIXES: Final = ("Part of ",)
LETTERS: Final = 12


class Redaction:
    """Hashes the names in the paths of one trace."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._names: dict[str, str] = {name: name for name in CLEAR}
        self._names_in_arguments: set[str] = set()

    def show(self, paths: Iterable[str]) -> None:
        """Let the names in these paths stay: they lead to the mounts."""
        for path in paths:
            self._names.update((name, name) for name in path.split("/"))

    def name(self, name: str) -> str:
        """Return what stands for one name."""
        known = self._names.get(name)
        if known is None:
            digest = hashlib.blake2s(name.encode("utf-8", "surrogateescape"), key=self._key)
            known = self._names[name] = digest.hexdigest()[:LETTERS]
        return known

    def path(self, path: str, *, of_client: bool = False) -> str:
        """Return what stands for a path, or for a single name; of the client's paths content hashes stay."""
        for prefix in PREFIXES:
            if path.startswith(prefix):
                return prefix + self.path(path.removeprefix(prefix), of_client=of_client)
        parts = path.split("/")
        return "/".join(part if of_client and OBJECT.fullmatch(part) else self.name(part) for part in parts)

    def node(self, name: str) -> str:
        """Return what stands for a node of a model's graph: its layer stays, by which times are added up."""
        layer = LAYER.search(name)
        return f"layers.{layer[1]}/{self.name(name)}" if layer else self.name(name)

    def texts(self, texts: Texts) -> Texts:
        """Return a copy of the texts with their paths hashed."""
        texts = texts.copy()
        kinds = texts["kind"]
        for index in np.flatnonzero(~np.isin(kinds, list(NO_NAMES))).tolist():
            text = bytes(texts["text"][index]).decode("utf-8", "surrogateescape")
            hashed = self._hashed(int(kinds[index]), text)
            data = hashed.encode("utf-8", "surrogateescape")
            texts["text"][index] = data[:TEXT_MAX]
            texts["size"][index] = min(len(data), 0xFFFF)
        return texts

    def _hashed(self, kind: int, text: str) -> str:
        """Return what stands for a text of an event."""
        if kind == Kind.HTTP_SEND:
            return self._request(text)
        if kind == Kind.IMPORT:  # the parts of a module's name are those of its path
            return ".".join(map(self.name, text.split(".")))
        if kind == Kind.PHASE:  # as the script calls it
            return self.name(text)
        return self.path(text, of_client=kind in OF_CLIENT)

    def _request(self, line: str) -> str:
        method, _, target_and_version = line.partition(" ")
        target, blank, version = target_and_version.rpartition(" ")
        scheme, separator, address = target.rpartition("://")
        host, slash, path = address.partition("/") if separator else ("", "", address)
        return f"{method} {scheme}{separator}{host}{slash}{self.path(path, of_client=True)}{blank}{version}"

    def meta(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        """Return meta.json with the names in it hashed, in sentences too: of paths, user, host, and all of the command line."""
        target = meta.get("target") or {}
        self._learn([*map(str, target.get("argv") or ()), str(target.get("cwd") or "")])
        redacted = {name: value if name in ("schema", "target") else self._value(value) for name, value in meta.items()}
        if target:
            redacted["target"] = {
                **target,
                "argv": self._arguments([str(word) for word in target.get("argv") or ()]),
                "cwd": self.path(str(target.get("cwd") or "")),
                "user": self.name(str(target.get("user") or "")),
            }
        if meta.get("host"):
            redacted["host"] = self.name(str(meta["host"]))
        for hashed, mount in zip(redacted.get("mounts") or (), meta.get("mounts") or (), strict=True):
            hashed |= {name: self.path(mount[name]) for name in ("path", "workspace") if mount.get(name)}
        for hashed, mount in zip(redacted.get("other_mounts") or (), meta.get("other_mounts") or (), strict=True):
            paths = [self.path(str(path)) for path in mount["paths"]]
            hashed |= {"path": paths[0], "paths": paths, "source": self.path(str(mount["source"]))}
        return redacted

    def _arguments(self, argv: list[str]) -> list[str]:
        """Names of options stay; their values and all other arguments are hashed: any of them may be a path, or worse."""
        end = argv.index("--", 1) if "--" in argv[1:] else len(argv)
        return [self._argument(word) if number <= end else self.path(word) for number, word in enumerate(argv)]

    def _argument(self, word: str) -> str:
        option, equals, value = word.partition("=")
        if LONG_OPTION.fullmatch(option):
            return option + equals + self.path(value)
        if not SHORT_OPTION.match(word):
            return self.path(word)
        value = word[2:]
        return word[:2] + ("=" + self.path(value[1:]) if value.startswith("=") else self.path(value))

    def _learn(self, words: list[str]) -> None:
        """Take note of names that a sentence may hold by themselves, such as that of the script."""
        names = {name for word in words for name in re.split(r"[/=\s]", word)}
        self._names_in_arguments |= {
            name
            for name in names
            if DISTINCTIVE.fullmatch(name) and name not in self._names and not name.startswith("-")
        }

    def _sentence(self, text: str) -> str:
        text = IN_TEXT.sub(lambda match: self.path(match[0]), text)
        for name in sorted(self._names_in_arguments, key=len, reverse=True):
            if name in text:
                text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", self.name(name), text)
        return text

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._sentence(value)
        if isinstance(value, list):
            return [self._value(each) for each in value]
        if isinstance(value, dict):
            return {name: self._value(each) for name, each in value.items()}
        return value
