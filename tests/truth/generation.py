"""A target that generates with a model whose weights stay mapped, and makes the kernel forget pages of it meanwhile: acts of acts.py, and

load NAME MODEL THREADS PROMPT   load the model for so many threads, run the prompt
tokens NAME COUNT                generate, one act for each token: `NAME 0` …
forget NAME FROM TO [ALONE]      drop pages of the model, of each mapping this part of it; log which were really there and are gone;
                                 from then on, bring each page alone, without readahead
wander NAME PATH                 read another file from its first byte to its last
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import acts

PAGE = acts.PAGE
WEIGHTS = "model.onnx.data"
LIBC = ctypes.CDLL(None, use_errno=True)
MADV_RANDOM = 1
MADV_DONTNEED = 4

generator: Any = None


def load(name: str, model: str, threads: int, prompt: str) -> None:
    global generator
    import onnxruntime_genai as og

    config = og.Config(model)
    options = {"intra_op_num_threads": threads}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    with acts.logged(name):
        loaded = og.Model(config)
        tokens = og.Tokenizer(loaded).encode(prompt)
        generator = og.Generator(loaded, og.GeneratorParams(loaded))
        generator.append_tokens(tokens)


def tokens(name: str, count: int) -> None:
    for number in range(count):
        with acts.logged(f"{name} {number}"):
            generator.generate_next_token()


def mappings() -> Iterator[tuple[int, int, int, str]]:
    """Yield (address, length, offset in the file, path) of what is mapped of the weights."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, _, offset, _, _, *path = line.split(None, 5)
        if path and path[0].endswith(WEIGHTS):
            start, end = (int(part, 16) for part in place.split("-"))
            yield start, end - start, int(offset, 16), path[0]


def resident(fd: int, size: int) -> bytes:
    """Tell for each page of a file whether the kernel has it: mincore on a mapping that is never touched."""
    pages = -(-size // PAGE)
    pages_in_core = (ctypes.c_ubyte * pages)()
    with mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mapping:
        first = ctypes.c_char.from_buffer(mapping)
        address = ctypes.c_void_p(ctypes.addressof(first))
        assert LIBC.mincore(address, ctypes.c_size_t(size), pages_in_core) == 0, os.strerror(ctypes.get_errno())
        del first
    return bytes(page & 1 for page in pages_in_core)


def forget(name: str, from_: float, to: float, alone: bool = False) -> None:
    maps = list(mappings())
    fd = os.open(maps[0][3], os.O_RDONLY)
    before = resident(fd, os.fstat(fd).st_size)
    with acts.logged(name) as more:
        for address, length, offset, _ in maps:
            begin, end = (round(length * part) // PAGE * PAGE for part in (from_, to))
            # Whoever maps a page holds it: let go of it here, then ask the kernel to forget it.
            place = ctypes.c_void_p(address + begin)
            assert LIBC.madvise(place, ctypes.c_size_t(end - begin), MADV_DONTNEED) == 0
            if alone:
                assert LIBC.madvise(ctypes.c_void_p(address), ctypes.c_size_t(length), MADV_RANDOM) == 0
            os.posix_fadvise(fd, offset + begin, end - begin, os.POSIX_FADV_DONTNEED)
        after = resident(fd, os.fstat(fd).st_size)
        evicted = [number for number, (was, is_) in enumerate(zip(before, after, strict=True)) if was and not is_]
        runs = [[number for _, number in run] for _, run in groupby(enumerate(evicted), lambda item: item[1] - item[0])]
        more.update(inode=os.fstat(fd).st_ino, pages=[(run[0], run[-1]) for run in runs])
    os.close(fd)


def wander(name: str, path: str) -> None:
    with acts.logged(name), Path(path).open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


if __name__ == "__main__":
    acts.ACTS.update((act.__name__, act) for act in (load, tokens, forget, wander))
    acts.main()
