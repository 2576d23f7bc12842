"""`report --format json` is a contract for scripts: every key, at every level, with its type. Fields may be added, never
renamed, removed or given another meaning; null stands for what could not be observed."""

import json
from dataclasses import fields
from typing import Any, Final

import pytest
from portable_scene import portable
from runs import cold_run
from scene import MODEL, Scene

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.report_schema import ClientCache, Fetching
from cvtrace.analysis.report import json as json_report
from cvtrace.analysis.storage.headers import HeaderTensor

NULL: Final = type(None)
TEXT: Final = (str,)
COUNT: Final = (int, NULL)
SURE: Final = (int,)
TIME: Final = (float,)
TEXTS: Final = [TEXT]

TIMES: Final = {"network_s": TIME, "cache_s": TIME, "compute_s": TIME, "other_s": TIME}
TENSOR: Final[dict[str, Any]] = {
    **dict.fromkeys(("reads", "read_bytes", "fetched_bytes", "evictions", "generation_reads"), SURE),
    "faults": COUNT,
    "blocked_s": TIME,
    "generation_blocked_s": TIME,
}
CONTRACT: Final[dict[str, Any]] = {
    "schema": TEXT,
    "trace": {
        "path": TEXT,
        "target": TEXTS,
        "exit_code": (int, NULL),
        "host": TEXT,
        "started": TEXT,
        "duration_s": TIME,
        "probes": TEXT,
        "events": SURE,
        "lost": SURE,
        "missing": TEXTS,
        "mounts": [{"path": TEXT, "fqrn": TEXT, "daemon_pid": SURE, "client": TEXT, "version": TEXT}],
    },
    "verdict": {
        "generation_hits_cvmfs": TEXT,
        "tokens": SURE,
        "fuse_reads": COUNT,
        "fuse_read_bytes": COUNT,
        "http_fetches": COUNT,
        "http_bytes": COUNT,
        "blocked_s": (float, NULL),
        "tokens_affected": [SURE],
        "causes": dict[str, int],
        "proof": TEXTS,
        "missing": TEXTS,
    },
    "cache_state": (str, NULL),
    "phases": [
        {
            "name": TEXT,
            "start_s": TIME,
            "wall_s": TIME,
            "count": SURE,
            **TIMES,
            "unattributed_s": TIME,
            "classes": dict[str, float],
            "fuse_requests": COUNT,
            "fuse_reads": COUNT,
            "fuse_read_bytes": COUNT,
            "cache_hits": COUNT,
            "cache_misses": COUNT,
            "http_fetches": COUNT,
            "http_bytes": COUNT,
            "faults": COUNT,
            "page_cache_bytes": COUNT,
            "cache_state": (str, NULL),
            "fetch_wait_s": (float, NULL),
            "sequential_fetch_s": (float, NULL),
        }
    ],
    "tokens": [{"index": SURE, "start_s": TIME, "wall_s": TIME, **TIMES, "fuse_reads": COUNT}],
    "files": [
        {
            "path": TEXT,
            "opens": SURE,
            "reads": SURE,
            "read_bytes": SURE,
            "fetched_bytes": SURE,
            "amplification": (float, NULL),
            "cache_hits": SURE,
            "cache_misses": SURE,
            "blocked_s": TIME,
            "asked_bytes": COUNT,
        }
    ],
    "fetches": [
        {
            "url": TEXT,
            "path": TEXT,
            "status": SURE,
            "start_s": TIME,
            "queue_s": TIME,
            "connect_s": TIME,
            "request_s": TIME,
            "transfer_s": TIME,
            "fill_s": TIME,
            "bytes": SURE,
            "proxy": (str, NULL),
        }
    ],
    "chunks": [
        {
            "object": TEXT,
            "kind": TEXT,
            "path": TEXT,
            "offset_bytes": COUNT,
            "size_bytes": COUNT,
            "asked_bytes": COUNT,
            **dict.fromkeys(("read_bytes", "fetched_bytes", "fetches", "hits", "shared", "misses", "evictions"), SURE),
            "blocked_s": TIME,
        }
    ],
    "tensors": [
        {
            "name": TEXT,
            "dtype": TEXT,
            "shape": [SURE],
            "layer": COUNT,
            "path": TEXT,
            "offset_bytes": SURE,
            "size_bytes": SURE,
            **TENSOR,
        }
    ],
    "layers": [{"layer": COUNT, "tensors": SURE, "size_bytes": SURE, **TENSOR}],
    "findings": [dict.fromkeys(("id", "severity", "title", "evidence", "advice"), TEXT) | {"saves_s": (float, NULL)}],
    "operator_layers": [{"phase": TEXT, "layer": COUNT, "count": SURE, "time_s": TIME}],
    "checks": [{"name": TEXT, "traced": COUNT, "client": SURE, "agree": (bool, NULL)}],
}


