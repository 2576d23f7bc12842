"""Builds decoder models for onnxruntime-genai from nothing but numbers: any size, in seconds.

`build` is all that others need. Behind it: `shape` (how wide and deep for a size), `weights` (the tensors and what
fills them), `graph` (the ONNX operators), `tokenizer`, `config`, `files` (the tensors on disk).
"""

from cvtrace.lab.model.build import Built, build

__all__ = ["Built", "build"]
