"""Amounts as people write them."""

import pytest

from cvtrace.lab.errors import LabError
from cvtrace.lab.quantities import parse_bandwidth_bytes_per_s, parse_duration_s, parse_size_bytes


@pytest.mark.parametrize(
    "text, size", [("8MiB", 8 << 20), ("4000MB", 4_000_000_000), ("1.5k", 1500), ("7", 7), (" 2 GiB ", 2 << 30)]
)
def test_sizes_are_parsed(text: str, size: int) -> None:
    assert parse_size_bytes(text) == size


def test_durations_and_bandwidths_are_parsed() -> None:
    assert parse_duration_s("50ms") == pytest.approx(0.05)
    assert parse_duration_s("2") == 2
    assert parse_bandwidth_bytes_per_s("20MB/s") == 20e6
    assert parse_bandwidth_bytes_per_s("1MiB") == 1 << 20


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "8 parsecs", "1e3"])
def test_invalid_amounts_are_quoted_in_the_error(text: str) -> None:
    with pytest.raises(LabError, match="is not a size"):
        parse_size_bytes(text)
