"""Several columns as one number: different rows have different keys, and what was packed is unpacked again."""

import numpy as np

from cvtrace.analysis.trace import keys
from cvtrace.analysis.trace.intervals import Ints, ints


def test_a_packed_range_of_pages_is_unpacked() -> None:
    packed = ints([5 | 3 << 48, 7, (1 << 48) - 1 | 16 << 48])
    assert keys.first_page(packed).tolist() == [5, 7, 2**48 - 1]
    assert keys.page_count(packed).tolist() == [3, 0, 16]


def test_the_halves_of_a_packed_field_are_unpacked() -> None:
    packed = ints([15 << 32 | 4242, 0xFFFFFFFF])
    assert keys.high_half(packed).tolist() == [15, 0]
    assert keys.low_half(packed).tolist() == [4242, 0xFFFFFFFF]


def all_pairs(first: list[int], second: list[int]) -> tuple[Ints, Ints]:
    grid = np.meshgrid(ints(first), ints(second), indexing="ij")
    return grid[0].ravel(), grid[1].ravel()


def test_keys_of_pairs_are_distinct_also_with_a_missing_half() -> None:
    first, second = all_pairs([0, 1, 4_194_304], [-1, 0, 1, 2**31 - 1])
    packed = keys.pair_key(first, second)
    assert len(np.unique(packed)) == len(packed)
    assert keys.first_of_pair(packed).tolist() == first.tolist()


def test_keys_of_files_requests_jobs_and_threads_are_distinct() -> None:
    connection, node = all_pairs([0, 39, 2**20], [1, 256, 2**40 - 1])
    unique = ints([2, 4, 2**44 - 2, 2, 4, 2**44 - 2])
    rank = ints([0, 0, 0, 1, 1, 1])
    process, address = all_pairs([1, 2, 30_000], [0x7F0000001000, 0x7FFFFFFFFFF8])
    tid, kind = all_pairs([1, 2, 4_194_304], [0, 31, 160])
    for packed in (
        keys.file_key(connection, node),
        keys.request_key(rank, unique),
        keys.job_key(process, address),
        keys.thread_kind_key(tid, kind),
        keys.thread_depth_key(tid, kind),
    ):
        assert len(np.unique(packed)) == len(packed)


def test_a_file_key_is_unpacked_into_connection_and_node() -> None:
    connection, node = all_pairs([0, 39, 2**20], [1, 256, 2**40 - 1])
    packed = keys.file_key(connection, node)
    assert keys.connection_of_file(packed).tolist() == connection.tolist()
    assert keys.node_of_file(packed).tolist() == node.tolist()


def test_an_address_key_is_formatted_as_host_and_port() -> None:
    address = keys.address_key(ints([10 << 24 | 7, 0xC0A80001]), ints([8000, 80])).tolist()
    assert [keys.address_text(each) for each in address] == ["10.0.0.7:8000", "192.168.0.1:80"]
    assert keys.host_of(address[0]) == "10.0.0.7"


def test_ranks_are_numbers_from_0_of_distinct_values() -> None:
    assert keys.ranked(ints([2**60, -5, 2**60, 7])).tolist() == [2, 0, 2, 1]
