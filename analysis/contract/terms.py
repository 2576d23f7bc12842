"""Terms that a report uses, each explained in one sentence. docs/glossary.md explains them at length, under the same anchors."""

from typing import Final

TERMS: Final = {
    "cold": "The client's cache does not have the data: it comes over the network.",
    "warm": "The client's cache on disk has the data, memory does not.",
    "hot": "All pages are in memory: nothing is asked of the client.",
    "READ": "A request of the kernel to the client for bytes of a file, 128 KiB as a rule.",
    "fetch": "One GET over HTTP: the client downloads one object.",
    "chunk": "A part of a large file, some 4 to 16 MB, that the client downloads and stores as one object.",
    "prefill": "The prompt is processed; it ends with the first token.",
    "decode": "The tokens after the first are made, one after the other.",
    "critical path": "What the run waited for at each moment, followed from thread to thread and into the client.",
}
"""Term -> its meaning."""
