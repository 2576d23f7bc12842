"""What strace prints -> numbers and bytes: escaped strings, flags, error names, FUSE headers, HTTP heads.

FUSE layouts: include/uapi/linux/fuse.h. Numbers of flags and errors: x86-64.
"""

from __future__ import annotations

import errno
import re
import signal
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cvtrace.probes import wire
from cvtrace.probes.events import AT_FDCWD, Opcode
from cvtrace.probes.layouts import struct_format

ERRNO: Final = {name.encode(): number for number, name in errno.errorcode.items()} | {
    b"EWOULDBLOCK": errno.EAGAIN,
    b"ENOTSUPP": 524,
    b"ERESTARTSYS": 512,
    b"ERESTARTNOINTR": 513,
    b"ERESTARTNOHAND": 514,
    b"ERESTART_RESTARTBLOCK": 516,
}
SIGNALS: Final = {each.name.encode(): int(each) for each in signal.Signals}

OPEN_FLAGS: Final = {
    b"O_RDONLY": 0,
    b"O_WRONLY": 1,
    b"O_RDWR": 2,
    b"O_ACCMODE": 3,
    b"O_CREAT": 0o100,
    b"O_EXCL": 0o200,
    b"O_NOCTTY": 0o400,
    b"O_TRUNC": 0o1000,
    b"O_APPEND": 0o2000,
    b"O_NONBLOCK": 0o4000,
    b"O_DSYNC": 0o10000,
    b"FASYNC": 0o20000,
    b"O_DIRECT": 0o40000,
    b"O_LARGEFILE": 0o100000,
    b"O_DIRECTORY": 0o200000,
    b"O_NOFOLLOW": 0o400000,
    b"O_NOATIME": 0o1000000,
    b"O_CLOEXEC": 0o2000000,
    b"O_SYNC": 0o4010000,
    b"O_PATH": 0o10000000,
    b"O_TMPFILE": 0o20200000,
}

ESCAPE: Final = re.compile(rb"\\(?:[0-7]{1,3}|x[0-9a-f]{2}|.|$)", re.DOTALL)
ESCAPED: Final = (
    {b"\\%o" % byte: bytes([byte]) for byte in range(256)}
    | {b"\\%02o" % byte: bytes([byte]) for byte in range(8)}
    | {b"\\%03o" % byte: bytes([byte]) for byte in range(256)}
    | {b"\\x%02x" % byte: bytes([byte]) for byte in range(256)}
    | {
        b"\\" + name: byte
        for name, byte in zip((b"t", b"n", b"v", b"f", b"r"), (b"\t", b"\n", b"\v", b"\f", b"\r"), strict=True)
    }
    | {b'\\"': b'"', b"\\\\": b"\\", b"\\<": b"<", b"\\>": b">", b"\\": b""}
)
"""Escape -> byte. A lone backslash at the end is an escape that was cut."""

STRING_END: Final = re.compile(rb'(?<!\\)(?:\\\\)*"')
INTEGER: Final = re.compile(rb"-?\d+")
NUMBER_AFTER: Final = re.compile(rb"(?:\.\.\.)?, (\d+)")

NO_REPLY: Final = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT})
"""Requests that the daemon does not answer."""


def string_at(text: bytes, start: int = 0) -> tuple[bytes, int]:
    """Return the first quoted string at or after `start`, still escaped, and the position after its closing quote."""
    begin = text.index(b'"', start) + 1
    end = text.find(b'"', begin)
    if end > begin and text[end - 1] == 92:  # a backslash: the quote may be part of the string
        match = STRING_END.search(text, begin)
        end = match.end() - 1 if match else -1
    if end < 0:
        raise ValueError("string without an end")
    return text[begin:end], end + 1


def _escaped_byte(match: re.Match[bytes]) -> bytes:
    return ESCAPED[match[0]]


def unescape(escaped: bytes, limit: int | None = None) -> bytes:
    """Return the bytes of an escaped string, of either form (`\\x2f` throughout, or octal), at most `limit` of them."""
    if limit is not None:
        escaped = escaped[: 4 * limit]  # no byte takes more than four characters
    if escaped.startswith(b"\\x"):
        raw = bytes.fromhex(escaped[: len(escaped) & ~3].replace(b"\\x", b"").decode("ascii"))
    elif b"\\" in escaped:
        raw = ESCAPE.sub(_escaped_byte, escaped)
    else:
        raw = escaped
    return raw if limit is None else raw[:limit]