def breaches(found: Any, wanted: Any, where: str = "") -> list[str]:
    """Return what of the contract `found` does not keep."""
    if isinstance(wanted, dict):
        absent = [f"{where}.{name} is missing" for name in wanted if name not in found]
        return absent + [
            each for name in wanted if name in found for each in breaches(found[name], wanted[name], f"{where}.{name}")
        ]
    if isinstance(wanted, list):
        if not isinstance(found, list):
            return [f"{where} is no list"]
        return [each for row in found for each in breaches(row, wanted[0], f"{where}[]")]
    if isinstance(wanted, tuple):
        return [] if type(found) in wanted else [f"{where} is {found!r}"]
    kind = wanted.__args__[1]
    return [f"{where}.{name} is {value!r}" for name, value in found.items() if type(value) is not kind]


def rendered(scene: Scene) -> Any:
    return json.loads(json_report.render(analyse(scene.trace())))


def test_every_key_of_the_contract_is_there_with_its_type() -> None:
    found = rendered(cold_run())

    assert breaches(found, CONTRACT) == []
    for table in ("phases", "tokens", "files", "fetches", "checks"):
        assert found[table], f"{table} is empty: nothing is known of its rows"
    assert found["schema"] == "cvtrace-report/1"


def test_tables_of_objects_and_tensors_keep_the_contract() -> None:
    tensor = HeaderTensor("model.layers.3.weight", "float32", (64, 64), MODEL, 0, 16384)
    found = json.loads(json_report.render(analyse(cold_run().trace(), lambda paths: ([tensor], []))))

    assert breaches(found, CONTRACT) == []
    for table in ("chunks", "tensors", "layers", "findings"):
        assert found[table], f"{table} is empty: nothing is known of its rows"
    assert set(found["fetching"]) == {each.name for each in fields(Fetching)}
    assert set(found["client_cache"]) == {each.name for each in fields(ClientCache)}


@pytest.mark.parametrize("made", ["empty", "portable"])
def test_a_report_with_little_in_it_keeps_the_contract(made: str) -> None:
    found = rendered(Scene()) if made == "empty" else json.loads(json_report.render(portable()))

    assert breaches(found, CONTRACT) == []


def test_words_are_those_of_the_contract() -> None:
    found = rendered(cold_run())

    assert found["verdict"]["generation_hits_cvmfs"] in ("yes", "no", "inconclusive")
    assert found["cache_state"] in ("cold", "warm", "hot", "mixed", "none")
    names = {"import", "load", "tokenizer", "prefill", "decode", "between", "teardown", "script"}
    assert {row["name"] for row in found["phases"]} <= names
    assert {row["name"] for row in found["checks"]} == {"fuse_reads", "http_fetches", "http_bytes", "opens"}
    assert set(found["phases"][0]["classes"]) == set(LABELS)


def test_rows_say_what_happened() -> None:
    found = rendered(cold_run())

    assert found["fetches"][0]["url"].startswith("/cvmfs/repo.test.org/data/00/")
    assert found["fetches"][0]["path"] == "/cvmfs/repo.test.org/models/tiny/model.onnx.data"
    assert found["fetches"][0]["bytes"] == 1_000_000
    assert found["files"][0]["reads"] == 2
    decode = next(row for row in found["phases"] if row["name"] == "decode")
    assert decode["count"] == len(found["tokens"]) == found["verdict"]["tokens"] == 3


def test_the_contract_would_notice() -> None:
    found = rendered(cold_run())
    del found["phases"][0]["faults"]
    found["tokens"][1]["index"] = "1"
    found["verdict"]["causes"]["first_touch"] = 1.5

    assert breaches(found, CONTRACT) == [
        ".verdict.causes.first_touch is 1.5",
        ".phases[].faults is missing",
        ".tokens[].index is '1'",
    ]
