"""The grammar of a CVMFS client: what it does in system calls for each FUSE request and each download, as strace saw it.

`Grammar.of` reads the lines of `strace -f -yy -xx -s 128`. What differs from run to run is dropped: hashes, descriptors, threads, times,
and how many pieces an answer of the server came in.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

OPCODES = {1: "LOOKUP", 14: "OPEN", 15: "READ", 18: "RELEASE"}

TOUCH = "touch on quota pipe"
INSERT = "insert on quota pipe, one write"
PREAD = "pread64 object"
CLOSE = "close object"
LAST_WRITE = "write txn, the rest"
RECEIVING = "receive, write 4096 bytes at a time"
HIT = ("open object", TOUCH)
MISS = (
    "open object: ENOENT",
    "open object: ENOENT",
    "create txn",
    "hand over job",
    "read result",
    LAST_WRITE,
    "open txn to read",
    "close txn",
    "rename txn to cache",
    INSERT,
)
DOWNLOAD = ("GET", RECEIVING)

_RECEIVE = "receive"
_PIECE = "write txn, 4096 bytes"

_LINE = re.compile(r"^(?P<tid>\d+) +\d+\.\d+ (?P<rest>.*)$")
_CALL = re.compile(r"^(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\w+)(?P<after>.*)$")
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")
_CACHE_PATH = re.compile(r"(?:^|/)[0-9a-f]{2}/[0-9a-f]{38}$")
_FIRST_FD = re.compile(r"^\d+<(?P<file>[^>]*)>")
_STRING = re.compile(r'"(?P<text>[^"]*)"')


@dataclass
class Grammar:
    """The distinct sequences seen: of a worker's calls for a request, and of the download thread's for a job."""

    requests: dict[str, set[tuple[str, ...]]] = field(default_factory=lambda: defaultdict(set))
    downloads: set[tuple[str, ...]] = field(default_factory=set)
    read_bytes: set[int] = field(default_factory=set)
    """How much READ requests asked for."""

    def shapes(self, name: str) -> set[tuple[str, ...]]:
        """Return a request's sequences with every hit and every miss, call for call, as one word: "hit", "miss"."""
        return {_folded(words) for words in self.requests[name]}

    @classmethod
    def of(cls, lines: Iterable[str], catalog: str = "-") -> Grammar:
        """Read a log; reads of the file `catalog` are left out, for how a client reads its catalog is its own affair."""
        grammar = cls()
        running: dict[str, tuple[str, list[str]]] = {}
        jobs: dict[str, list[str]] = {}
        for tid, word in _words(lines, catalog):
            if word.startswith("request "):
                name, _, size = word.removeprefix("request ").partition(" ")
                running[tid] = (name, [])
                grammar.read_bytes |= {int(size)} if size else set()
            elif word == "take job":
                jobs[tid] = []
            elif word == "answer" and tid in running:
                name, words = running.pop(tid)
                grammar.requests[name].add(tuple(words))
            elif word == "report result" and tid in jobs:
                grammar.downloads.add(tuple(_collapsed(jobs.pop(tid))))
            elif tid in jobs:
                jobs[tid].append(word)
            elif tid in running:
                running[tid][1].append(LAST_WRITE if word == _PIECE else word)
        return grammar


def _folded(words: tuple[str, ...]) -> tuple[str, ...]:
    folded: list[str] = []
    while words:
        for name, sequence in (("hit", HIT), ("miss", MISS), (words[0], words[:1])):
            if words[: len(sequence)] == sequence:
                folded.append(name)
                words = words[len(sequence) :]
                break
    return tuple(folded)


def _words(lines: Iterable[str], catalog: str) -> Iterator[tuple[str, str]]:
    unfinished: dict[str, str] = {}
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        tid, tail = match["tid"], match["rest"]
        if tail.endswith("<unfinished ...>"):
            unfinished[tid] = tail.removesuffix("<unfinished ...>")
            continue
        if tail.startswith("<... "):
            tail = unfinished.pop(tid, "") + tail.partition(" resumed>")[2]
        call = _CALL.match(tail)
        word = _word(call["name"], call["arguments"], call["result"], catalog) if call else None
        if word is not None:
            yield tid, word


def _word(name: str, arguments: str, result: str, catalog: str) -> str | None:
    """Return what a call means in the grammar, or None when it has no place there."""
    strings = [_text(match["text"]) for match in _STRING.finditer(arguments)]
    first = _FIRST_FD.match(arguments)
    file = _text(first["file"]).decode("utf-8", "replace") if first else ""
    if file.startswith("/dev/fuse"):
        return _fuse_word(name, strings)
    if name == "openat" and strings:
        return _open_word(strings[-1].decode(), arguments, result)
    if name == "rename":
        return "rename txn to cache"
    if name in ("sendto", "recvfrom") and file.startswith("TCP") and not result.startswith("-"):
        return "GET" if name == "sendto" else _RECEIVE
    if name in ("read", "write") and file.startswith("pipe:"):
        return _pipe_word(name, int(result))
    if name == "write" and "/txn/fetch" in file:
        return _PIECE if result == "4096" else LAST_WRITE
    if name == "pread64" and _CACHE_PATH.search(file):
        return None if file.endswith(catalog) else PREAD
    if name == "close" and "/txn/fetch" in file:
        return "close txn"
    return CLOSE if name == "close" and _CACHE_PATH.search(file) else None


def _fuse_word(name: str, strings: list[bytes]) -> str | None:
    if name == "read" and strings:
        opcode = int.from_bytes(strings[0][4:8], "little")
        size = f" {int.from_bytes(strings[0][56:60], 'little')}" if OPCODES.get(opcode) == "READ" else ""
        return f"request {OPCODES.get(opcode, opcode)}{size}"
    return "answer" if name == "writev" else None


def _open_word(path: str, arguments: str, result: str) -> str | None:
    if path.startswith("./txn/fetch"):
        return "create txn" if "O_RDWR|O_CREAT|O_EXCL" in arguments else "open txn to read"
    if _CACHE_PATH.search(path) and "O_RDONLY" in arguments:
        return "open object: ENOENT" if result == "-1" else "open object"
    return None


def _pipe_word(name: str, size: int) -> str | None:
    """Tell the messages on pipes by their sizes: the address of a job, an outcome, and the quota manager's structs."""
    if name == "read":
        return {8: "take job", 4: "read result"}.get(size)
    if size > 48:
        return INSERT
    return {8: "hand over job", 4: "report result", 48: TOUCH}.get(size)


def _collapsed(words: list[str]) -> Iterator[str]:
    """Reduce receiving and writing by turns, as often as it takes, to one word."""
    before = ""
    for word in words:
        word = RECEIVING if word in (_RECEIVE, _PIECE) else word
        if word != before:
            yield word
        before = word


def _text(escaped: str) -> bytes:
    return _HEX.sub(lambda match: bytes.fromhex(match[0].replace("\\x", "")).decode("latin-1"), escaped).encode(
        "latin-1"
    )
