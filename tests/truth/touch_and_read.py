"""A target that touches each page of mapped files, and reads files, each twice in succession: touch_and_read.py FILE...

What it does for the first time and what it does again are phases of their own.
"""

import mmap
import os
import sys

import cvtrace

buffer = bytearray(1 << 20)
for name in sys.argv[1:]:
    file = os.open(name, os.O_RDONLY)
    size = os.fstat(file).st_size
    for turn in ("", " again"):
        if "touch" in name:
            with mmap.mmap(file, size, prot=mmap.PROT_READ) as pages, cvtrace.phase(f"touch{turn}"):
                touched = sum(pages[place] for place in range(0, size, mmap.PAGESIZE))
        else:
            with cvtrace.phase(f"read{turn}"):
                os.lseek(file, 0, os.SEEK_SET)
                while os.readv(file, [buffer]):
                    pass
    os.close(file)
