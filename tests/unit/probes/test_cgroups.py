"""Limits of cgroups, versions 1 and 2: the tightest one of a group and those above it counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvtrace.analysis.trace.target_limits import limits_in_words
from cvtrace.probes.cgroups import cpu_share, memory_bytes


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


def test_version_2(tmp_path: Path) -> None:
    write(tmp_path / "pod", cpu__max="200000 100000\n", memory__max="1073741824\n")
    write(tmp_path / "pod" / "container", cpu__max="5000 100000\n", memory__max="max\n")

    assert cpu_share("0::/pod/container\n", tmp_path) == 0.05
    assert memory_bytes("0::/pod/container\n", tmp_path) == 1 << 30


def test_version_1(tmp_path: Path) -> None:
    write(tmp_path / "cpu" / "job", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    write(tmp_path / "memory", memory__limit_in_bytes="9223372036854771712\n")
    write(tmp_path / "memory" / "job", memory__limit_in_bytes="134217728\n")
    cgroups = "4:memory:/job\n3:cpu:/job\n1:name=systemd:/\n"

    assert cpu_share(cgroups, tmp_path) is None
    assert memory_bytes(cgroups, tmp_path) == 128 << 20


def test_without_limits(tmp_path: Path) -> None:
    write(tmp_path, memory__max="nothing\n", cpu__max="max 100000\n")
    assert (cpu_share("0::/\n", tmp_path), memory_bytes("0::/\n", tmp_path)) == (None, None)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"memory_bytes": 128 << 20, "cpus": 0.05}, "the target's cgroup has 128 MiB and 0.05 CPUs"),
        ({"memory_bytes": 4 << 30}, "the target's cgroup has 4,096 MiB"),
        ({"cpus": 2}, "the target's cgroup has 2 CPUs"),
        ({"cpus": "2", "memory_bytes": True}, ""),
        ({"cpus": float("nan")}, ""),
        (None, ""),
    ],
)
def test_limits_of_a_trace_in_words(limits: object, words: str) -> None:
    assert limits_in_words({"target": {"limits": limits}}) == words
