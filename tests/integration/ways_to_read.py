"""`python ways_to_read.py FOLDER LOG WAY…`: reads a fresh chunk of FOLDER/data in one way after the other, and logs what each took.

One line of JSON each: name, offset of the chunk, begin and end by the clock, seconds of them on a CPU, whether the kernel did it.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

CHUNK = 65536
APART = 8 * CHUNK
"""Chunks that are read lie so far apart that no readahead reaches the next."""
PAGE = 4096
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
MAP_PRIVATE, MAP_POPULATE = 2, 0x8000
MADV_WILLNEED, MADV_POPULATE_READ = 3, 22
O_DIRECT = os.O_DIRECT


def call(name: int, *arguments: int | ctypes.c_void_p | bytes | None) -> int:
    """Make a system call by its x86-64 number; raise OSError if it fails."""
    values = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = int(LIBC.syscall(ctypes.c_long(name), *values))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def descriptor(flags: int = 0) -> int:
    return os.open(Path(sys.argv[1]) / "data", os.O_RDONLY | flags)


def mapped(offset: int, flags: int = MAP_PRIVATE, prot: int = mmap.PROT_READ) -> int:
    """Map the chunk; return the address."""
    fd = descriptor()
    address = LIBC.mmap(None, CHUNK, prot, flags, fd, offset)
    os.close(fd)
    assert address not in (None, ctypes.c_void_p(-1).value)
    return int(address)


def buffer(size: int = CHUNK) -> mmap.mmap:
    return mmap.mmap(-1, size)


def read(offset: int) -> None:
    fd = descriptor()
    os.lseek(fd, offset, os.SEEK_SET)
    assert len(os.read(fd, CHUNK)) == CHUNK


def pread(offset: int) -> None:
    assert len(os.pread(descriptor(), CHUNK, offset)) == CHUNK


def readv(offset: int) -> None:
    fd = descriptor()
    os.lseek(fd, offset, os.SEEK_SET)
    assert os.readv(fd, [bytearray(CHUNK)]) == CHUNK


def preadv(offset: int) -> None:
    assert os.preadv(descriptor(), [bytearray(CHUNK)], offset) == CHUNK


def preadv2_nowait(offset: int) -> None:
    """What is not cached is refused; the fallback reads."""
    fd = descriptor()
    try:
        assert os.preadv(fd, [bytearray(CHUNK)], offset, os.RWF_NOWAIT) <= CHUNK
    except OSError as error:
        if error.errno not in REFUSED:
            raise
    assert os.preadv(fd, [bytearray(CHUNK)], offset) == CHUNK


def direct(offset: int) -> None:
    assert os.preadv(descriptor(O_DIRECT), [buffer()], offset) == CHUNK


def sendfile(offset: int) -> None:
    with tempfile.TemporaryFile() as to:
        assert os.sendfile(to.fileno(), descriptor(), offset, CHUNK) == CHUNK


def splice(offset: int) -> None:
    out, into = os.pipe()
    assert 0 < os.splice(descriptor(), into, CHUNK, offset_src=offset) <= CHUNK
    os.close(out)


def copy_file_range(offset: int) -> None:
    with tempfile.TemporaryFile() as to:
        assert os.copy_file_range(descriptor(), to.fileno(), CHUNK, offset_src=offset) == CHUNK


def touch(offset: int) -> None:
    ctypes.string_at(mapped(offset), CHUNK)


def write_privately(offset: int) -> None:
    address = mapped(offset, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    for page in range(0, CHUNK, PAGE):
        ctypes.memset(address + page, 1, 1)


def populate(offset: int) -> None:
    mapped(offset, MAP_PRIVATE | MAP_POPULATE)


def madvise_populate(offset: int) -> None:
    call(28, mapped(offset), CHUNK, MADV_POPULATE_READ)


def madvise_willneed(offset: int) -> None:
    call(28, mapped(offset), CHUNK, MADV_WILLNEED)


def process_madvise(offset: int) -> None:
    remote = struct.pack("QQ", mapped(offset), CHUNK)
    call(440, os.pidfd_open(os.getpid()), remote, 1, MADV_WILLNEED, 0)


def fadvise_willneed(offset: int) -> None:
    os.posix_fadvise(descriptor(), offset, CHUNK, os.POSIX_FADV_WILLNEED)


def readahead(offset: int) -> None:
    call(187, descriptor(), offset, CHUNK)


def mlock(offset: int) -> None:
    call(149, mapped(offset), CHUNK)


def mlock2(offset: int) -> None:
    call(325, mapped(offset), CHUNK, 0)


def process_vm_readv(offset: int) -> None:
    into = ctypes.create_string_buffer(CHUNK)
    local = struct.pack("QQ", ctypes.addressof(into), CHUNK)
    remote = struct.pack("QQ", mapped(offset), CHUNK)
    assert call(310, os.getpid(), local, 1, remote, 1, 0) == CHUNK


def proc_mem(offset: int) -> None:
    with Path("/proc/self/mem").open("rb", buffering=0) as memory:
        memory.seek(mapped(offset))
        assert len(memory.read(CHUNK)) > 0


def write_from_mapping(offset: int) -> None:
    address = mapped(offset)
    with tempfile.TemporaryFile() as to:
        assert call(1, to.fileno(), address, CHUNK) == CHUNK


def send_from_mapping(offset: int) -> None:
    address = mapped(offset)
    sender, receiver = socket.socketpair()
    with sender, receiver:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * CHUNK)
        assert call(44, sender.fileno(), address, CHUNK, 0, 0, 0) == CHUNK


def vmsplice(offset: int) -> None:
    remote = struct.pack("QQ", mapped(offset), CHUNK)
    out, into = os.pipe()
    assert call(278, into, remote, 1, 0) > 0
    os.close(out)


def aio(offset: int, flags: int = 0) -> None:
    context, into = ctypes.c_ulong(0), buffer()
    call(206, 8, ctypes.byref(context))
    address = ctypes.addressof(ctypes.c_char.from_buffer(into))
    block = ctypes.create_string_buffer(
        struct.pack("QIIHhIQQqQII", 0, 0, 0, 0, 0, descriptor(flags), address, CHUNK, offset, 0, 0, 0)
    )
    blocks = (ctypes.c_void_p * 1)(ctypes.addressof(block))
    assert call(209, context.value, 1, blocks) == 1
    event = ctypes.create_string_buffer(32)
    assert call(208, context.value, 1, 1, event, None) == 1
    assert (
        struct.unpack("QQqq", event.raw)[2] == CHUNK
    )  # the context goes with the process: io_destroy waits for all CPUs


def direct_aio(offset: int) -> None:
    aio(offset, O_DIRECT)


def io_uring(offset: int, flags: int = 0, wait: int = 1) -> None:
    """A ring of one read, which the kernel's worker does: io_uring_setup, one entry, io_uring_enter."""
    parameters = ctypes.create_string_buffer(120)
    struct.pack_into("I", parameters, 8, flags)
    ring = call(425, 4, parameters)
    sq_off, cq_off = struct.unpack_from("10I", parameters, 40), struct.unpack_from("10I", parameters, 80)
    sq, entries = mmap.mmap(ring, 8192, offset=0), mmap.mmap(ring, 4096, offset=0x10000000)
    into = buffer()
    address = ctypes.addressof(ctypes.c_char.from_buffer(into))
    struct.pack_into("BBHiQQIIQ", entries, 0, 22, 0, 0, descriptor(), offset, address, CHUNK, 0, 1)  # IORING_OP_READ
    struct.pack_into("I", sq, sq_off[6], 0)  # array[0] = entry 0
    struct.pack_into("I", sq, sq_off[1], 1)  # tail
    call(426, ring, 1, wait, 1 if wait else 0, None, 0)
    deadline_s = time.monotonic() + 10
    while struct.unpack_from("I", sq, cq_off[1])[0] == 0 and time.monotonic() < deadline_s:
        time.sleep(0.001)
    assert struct.unpack_from("Qi", sq, cq_off[5])[1] == CHUNK
    os.close(ring)


