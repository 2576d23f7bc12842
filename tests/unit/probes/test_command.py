"""Sentences that tell the user to use root."""

import pytest

from cvtrace.probes.command import with_sudo


@pytest.mark.parametrize(
    "called, expected",
    [
        ("/usr/bin/cvtrace", "sudo cvtrace"),
        (".venv/bin/cvtrace", "sudo .venv/bin/cvtrace"),
        ("/home/a b/env/bin/cvtrace", "sudo '/home/a b/env/bin/cvtrace'"),
        ("/usr/lib/python3/dist-packages/cvtrace/__main__.py", "sudo cvtrace"),
        ("", "sudo cvtrace"),
    ],
)
def test_an_installation_that_sudo_does_not_find_is_named(tmp_path, called, expected):
    # GIVEN a cvtrace where sudo looks, or none
    if called == "/usr/bin/cvtrace":
        (tmp_path / "cvtrace").touch(0o755)
    assert with_sudo(called, str(tmp_path)) == expected
