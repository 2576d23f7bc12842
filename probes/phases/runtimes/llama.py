"""llama.cpp: its C API, which libllama exports, and everything that contains libllama.

`llama_decode` gets a batch by value, `llama_process` (since autumn of 2026) one that other calls fill. The batch says for which of its tokens logits are computed, and each of these makes a token. A batch
that computes logits for all of its tokens, one of each sequence, is a step of decode; other batches are a prompt. The program tells
`llama_decode.prompt` from `llama_decode` when the call begins.
"""

from __future__ import annotations

from typing import Final

from cvtrace.probes.phases.runtimes.declaration import Function, Runtime

LLAMA: Final = Runtime(
    name="llama.cpp",
    library=r"llama[^/\0]*\.(?:so|node)",
    packages=("xllamacpp/xllamacpp*.so", "llama_cpp/lib/libllama.so"),
    model=b".gguf",
    tails=(b"llama.so", b"ama.so.0", b".abi3.so", b"don.node"),
    program=r"llama-[^/\0]*|llamafile[^/\0]*|ollama[^/\0]*",
    functions=(
        Function(54, "llama_model_load_from_file", "load", returns="pointer"),
        Function(55, "llama_model_load_from_splits", "load", returns="pointer"),
        Function(56, "llama_model_load_from_file_ptr", "load", returns="pointer"),
        Function(57, "llama_load_model_from_file", "load", returns="pointer"),
        Function(58, "llama_init_from_model", "load", returns="pointer"),
        Function(59, "llama_new_context_with_model", "load", returns="pointer"),
        Function(60, "llama_adapter_lora_init", "load", returns="pointer"),
        Function(61, "mtmd_init_from_file", "load", returns="pointer"),
        Function(62, "llama_tokenize", "tokenizer", returns="nothing"),
        Function(63, "llama_decode", "decode", "the tokens that it made, and the size of the batch << 32", counts=True),
        Function(
            64,
            "llama_decode.prompt",
            "prefill",
            "the tokens that it made, and the size of the batch << 32",
            counts=True,
        ),
        Function(65, "llama_encode", "prefill"),
        Function(66, "mtmd_encode_chunk", "prefill"),
        Function(67, "llama_free", "teardown", returns="nothing"),
        Function(68, "llama_model_free", "teardown", returns="nothing"),
        Function(69, "llama_free_model", "teardown", returns="nothing"),
        # Newer batches are filled by calls; whoever takes no logits of a batch takes no token of it.
        Function(
            70, "llama_process", "decode", "the tokens that it made, and the size of the batch << 32", counts=True
        ),
        Function(71, "llama_batch_ext_clear", "note"),
        Function(72, "llama_batch_ext_add", "note"),
        Function(73, "llama_batch_ext_add_token", "note"),
        Function(74, "llama_batch_ext_add_embd", "note"),
        Function(75, "llama_batch_ext_set_output_logits", "note"),
        Function(76, "llama_get_logits", "note", returns="pointer"),
        Function(77, "llama_get_logits_ith", "note", returns="pointer"),
        Function(78, "llama_get_sampled_token_ith", "note", returns="nothing"),
    ),
    tokens="each token of a batch for which logits are computed and taken; a batch in which each sequence has one token is decode, others are prefill",
    symbols="exports `llama_*` of `libllama.so`, of `xllamacpp`, and of `llama-*` and `ollama` programs whose symbols are not stripped",
    hook="– (name the parts of the script with `cvtrace.phase`)",
    tested="the server of the package `xllamacpp` with a small GGUF, one request and several at a time",
)
