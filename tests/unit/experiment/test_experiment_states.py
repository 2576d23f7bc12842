"""What the client's counters say of a run, and how a copy takes the place of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvtrace.experiment.copies import LocalCopy, local_copy
from cvtrace.experiment.errors import WrongExperiment
from cvtrace.experiment.files import Place
from cvtrace.experiment.states import Counted, contradiction, counted
from cvtrace.probes.cvmfs.counters import Counters
from cvtrace.probes.residency.survey import File
from cvtrace.tracer.user import current_user


@pytest.mark.parametrize(
    "state, reads, fetches, reason",
    [
        ("cold", 10, 3, ""),
        ("cold", 10, 0, "fetched nothing"),
        ("warm-disk", 10, 0, ""),
        ("warm-disk", 10, 1, "fetched 1 object"),
        ("warm-memory", 0, 0, "answered no read"),
        ("hot", 0, 0, ""),
        ("hot", 1, 0, "answered 1 read"),
        ("hot", 0, 2, "fetched 2 objects"),
        ("local", 0, 0, ""),
        ("local", 5, 0, "answered 5 reads"),
        ("cold", None, 3, "could not all be read"),
        ("hot", -4, 0, "restarted"),
    ],
)
def test_the_counters_of_the_client_verify_the_state(
    state: str, reads: int | None, fetches: int | None, reason: str
) -> None:
    sentence = contradiction(state, Counted(reads, fetches, 0))
    assert reason in sentence
    assert bool(sentence) == bool(reason)


def counters(reads: int, downloads: int) -> Counters:
    return Counters({"cvmfs.n_fs_read": reads, "fetch.n_downloads": downloads}, None)


def test_counters_of_several_clients_add_up() -> None:
    during = counted([counters(5, 1), counters(7, 0)], [counters(6, 2), counters(9, 0)])
    assert during == Counted(3, 1, None)


def test_a_copys_path_takes_the_place_of_the_files_path() -> None:
    copy = LocalCopy(
        Path("/copy"),
        (("/cvmfs/a/model", "/copy/0/model"), ("/cvmfs/a/model.txt", "/copy/0/model.txt")),
        1,
        current_user(),
    )
    argv = [
        "qa.py",
        "-m",
        "/cvmfs/a/model",
        "--data=/cvmfs/a/model/x",
        "/cvmfs/a/model.txt",
        "/cvmfs/a/models",
        "model",
    ]
    assert copy.substituted(argv, Path("/cvmfs/a")) == (
        "qa.py",
        "-m",
        "/copy/0/model",
        "--data=/copy/0/model/x",
        "/copy/0/model.txt",
        "/cvmfs/a/models",
        "/copy/0/model",
    )


def place(folder: Path, size: int) -> Place:
    return Place((str(folder),), (File(str(folder / "w"), 1, 2, size, None),), ())


def test_a_copy_is_whole_and_gone_afterwards(tmp_path: Path) -> None:
    source, parent = tmp_path / "model", tmp_path / "copies"
    (source / "sub").mkdir(parents=True)
    parent.mkdir()
    (source / "w").write_bytes(b"x" * 100_000)
    (source / "sub" / "c").write_bytes(b"y")
    (source / "link").symlink_to("w")
    (source / "nowhere").symlink_to("/nothing/here")
    steps: list[int] = []
    with local_copy(place(source, 100_000), parent, current_user(), steps.append) as copy:
        target = Path(copy.pairs[0][1])
        assert (target / "w").read_bytes() == b"x" * 100_000
        assert (target / "sub" / "c").read_bytes() == b"y"
        copy.read()
    assert sum(steps) >= 100_001
    assert list(parent.iterdir()) == []


def test_a_copy_that_has_no_room_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(WrongExperiment, match="needs 1,000,000 TB"),
        local_copy(place(tmp_path, 10**18), tmp_path, current_user(), lambda _: None),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_becomes_full_leaves_nothing(tmp_path: Path) -> None:
    # GIVEN a file that is larger than it said, and a limit on what this process may write
    source, parent = tmp_path / "model", tmp_path / "copies"
    source.mkdir()
    parent.mkdir()
    (source / "w").write_bytes(b"x" * 100_000)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(WrongExperiment, match="it is full"),
        local_copy(place(source, 100_000), parent, current_user(), full),
    ):
        pass
    assert list(parent.iterdir()) == []
