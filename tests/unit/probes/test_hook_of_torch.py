"""The hook marks calls of transformers, vLLM, PyTorch and safetensors: stand-ins of the same names, and safetensors itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cvtrace.probes.events import Events, Kind
from cvtrace.probes.phases.functions import FUNCTIONS
from cvtrace.probes.phases.hook import environment, read_marks
from cvtrace.probes.phases.runtimes.declaration import MANY

WORKER = """
class Plan:
    def __init__(self, **scheduled):
        self.num_scheduled_tokens = scheduled


class Output:
    def __init__(self, ids):
        self.sampled_token_ids = ids


class Worker:
    def load_model(self):
        return "loaded"

    def execute_model(self, scheduler_output):
        if len(scheduler_output.num_scheduled_tokens) == 9:
            raise RuntimeError("too many")
        one_each = [[1] for _ in scheduler_output.num_scheduled_tokens]
        return None if len(one_each) == 3 else Output(one_each)
"""
USES_WORKER = """
from vllm.v1.worker.gpu_worker import Output, Plan, Worker

worker = Worker()
assert worker.load_model() == "loaded"
assert isinstance(worker.execute_model(Plan(a=17, b=1)), Output)
worker.execute_model(Plan(a=1, b=1))
worker.execute_model(scheduler_output=Plan(a=1, b=1, c=1))
try:
    worker.execute_model(Plan(**{f"r{number}": 1 for number in range(9)}))
except RuntimeError:
    pass
"""
GENERATION = """
class GenerationMixin:
    def generate(self, ids, **kwargs):
        for _ in range(3):
            self(input_ids=ids)
        return "text"
"""
MODELS = """
class Base:
    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)


class PreTrainedModel(Base):
    @classmethod
    def from_pretrained(cls, path, *, strict=True):
        assert strict and path
        return cls()
"""
USES_MODELS = """
import sys
from transformers.generation.utils import GenerationMixin
from transformers.modeling_utils import PreTrainedModel


class Tensor:
    shape = (4, 10)


class Inner(PreTrainedModel):
    def forward(self, input_ids):
        return input_ids


class Model(PreTrainedModel, GenerationMixin):
    inner = Inner()

    def forward(self, input_ids):
        if input_ids is None:
            raise ValueError("nothing to do")
        return self.inner(input_ids)


model = Model.from_pretrained("/models/x", strict=True)
assert isinstance(model, Model) and Model.from_pretrained.__name__ == "from_pretrained"
assert model.generate(Tensor()) == "text"
model.generate(Tensor(), num_beams=2)
model(Tensor())
try:
    model(None)
except ValueError:
    pass
"""
LOADS_FILE = """
import sys
import safetensors.numpy

tensors = safetensors.numpy.load_file(filename=sys.argv[1])
assert safetensors.numpy.load_file(sys.argv[1]).keys() == tensors.keys()
assert safetensors.numpy.load_file.__doc__
"""


def package(folder: Path, name: str, text: str) -> None:
    """Write a module, and the packages that it is in."""
    *packages, module = name.split(".")
    for depth in range(len(packages)):
        place = folder.joinpath(*packages[: depth + 1])
        place.mkdir(exist_ok=True)
        (place / "__init__.py").touch()
    folder.joinpath(*packages, f"{module}.py").write_text(text)


def calls(folder: Path, script: str, *arguments: object) -> Events:
    """Run a script with the hook; return the calls that it marked."""
    marks = folder / "marks"
    environ = environment(marks, {**os.environ, "PYTHONPATH": str(folder)})
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    events, _ = read_marks(marks)
    return events[events["kind"] == Kind.PHASE]


def described(events: Events) -> list[tuple[str, int, bool]]:
    """Return name, tokens and success of each call."""
    return [(FUNCTIONS[int(row["a"])].symbol, int(row["c"]), int(row["ret"]) == 0) for row in events]


def test_steps_of_a_worker_of_vllm_are_prompts_or_decode(tmp_path: Path) -> None:
    package(tmp_path, "vllm.v1.worker.gpu_worker", WORKER)

    assert described(calls(tmp_path, USES_WORKER)) == [
        ("vllm.load_model", 0, True),
        ("vllm.execute_model.prompt", 2, True),
        ("vllm.execute_model", 2, True),
        ("vllm.execute_model", 3, True),
        ("vllm.execute_model", 9, False),
    ]


def test_calls_of_a_model_of_transformers_are_prompt_decode_or_run(tmp_path: Path) -> None:
    package(tmp_path, "transformers.generation.utils", GENERATION)
    package(tmp_path, "transformers.modeling_utils", MODELS)

    events = described(calls(tmp_path, USES_MODELS))

    answer = ["transformers.forward.prompt", "transformers.forward", "transformers.forward"]
    assert events == [
        ("transformers.from_pretrained", 0, True),
        *((name, 4, True) for name in answer),
        *((name, MANY, True) for name in answer),  # with beams, sequences are not tokens
        ("transformers.call", 0, True),
        ("transformers.call", 0, False),
    ]


def test_nothing_is_done_while_torch_compiles(tmp_path: Path) -> None:
    package(tmp_path, "transformers.generation.utils", GENERATION)
    package(tmp_path, "transformers.modeling_utils", MODELS)
    package(tmp_path, "torch.compiler", "def is_compiling():\n    return True\n")

    events = described(calls(tmp_path, f"import torch.compiler\n{USES_MODELS}"))

    assert events == [("transformers.from_pretrained", 0, True)]


def test_files_that_safetensors_loads_are_marked(tmp_path: Path) -> None:
    save_file({"weights": np.zeros(1000, dtype=np.float32)}, tmp_path / "model.safetensors")

    events = described(calls(tmp_path, LOADS_FILE, tmp_path / "model.safetensors"))

    assert events == [("safetensors.load_file", 0, True)] * 2


@pytest.mark.parametrize("module", ["torch.serialization", "torch.jit._serialization"])
def test_torch_load_is_marked_where_the_package_defines_it(tmp_path: Path, module: str) -> None:
    package(tmp_path, module, "def load(f, map_location=None):\n    return f, map_location\n")
    script = f"from {module} import load\nassert load(f='x', map_location='cpu') == ('x', 'cpu') == load('x', 'cpu')"

    assert described(calls(tmp_path, script)) == [("torch.load", 0, True)] * 2
