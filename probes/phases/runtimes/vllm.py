"""vLLM: its worker processes, in which models are loaded and executed."""

from __future__ import annotations

from typing import Final

from cvtrace.probes.phases.runtimes.declaration import Function, Method, Runtime

_WORKER: Final = (
    Method("Worker", "load_model", "vllm.load_model"),
    Method("Worker", "execute_model", "vllm.execute_model", how="step"),
)

VLLM: Final = Runtime(
    name="vLLM",
    functions=(
        Function(94, "vllm.load_model", "load"),
        Function(95, "vllm.execute_model.prompt", "prefill", "the tokens that it made", counts=True),
        Function(96, "vllm.execute_model", "decode", "the tokens that it made", counts=True),
    ),
    methods=(("vllm.v1.worker.gpu_worker", _WORKER), ("vllm.worker.worker", _WORKER)),
    tokens="the sampled tokens of a step; a step in which a request has several tokens is prefill",
    hook="worker processes, with every probe",
    tested="a stand-in with the same names only; not run with vLLM itself",
)
