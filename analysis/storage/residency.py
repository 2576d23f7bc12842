"""What is known of the kernel's page cache: which pages of the mounts' files were seen to be there."""

from dataclasses import dataclass

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.joins.bytes_used import connection_of_device, file_of
from cvtrace.analysis.trace.intervals import Bools, Ints, empty, ranges
from cvtrace.analysis.trace.keys import PAGE, file_key, first_page, page_count
from cvtrace.probes.events import Kind, Opcode


@dataclass(frozen=True)
class Residency:
    """Growing sums of bytes at times in ns.

    `seen_bytes` are pages that a READ brought, and those that the target had mapped in or copied and that no READ ever brought:
    they were there before. Each counts once. A page that a READ brings again was evicted in between, and counts in
    `again_bytes` then; when it was evicted is not known, nor are evictions of pages that nobody asked for again: `seen_bytes`
    is what can be there at most, as far as seen.
    """

    time: Ints
    seen_bytes: Ints
    again_bytes: Ints


def residency(study: Study) -> Residency:
    """Follow pages of files through READ replies, and through what the target touched, where the probe sees that."""
    requests = study.requests
    read = np.flatnonzero(requests.is_(Opcode.READ) & (requests.offset >= 0) & (requests.read_bytes > 0))
    pages = study.recording.of(Kind.PAGE_READ, Kind.PAGE_MAP)
    first_read = requests.offset[read] // PAGE
    page = first_page(pages.c)
    file = np.concatenate([file_of(requests)[read], file_key(connection_of_device(study.recording, pages.a), pages.b)])
    first = np.concatenate([first_read, page])
    count = np.concatenate(
        [
            -(-(requests.offset[read] + requests.read_bytes[read]) // PAGE) - first_read,
            np.maximum(page_count(pages.c), 1),
        ]
    )
    # Pages are there while the reply is still being written, and the target may touch them then.
    time = np.concatenate([requests.replying[read], pages.start])
    order = np.argsort(time, kind="stable")
    brought = (np.arange(len(time)) < len(read))[order]
    return _followed(time[order], file[order], first[order], count[order], brought)


def _followed(time: Ints, file: Ints, first: Ints, count: Ints, brought: Bools) -> Residency:
    """Cut the pages at the ends of all ranges. The first READ of a stretch brings it, later ones again; without any, the first touch counts.

    A touch tells the range asked for: before the READ that brings a page, it says nothing of the page.
    """
    if not len(time):
        return Residency(empty(), empty(), empty())
    _, which = np.unique(file, return_inverse=True)
    width = int((first + count).max()) + 1
    begin = which.ravel().astype(np.int64) * width + first
    edges = np.unique(np.concatenate([begin, begin + count]))
    of, stretch = ranges(np.searchsorted(edges, begin), np.searchsorted(edges, begin + count))
    size = (edges[1:] - edges[:-1])[stretch]
    new = np.zeros(len(stretch), dtype=bool)
    order = np.lexsort((of, ~brought[of], stretch))
    new[order[np.unique(stretch[order], return_index=True)[1]]] = True
    first_pages = np.bincount(of, weights=size * new, minlength=len(time))
    again_pages = np.bincount(of, weights=size * (~new & brought[of]), minlength=len(time))
    changed = (first_pages + again_pages) > 0
    return Residency(
        time[changed],
        np.cumsum(first_pages[changed]).astype(np.int64) * PAGE,
        np.cumsum(again_pages[changed]).astype(np.int64) * PAGE,
    )