def leading_int(text: bytes) -> int:
    """Return the number that `text` begins with: a descriptor in front of its decoration."""
    match = INTEGER.match(text)
    if match is None:
        raise ValueError("not a number")
    return int(match[0])


def last_int(text: bytes) -> int:
    """Return the last of the arguments as a number."""
    return int(text[text.rindex(b", ") + 2 :], 0)


def number_after(text: bytes, position: int) -> int:
    """Return the argument that follows a string which ended at `position`; 0 where the log does not say."""
    match = NUMBER_AFTER.match(text, position)
    return int(match[1]) if match else 0


def dirfd_of(text: bytes) -> int:
    """Return the leading directory descriptor as u64."""
    return AT_FDCWD if text.startswith(b"AT_FDCWD") else leading_int(text)


@lru_cache(maxsize=512)
def flag_bits(text: bytes, table: str = "open") -> int:
    """Return `O_RDWR|O_CREAT` as a number; names that are not known count nothing, numbers count themselves."""
    names = OPEN_FLAGS if table == "open" else FUTEX_OPERATIONS
    bits = 0
    for name in text.split(b"|"):
        name = name.strip()
        bits |= int(name, 0) if name[:1].isdigit() else names.get(name, 0)
    return bits


OPEN_FLAGS_AFTER: Final = re.compile(rb"(?:\.\.\.)?, (?:\{flags=)?([\w|]+)")
IOV_LEN: Final = re.compile(rb"iov_len=(\d+)")


def open_flags(text: bytes, position: int) -> int:
    """Return the flags that follow the path of an open; creat() has none of its own."""
    match = OPEN_FLAGS_AFTER.match(text, position)
    return flag_bits(match[1]) if match else 0


def iov_bytes(text: bytes) -> int:
    """Return the sum of the lengths of a printed iovec, 0 if there is none."""
    if b"iov_len=" not in text:
        return 0
    return sum(int(length) for length in IOV_LEN.findall(text))


FUTEX_OPERATIONS: Final = {
    b"FUTEX_WAIT": 0,
    b"FUTEX_WAIT_PRIVATE": 128,
    b"FUTEX_WAIT_BITSET": 9,
    b"FUTEX_WAIT_BITSET_PRIVATE": 137,
    b"FUTEX_WAIT_REQUEUE_PI": 11,
    b"FUTEX_WAIT_REQUEUE_PI_PRIVATE": 139,
    b"FUTEX_CLOCK_REALTIME": 256,
}

REQUEST: Final = struct.Struct(struct_format(wire.FUSE_IN))
READ_ARGUMENTS: Final = struct.Struct(struct_format(wire.FUSE_READ_IN, fields=3))
REPLY: Final = struct.Struct(struct_format(wire.FUSE_OUT))
REQUEST_BYTES: Final = REQUEST.size
LOOKUP_BYTES: Final = REQUEST_BYTES + 256


@dataclass(frozen=True, slots=True)
class Request:
    """fuse_in_header, with the arguments of a READ and the name of a LOOKUP."""

    opcode: int
    unique: int
    nodeid: int
    pid: int
    fh: int = 0
    offset: int = 0
    size: int = 0
    name: bytes = b""
    name_size: int = 0


def request_of(escaped: bytes, length: int) -> Request:
    """Decode what a read() of /dev/fuse returned; raises ValueError or struct.error if it is no request."""
    head = unescape(escaped, 64)
    size, opcode, unique, nodeid, _uid, _gid, pid, _extension = REQUEST.unpack_from(head)
    if size != length:
        raise ValueError("not a FUSE request")
    if opcode == Opcode.READ:
        fh, offset, read_size = READ_ARGUMENTS.unpack_from(head, REQUEST_BYTES)
        return Request(opcode, unique, nodeid, pid, fh, offset, read_size)
    if opcode == Opcode.LOOKUP:
        name = unescape(escaped, LOOKUP_BYTES)[REQUEST_BYTES:].split(b"\0", 1)[0]
        return Request(opcode, unique, nodeid, pid, name=name, name_size=length - REQUEST_BYTES - 1)
    return Request(opcode, unique, nodeid, pid)


def signed32(number: int) -> int:
    """Return the low half of a u64 as i32."""
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >= 1 << 31 else number
