"""The users of these tests have no rights over root or each other; else no attack here would prove anything."""

import pytest
from throwaway import PYTHON, Somebody

pytestmark = pytest.mark.root


def test_the_users_of_these_tests_have_no_rights_over_root_or_each_other(ann: Somebody, ben: Somebody, secret) -> None:
    result = ann.run([PYTHON, "-c", "import os; print(os.getresuid(), os.getgroups(), os.getcwd())"])
    assert result.stdout == f"{(ann.uid,) * 3} [] {ann.home}\n", result.stderr
    status = ann.run(["grep", "^Cap[PE]", "/proc/self/status"]).stdout.split()
    assert status[1::2] == ["0" * 16] * 2
    (ann.home / "own").write_text("ann's")
    ann.owns(ann.home / "own")
    for path in (secret, ann.home / "own"):
        assert "Permission denied" in ben.run(["cat", path]).stderr
    assert ann.uid != ben.uid
