"""genai_config.json: what onnxruntime-genai reads first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cvtrace.lab.model.shape import Shape
from cvtrace.lab.model.tokenizer import special_ids


def write(directory: Path, shape: Shape, *, mapped: bool) -> None:
    """Write genai_config.json; `mapped` leaves the weights in the mapped file and packs no copies.

    Entries of session_options that GenAI does not know go to onnxruntime as configuration entries.
    """
    session: dict[str, Any] = {"log_id": "onnxruntime-genai", "provider_options": []}
    if mapped:
        session["session.disable_prepacking"] = "1"
    special = special_ids(shape.vocabulary)
    decoder = {
        "session_options": session,
        "filename": "model.onnx",
        "head_size": shape.head,
        "hidden_size": shape.hidden,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
    }
    model = {
        "bos_token_id": special["<|endoftext|>"],
        "context_length": shape.context,
        "decoder": decoder,
        "eos_token_id": [special["<|end|>"], special["<|endoftext|>"]],
        "pad_token_id": special["<|endoftext|>"],
        "type": "phi3",
        "vocab_size": shape.vocabulary,
    }
    search = {
        "diversity_penalty": 0.0,
        "do_sample": False,
        "early_stopping": True,
        "length_penalty": 1.0,
        "max_length": shape.context,
        "min_length": 0,
        "no_repeat_ngram_size": 0,
        "num_beams": 1,
        "num_return_sequences": 1,
        "past_present_share_buffer": True,
        "repetition_penalty": 1.0,
        "temperature": 1.0,
        "top_k": 1,
        "top_p": 1.0,
    }
    text = json.dumps({"model": model, "search": search}, indent=4)
    (directory / "genai_config.json").write_text(text, encoding="utf-8")
