"""A small model of the llama architecture in GGUF, with random weights and a token for each byte."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

LAYERS: Final = 2
HEADS: Final = 4
CONTEXT: Final = 512
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6


def write_gguf(path: Path, width: int = 64, *, layers: int = LAYERS, extra_tokens: int = 0, seed: int = 0) -> Path:
    """Write a model; `width` is the size of its hidden state, and `extra_tokens` makes the table of embeddings longer."""
    import gguf

    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    tokens += [f"w{number}".encode() for number in range(extra_tokens)]
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256, *[_NORMAL] * extra_tokens]
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    random = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape, dtype=np.float32) * 0.05).astype(np.float16)

    writer.add_tensor("token_embd.weight", weights(len(tokens), width))
    writer.add_tensor("output_norm.weight", np.ones(width, dtype=np.float32))
    writer.add_tensor("output.weight", weights(len(tokens), width))
    for layer in range(layers):
        name = f"blk.{layer}."
        writer.add_tensor(name + "attn_norm.weight", np.ones(width, dtype=np.float32))
        writer.add_tensor(name + "ffn_norm.weight", np.ones(width, dtype=np.float32))
        for each in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{name}{each}.weight", weights(width, width))
        for each, rows, columns in (
            ("ffn_gate", 2 * width, width),
            ("ffn_up", 2 * width, width),
            ("ffn_down", width, 2 * width),
        ):
            writer.add_tensor(f"{name}{each}.weight", weights(rows, columns))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
