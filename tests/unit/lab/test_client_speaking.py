"""The lab's client: counters and paged attributes."""

from __future__ import annotations

import threading

from cvtrace.lab.client.catalog import Chunk
from cvtrace.lab.client.content import Hash
from cvtrace.lab.client.counters import Counters
from cvtrace.lab.client.xattrs import PAGE_CHARS, chunk_list_pages


def test_concurrent_increments_are_all_counted() -> None:
    # GIVEN eight threads / WHEN each raises a counter 5,000 times / THEN it says 40,000
    counters = Counters()

    def count() -> None:
        for _ in range(5000):
            counters.add("cvmfs.n_fs_read")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters["cvmfs.n_fs_read"] == 40_000


def test_counters_are_printed_like_the_client_prints_them() -> None:
    # GIVEN counters / WHEN printed / THEN there is a sorted line `name|value|description` for each
    counters = Counters()
    counters.add("fetch.n_downloads", 3)
    lines = counters.table().splitlines()
    names = [line.split("|")[0] for line in lines]
    assert names == sorted(names)
    assert all(line.count("|") == 2 for line in lines)
    assert any(line.startswith("fetch.n_downloads|3|") for line in lines)


def test_long_chunk_lists_come_in_pages() -> None:
    # GIVEN a file of 2,000 chunks
    chunks = [Chunk(number * 8_000_000, 8_000_000, Hash(f"{number:040x}")) for number in range(2000)]

    # WHEN its list is made / THEN it is cut into pages that begin with the column names and lose nothing
    pages = chunk_list_pages(chunks)
    assert len(pages) > 1
    assert all(page.startswith("hash,offset,size\n") and len(page) < PAGE_CHARS + 100 for page in pages)
    rows = [row for page in pages for row in page.splitlines()[1:]]
    assert rows == [f"{chunk.hash},{chunk.offset},{chunk.size_bytes}" for chunk in chunks]


def test_an_empty_chunk_list_has_no_page() -> None:
    # GIVEN no chunks / WHEN listed / THEN there is nothing to page through
    assert chunk_list_pages([]) == []
