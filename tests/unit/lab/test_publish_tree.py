"""What stands beside a published tree."""

from cvtrace.lab.publish.tree import plant


def test_the_root_comes_first_and_directories_before_what_is_in_them() -> None:
    # GIVEN an empty repository, then one that holds what was planted first
    first = plant(b"/models/cpu", [], 1)
    second = plant(b"/data/raw", first, 2)

    # THEN
    assert [entry.path for entry in first] == [b"", b"/models"]
    assert [entry.path for entry in second] == [b"", b"/data", b"/models"]