def program(offset: int) -> None:
    """A program on the mount: the kernel reads its head, its loader maps the rest."""
    subprocess.run([Path(sys.argv[1]) / "program"], check=True)


def script(offset: int) -> None:
    subprocess.run([Path(sys.argv[1]) / "script"], check=True)


def library(offset: int) -> None:
    ctypes.CDLL(str(Path(sys.argv[1]) / "library.so"))


WAYS: dict[str, Callable[[int], None]] = {
    name: function
    for name, function in list(globals().items())
    if callable(function)
    and getattr(function, "__module__", "") == __name__
    and name not in ("call", "descriptor", "mapped", "buffer")
}
AHEAD = ("madvise_willneed", "process_madvise", "fadvise_willneed", "readahead")
"""Ways that wait for nothing: the kernel reads while the program goes on."""
OTHER_FILES = ("program", "script", "library")
REFUSED = (1, 11, 18, 22, 38, 95)
"""EPERM, EAGAIN, EXDEV, EINVAL, ENOSYS, EOPNOTSUPP: this kernel does not do it on such a mount."""

if __name__ == "__main__":
    with Path(sys.argv[2]).open("w") as log:
        for number, name in enumerate(sys.argv[3:]):
            start_ns, cpu_ns, done = time.monotonic_ns(), time.thread_time_ns(), True
            try:
                WAYS[name](number * APART)
            except OSError as error:
                if error.errno not in REFUSED:
                    raise
                done = False
            cpu_s = (time.thread_time_ns() - cpu_ns) / 1e9
            log.write(json.dumps([name, number * APART, start_ns, time.monotonic_ns(), cpu_s, done]) + "\n")
