"""Each input of the fuzz corpus is parsed once, without the fuzzer: see `make fuzz`."""

import hashlib
import zipfile

import corpus
import pytest
from fuzz_targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_each_input_of_the_corpus_is_parsed_or_refused(name):
    inputs = corpus.read(name)
    assert inputs, "there is no corpus"
    for each, data in inputs.items():
        try:
            TARGETS[name](data)
        except Exception as error:
            raise AssertionError(f"{each} in {corpus.archive(name)} breaks it") from error


def test_the_corpus_is_small_and_of_known_targets():
    archives = list(corpus.CORPUS.iterdir())
    assert {path.stem for path in archives} == set(TARGETS)
    assert sum(path.stat().st_size for path in archives) < 1_000_000


def test_the_archive_of_the_same_inputs_is_identical(tmp_path, monkeypatch):
    # GIVEN a corpus of its own
    monkeypatch.setattr(corpus, "CORPUS", tmp_path)
    # WHEN inputs are added one by one, one of them twice, and the same at once in another order
    added = [corpus.add("one", [data]) for data in (b"a", b"b", b"a", b"")]
    assert corpus.add("other", [b"", b"b", b"a"]) == 3
    # THEN the archives are the same, byte by byte, and each input has the name of its content
    assert added == [1, 1, 0, 1]
    assert corpus.archive("one").read_bytes() == corpus.archive("other").read_bytes()
    assert corpus.read("one") == {hashlib.sha256(data).hexdigest()[:16]: data for data in (b"a", b"b", b"")}
    # THEN nothing in them depends on who made them, or when
    with zipfile.ZipFile(corpus.archive("one")) as stored:
        assert {(each.date_time, each.create_system, each.compress_type) for each in stored.infolist()} == {
            (corpus.DATE, 3, zipfile.ZIP_STORED)
        }
