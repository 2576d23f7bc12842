"""transformers, PyTorch and safetensors, in Python: what loads files, tokenizers, and each call of a model."""

from __future__ import annotations

from typing import Final

from cvtrace.probes.phases.runtimes.declaration import Function, Method, Runtime

LOADS: Final = "transformers.from_pretrained"
TOKENIZER: Final = "transformers.tokenizer"
TOKENS: Final = "the tokens that it made"

TRANSFORMERS: Final = Runtime(
    name="transformers",
    functions=(
        Function(87, LOADS, "load"),
        Function(88, TOKENIZER, "tokenizer"),
        Function(89, "transformers.forward.prompt", "prefill", TOKENS, counts=True),
        Function(90, "transformers.forward", "decode", TOKENS, counts=True),
        Function(91, "transformers.call", "run"),
    ),
    methods=(
        (
            "transformers.modeling_utils",
            (
                Method("PreTrainedModel", "from_pretrained", LOADS, how="class"),
                Method("PreTrainedModel", "__call__", "transformers.call", how="call"),
            ),
        ),
        (
            "transformers.models.auto.auto_factory",
            (Method("_BaseAutoModelClass", "from_pretrained", LOADS, how="class"),),
        ),
        (
            "transformers.models.auto.tokenization_auto",
            (Method("AutoTokenizer", "from_pretrained", TOKENIZER, how="class"),),
        ),
        (
            "transformers.tokenization_utils_base",
            (
                Method("PreTrainedTokenizerBase", "from_pretrained", TOKENIZER, how="class"),
                Method("PreTrainedTokenizerBase", "__call__", TOKENIZER),
            ),
        ),
        (
            "transformers.generation.utils",
            (Method("GenerationMixin", "generate", "transformers.forward", how="generate"),),
        ),
    ),
    tokens="each sequence of a call of the model within `generate`: the first call is prefill; with beams or an assistant not known",
    hook="module `transformers`, with every probe",
    tested="the library itself with a small random Llama, where `torch` and `transformers` are installed",
)

TORCH: Final = Runtime(
    name="PyTorch, safetensors",
    module_file=r"libtorch_python\.so",
    functions=(
        Function(92, "torch.load", "load"),
        Function(93, "safetensors.load_file", "load"),
    ),
    methods=(
        ("torch.serialization", (Method("", "load", "torch.load", how="function"),)),
        ("torch.jit._serialization", (Method("", "load", "torch.load", how="function"),)),
        (
            "safetensors.torch",
            (
                Method("", "load_file", "safetensors.load_file", how="function"),
                Method("", "load_model", "safetensors.load_file", how="function"),
            ),
        ),
        ("safetensors.numpy", (Method("", "load_file", "safetensors.load_file", how="function"),)),
    ),
    tokens="none",
    hook="`torch.load`, `torch.jit.load`, `load_file` of safetensors, with every probe; not `safe_open`",
    tested="the packages themselves; safetensors always, `torch` where it is installed",
)
