"""Names from outside are shown as text, whatever is in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvtrace.analysis.report.names import printable, shortened


@pytest.mark.parametrize(
    "name, expected",
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
def test_invisible_characters_are_escaped(name: str, expected: str) -> None:
    assert printable(name) == expected


@given(st.text(), st.integers(min_value=3, max_value=90))
def test_a_shown_name_is_short_and_printable(name: str, most: int) -> None:
    text = shortened(name, most)

    assert len(text) <= most
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in text)


def test_both_ends_of_a_long_path_are_kept() -> None:
    text = shortened("/cvmfs/repo/" + "x" * 4096 + "/model.onnx.data", 40)

    assert text.startswith("/cvmfs/repo/")
    assert text.endswith("/model.onnx.data")
