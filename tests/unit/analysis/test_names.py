"""Names from outside are shown as text, whatever is in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvtrace.analysis.report.names import printable, shortened


@pytest.mark.parametrize(
    "name, shown",
    [
        ("plain/ä/漢字.onnx", "plain/ä/漢字.onnx"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("red\x1b[31m", "red\\x1b[31m"),
        ("a\nb\tc\x00", "a\\nb\\tc\\x00"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("not utf-8 \udcff", "not utf-8 \\udcff"),
        ("\ufffd", "\ufffd"),
    ],
)
def test_what_cannot_be_seen_is_written_out(name: str, shown: str) -> None:
    assert printable(name) == shown


@given(st.text(), st.integers(min_value=3, max_value=90))
def test_a_shown_name_is_short_and_printable(name: str, most: int) -> None:
    shown = shortened(name, most)

    assert len(shown) <= most
    assert not any(ord(each) < 32 or 127 <= ord(each) < 160 for each in shown)


def test_both_ends_of_a_long_path_are_kept() -> None:
    shown = shortened("/cvmfs/repo/" + "x" * 4096 + "/model.onnx.data", 40)

    assert shown.startswith("/cvmfs/repo/")
    assert shown.endswith("/model.onnx.data")
