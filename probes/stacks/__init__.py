"""Stacks of the target's threads while it runs (`--stacks`), sampled from outside; nothing of this stops the target.

frames.py    a stack as text that is safe to keep: bounded, printable
python.py    Python: py-spy samples the interpreter's frames, and reads its memory while it runs on
native.py    C and C++: perf copies registers and stack when a thread blocks; perf script unwinds them afterwards
able.py      why stacks cannot be sampled here, in a sentence

A sampler that stops the target is not used, although it would see more: the signal by which a thread is stopped interrupts its wait
for a FUSE request, and the kernel sends FUSE_INTERRUPT to the client (Documentation/filesystems/fuse). It would change what is measured.
"""
