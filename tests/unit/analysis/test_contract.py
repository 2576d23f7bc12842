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
from cvtrace.analysis.contract.storage_schema import ClientCache, Fetching
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


def breaches(candidate: Any, schema: Any, location: str = "") -> list[str]:
    """Return what of the contract `found` does not keep."""
    if isinstance(schema, dict):
        absent = [f"{location}.{name} is missing" for name in schema if name not in candidate]
        return absent + [
            breach
            for name in schema
            if name in candidate
            for breach in breaches(candidate[name], schema[name], f"{location}.{name}")
        ]
    if isinstance(schema, list):
        if not isinstance(candidate, list):
            return [f"{location} is no list"]
        return [breach for row in candidate for breach in breaches(row, schema[0], f"{location}[]")]
    if isinstance(schema, tuple):
        return [] if type(candidate) in schema else [f"{location} is {candidate!r}"]
    kind = schema.__args__[1]
    return [f"{location}.{name} is {value!r}" for name, value in candidate.items() if type(value) is not kind]


def rendered(scene: Scene) -> Any:
    return json.loads(json_report.render(analyse(scene.trace())))


def test_every_key_of_the_contract_is_there_with_its_type() -> None:
    document = rendered(cold_run())

    assert breaches(document, CONTRACT) == []
    for table in ("phases", "tokens", "files", "fetches", "checks"):
        assert document[table], f"{table} is empty: nothing is known of its rows"
    assert document["schema"] == "cvtrace-report/1"


def test_tables_of_objects_and_tensors_keep_the_contract() -> None:
    tensor = HeaderTensor("model.layers.3.weight", "float32", (64, 64), MODEL, 0, 16384)
    document = json.loads(json_report.render(analyse(cold_run().trace(), lambda paths: ([tensor], []))))

    assert breaches(document, CONTRACT) == []
    for table in ("chunks", "tensors", "layers", "findings"):
        assert document[table], f"{table} is empty: nothing is known of its rows"
    assert set(document["fetching"]) == {field.name for field in fields(Fetching)}
    assert set(document["client_cache"]) == {field.name for field in fields(ClientCache)}


@pytest.mark.parametrize("kind", ["empty", "portable"])
def test_a_report_with_little_in_it_keeps_the_contract(kind: str) -> None:
    document = rendered(Scene()) if kind == "empty" else json.loads(json_report.render(portable()))

    assert breaches(document, CONTRACT) == []


def test_enumerated_values_are_those_of_the_contract() -> None:
    document = rendered(cold_run())

    assert document["verdict"]["generation_hits_cvmfs"] in ("yes", "no", "inconclusive")
    assert document["cache_state"] in ("cold", "warm", "hot", "mixed", "none")
    names = {"import", "load", "tokenizer", "prefill", "decode", "between", "teardown", "script"}
    assert {row["name"] for row in document["phases"]} <= names
    assert {row["name"] for row in document["checks"]} == {"fuse_reads", "http_fetches", "http_bytes", "opens"}
    assert set(document["phases"][0]["classes"]) == set(LABELS)


def test_rows_have_the_values_of_the_scene() -> None:
    document = rendered(cold_run())

    assert document["fetches"][0]["url"].startswith("/cvmfs/repo.test.org/data/00/")
    assert document["fetches"][0]["path"] == "/cvmfs/repo.test.org/models/tiny/model.onnx.data"
    assert document["fetches"][0]["bytes"] == 1_000_000
    assert document["files"][0]["reads"] == 2
    decode = next(row for row in document["phases"] if row["name"] == "decode")
    assert decode["count"] == len(document["tokens"]) == document["verdict"]["tokens"] == 3


def test_a_violated_contract_is_detected() -> None:
    document = rendered(cold_run())
    del document["phases"][0]["faults"]
    document["tokens"][1]["index"] = "1"
    document["verdict"]["causes"]["first_touch"] = 1.5

    assert breaches(document, CONTRACT) == [
        ".verdict.causes.first_touch is 1.5",
        ".phases[].faults is missing",
        ".tokens[].index is '1'",
    ]
