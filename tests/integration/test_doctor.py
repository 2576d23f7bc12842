"""`cvtrace doctor` on this machine, and with requirements removed in a mount namespace."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cvtrace_run import CVTRACE
from lab_mount import Lab, LabMount, lab
from namespaces import WITHOUT_BCC, WITHOUT_STRACE, WITHOUT_TRACEFS, after
from tiny import open_to_all
from unprivileged import cannot, run_as_nobody

from cvtrace.probes.ebpf import loader

DOCTOR = [*CVTRACE, "doctor"]
pytestmark = [pytest.mark.root, pytest.mark.skipif(cannot() is not None, reason=str(cannot()))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("site")
    open_to_all(folder)
    with lab(folder, {"model/genai_config.json": b"{}", "model/weights": bytes(range(256)) * 20_000}) as mount:
        yield mount


@pytest.fixture
def mount(site: Lab) -> Iterator[LabMount]:
    with site.mount() as mount:
        yield mount


def doctor(*arguments: object, before: str = "", **environ: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Run the doctor after `before`, a shell command in a mount namespace of its own; return exit code, JSON, checks by name."""
    command = [*DOCTOR, "--json", *map(str, arguments)]
    if before:
        command = after(before, *command)
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environ}
    )
    return parsed(result)


def parsed(result: subprocess.CompletedProcess[str]) -> tuple[int, dict[str, Any], dict[str, Any]]:
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document["exit_code"] == result.returncode
    assert set(document) == {"schema", "rung", "probe", "full", "exit_code", "checks"}
    assert all(set(check) == {"group", "name", "status", "says", "mend", "mount"} for check in document["checks"])
    return result.returncode, document, {check["name"]: check for check in document["checks"]}


def test_where_doctor_reports_no_problem_a_run_gives_a_complete_answer(mount):
    # GIVEN a lab mount on a machine where eBPF works
    code, document, checks = doctor("--mount", mount.root, "--model", mount.root / "model")
    # THEN the mount's side is all well
    sides = {name: check["status"] for name, check in checks.items() if check["group"] == "cvmfs"}
    assert set(sides.values()) == {"ok"}, sides
    assert checks["server"]["says"].startswith("http://127.0.0.1")
    assert str(mount.mounted.pid) in checks["daemon"]["says"]
    # AND the exit code says whether eBPF was whole
    kernel = {check["name"]: check["status"] for check in document["checks"] if check["group"] == "ebpf"}
    assert (code == 0) == ("failed" not in kernel.values() and document["rung"] == "ebpf")
    assert document["full"] == (code == 0)


def test_the_table_fits_eighty_columns(mount):
    result = subprocess.run([*DOCTOR, "--mount", str(mount.root)], capture_output=True, text=True, check=False)
    assert result.stderr == ""
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "`cvtrace run`" in result.stdout.splitlines()[-1]


def test_a_model_larger_than_the_quota_is_reported_with_the_setting_to_change(site):
    # GIVEN a client whose cache is smaller than the model
    with site.mount(quota_bytes=3 << 20, cache=site.folder / "small") as small:
        code, _, checks = doctor("--mount", small.root, "--model", small.root / "model")
    # THEN that check fails and names the setting
    assert checks["cache_quota"]["status"] == "failed"
    assert "CVMFS_QUOTA_LIMIT=" in checks["cache_quota"]["mend"]
    assert code == 1


def test_a_model_outside_of_cvmfs_or_missing_is_reported(mount, tmp_path):
    assert doctor("--mount", mount.root, "--model", tmp_path)[2]["model"]["status"] == "warning"
    assert doctor("--mount", mount.root, "--model", tmp_path / "none")[2]["model"]["status"] == "failed"


def test_without_a_mount_nothing_can_be_observed():
    code, document, checks = doctor(before="umount -a -l -t fuse,fuse.cvmfs2 || true")
    assert (code, document["rung"]) == (3, None)
    assert checks["mounts"]["status"] == "failed"
    assert "cvtrace lab up" in checks["mounts"]["mend"]
    # AND the probe that works is named all the same
    kernel = {check["name"]: check["status"] for check in document["checks"] if check["group"] == "ebpf"}
    assert (document["probe"] == "ebpf") == (kernel["programs"] == "ok")


def test_programs_that_the_verifier_refuses_are_reported_and_the_next_probe_is_named(mount, tmp_path):
    # GIVEN a recorder of which the kernel refuses one program, though it accepts others
    program = Path(loader.__file__).parent / "programs" / "processes.bpf.c"
    refused = tmp_path / "processes.bpf.c"
    reads_through_null = "RAW_TRACEPOINT_PROBE(sys_exit_group) { return *(volatile int *)processes.lookup(&(u32){0}); }"
    refused.write_text(f"{program.read_text()}\n{reads_through_null}\n")
    # WHEN doctor tries the machine
    code, document, checks = doctor("--mount", mount.root, before=f"mount --bind {refused} {program}")
    # THEN the small program still loads, the recorder does not, and the conclusion does not promise eBPF
    assert checks["programs"]["status"] == "ok"
    assert checks["recorder"]["status"] == "failed"
    assert "refuses the programs that record" in checks["recorder"]["says"]
    assert (document["rung"], document["full"], code) == ("strace", False, 1)


