"""The target of the benchmark of fetching in parallel: threads read the chunks of a file in turns. Run as a script.

readers.py FILE CHUNK_BYTES THREADS
"""

import os
import sys
import threading

import cvtrace

name, chunk, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
descriptors = [os.open(name, os.O_RDONLY) for _ in range(threads)]
chunks = -(-os.fstat(descriptors[0]).st_size // chunk)


def read(number: int) -> None:
    """Read every so many-th chunk."""
    for place in range(number, chunks, threads):
        os.pread(descriptors[number], chunk, place * chunk)


with cvtrace.phase("reading"):
    readers = [threading.Thread(target=read, args=(number,)) for number in range(threads)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
