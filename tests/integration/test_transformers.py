"""transformers with a small random model on a mount, where an interpreter has torch and transformers.

They are large, so the tests do not install them. CVTRACE_TEST_TORCH names an interpreter that has them.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cvtrace_run import cvtrace
from lab_mount import LabMount, lab

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Phase, Report
from cvtrace.tracer.store import read_trace

PYTHON = os.environ.get("CVTRACE_TEST_TORCH", "")
if not PYTHON and all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
    PYTHON = sys.executable
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
    pytest.mark.skipif(
        not PYTHON, reason="needs torch and transformers: CVTRACE_TEST_TORCH=<an interpreter that has them>"
    ),
]

MAKE = """
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
LlamaForCausalLM(LlamaConfig(vocab_size=4000, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
                             num_key_value_heads=4, max_position_embeddings=512)).save_pretrained(sys.argv[1])
"""
GENERATE = """
import sys, torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
ids = torch.arange(10, 20)[None].repeat(3, 1)
with torch.no_grad():
    model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, min_new_tokens=8, do_sample=False)
"""


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabMount]:
    folder = tmp_path_factory.mktemp("transformers")
    subprocess.run([PYTHON, "-c", MAKE, folder / "model"], check=True, capture_output=True)
    files = {f"model/{path.name}": path.read_bytes() for path in (folder / "model").iterdir()}
    with lab(folder, files) as made, made.mount() as mounted:
        yield mounted


def recorded(mount: LabMount, folder: Path, probes: str) -> Report:
    program, trace = folder / "script.py", folder / "trace"
    program.write_text(GENERATE)
    words = ["run", "-o", str(trace), "--probes", probes, "--no-summary", "--mount", str(mount.root)]
    cvtrace(*words, "--", PYTHON, program, mount.root / "model")
    return analyse(read_trace(trace))


def phase(report: Report, name: str) -> Phase:
    return next(row for row in report.phases if row.name == name)


@pytest.mark.parametrize("probes", ["ebpf", "portable"])
def test_a_model_loads_from_the_mount_and_makes_its_tokens(mount: LabMount, tmp_path: Path, probes: str) -> None:
    mount.drop_caches()
    report = recorded(mount, tmp_path, probes)

    assert (report.verdict.tokens, report.verdict.steps) == (24, 8)
    assert phase(report, "prefill").count == 1
    if probes == "ebpf":
        assert (phase(report, "load").fuse_reads or 0) > 0