def test_without_a_mount_the_conclusion_says_that_the_probe_works():
    result = subprocess.run(
        after("umount -a -l -t fuse,fuse.cvmfs2 || true", *DOCTOR), capture_output=True, text=True, check=False
    )
    last = result.stdout.splitlines()[-2:]
    assert "works here, but there is no CVMFS mount to observe" in " ".join(last)


def test_the_doctor_says_how_much_of_a_model_the_client_has_cached(site):
    # GIVEN a cold client
    with site.mount(cache=site.folder / "partly") as mount:
        model = mount.root / "model"
        assert doctor("--mount", mount.root, "--model", model)[2]["model_cached"]["says"].startswith(
            "0.0 MB of 5.1 MB (0 %)"
        )
        # WHEN the second chunk is read
        with (model / "weights").open("rb") as stream:
            stream.seek(1_500_000)
            stream.read(1)
        # THEN that chunk alone is in the cache
        says = doctor("--mount", mount.root, "--model", model)[2]["model_cached"]["says"]
        assert says.startswith("1.0 MB of 5.1 MB (20 %)"), says
        # AND after everything was read, all of it is
        for path in model.iterdir():
            path.read_bytes()
        assert "(100 %)" in doctor("--mount", mount.root, "--model", model)[2]["model_cached"]["says"]


def test_an_unchunked_file_above_half_of_the_quota_is_named(tmp_path):
    # GIVEN 5.1 MB in one object, and a quota of 8 MiB
    open_to_all(tmp_path)
    with lab(tmp_path, {"weights": bytes(range(256)) * 20_000}, chunk_size=64 << 20) as site_without_chunks:
        with site_without_chunks.mount(quota_bytes=8 << 20) as small:
            code, _, checks = doctor("--mount", small.root, "--model", small.root)
            assert checks["unchunked_file"]["status"] == "failed"
            assert "weights (5.1 MB) is not chunked" in checks["unchunked_file"]["says"]
            assert code == 1
        # WHEN the quota is more than twice as large THEN nothing is said
        with site_without_chunks.mount(quota_bytes=16 << 20, cache=tmp_path / "larger") as large:
            assert "unchunked_file" not in doctor("--mount", large.root, "--model", large.root)[2]


def test_a_path_that_is_on_no_mount_is_refused_in_one_sentence(tmp_path):
    result = subprocess.run([*DOCTOR, "--mount", str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 3
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1


def test_without_root_doctor_says_what_root_would_add(mount, tmp_path):
    # GIVEN nobody, without a capability
    result = run_as_nobody([*DOCTOR, "--json", "--mount", mount.root], mount.root, cwd=Path("/"))
    code, document, checks = parsed(result)
    # THEN the portable rung is left, it works, and root is what is missing
    assert (code, document["rung"]) == (1, "portable")
    assert (checks["root"]["status"], checks["cvmfs_talk"]["status"]) == ("failed", "failed")
    assert "sudo" in checks["root"]["mend"]
    assert {checks[name]["status"] for name in ("import_hook", "samples", "attributes", "server", "proxy")} == {"ok"}
    assert checks["programs"]["status"] == "unknown"


@pytest.mark.parametrize(
    "before, name, rung",
    [(WITHOUT_TRACEFS, "tracefs", "strace"), (WITHOUT_BCC, "bcc", "strace")],
    ids=["tracefs", "bcc"],
)
def test_a_missing_requirement_is_reported_and_the_next_probe_is_chosen(mount, before, name, rung):
    code, document, checks = doctor("--mount", mount.root, before=before)
    assert checks[name]["status"] == "failed"
    assert checks[name]["mend"]
    assert (code, document["rung"]) == (1, rung)


def test_without_strace_doctor_advises_to_install_it(mount):
    _, _, checks = doctor("--mount", mount.root, before=WITHOUT_STRACE)
    assert checks["strace"]["status"] == "failed"
    assert "apt install strace" in checks["strace"]["mend"]


def test_a_dead_daemon_is_reported_with_the_command_that_helps(site):
    with site.mount(cache=site.folder / "dies") as mount:
        os.kill(mount.mounted.pid, 9)
        code, document, checks = doctor("--mount", mount.root)
        assert checks["mount"]["status"] == "failed"
        assert "umount -l" in checks["mount"]["mend"]
        assert (code, document["rung"]) == (3, None)
