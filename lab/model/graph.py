"""The operators of the decoder, as the model builder of onnxruntime-genai lays them out for the CPU."""

from __future__ import annotations

import math
from typing import Any, Final

from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from cvtrace.lab.model.shape import BLOCK, Shape

MS: Final = "com.microsoft"
EPSILON: Final = 1e-5


class Nodes:
    """Collects nodes; every method returns the name of what its node puts out."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.nodes: list[NodeProto] = []

    def add(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=f"/{output}", domain=domain, **attributes))
        return output

    def matmul(self, source: str, name: str, rows: int, columns: int, output: str = "") -> str:
        """Multiply by the matrix `name` of (rows, columns); level 4 computes in int8, as shipped models do."""
        if self.bits == 32:
            return self.add("MatMul", [source, f"{name}.weight"], output or f"{name}.out")
        inputs = [source, f"{name}.qweight", f"{name}.scales"]
        sizes = {"K": columns, "N": rows, "bits": 4, "block_size": BLOCK, "accuracy_level": 4}
        return self.add("MatMulNBits", inputs, output or f"{name}.out", MS, **sizes)

    def skip_norm(self, source: str, skip: str, name: str) -> tuple[str, str]:
        """Add `source` to the residual `skip` and normalise; returns the normalised and the new residual."""
        outputs = [f"{name}.out", "", "", f"{name}.residual"]
        self.nodes.append(
            helper.make_node(
                "SkipSimplifiedLayerNormalization",
                [source, skip, f"{name}.weight"],
                outputs,
                name=f"/{name}",
                domain=MS,
                epsilon=EPSILON,
            )
        )
        return outputs[0], outputs[3]


def _lengths(nodes: Nodes) -> None:
    """Derive what attention needs from the mask: the last position of each sequence, and the total length."""
    nodes.add("ReduceSum", ["attention_mask", "one"], "mask.sum", keepdims=0)
    nodes.add("Sub", ["mask.sum", "one"], "mask.last")
    nodes.add("Cast", ["mask.last"], "seqlens_k", to=TensorProto.INT32)
    nodes.add("Shape", ["attention_mask"], "mask.shape")
    nodes.add("Gather", ["mask.shape", "one.scalar"], "mask.length", axis=0)
    nodes.add("Cast", ["mask.length"], "total_sequence_length", to=TensorProto.INT32)


def _attention(nodes: Nodes, shape: Shape, layer: int, source: str) -> str:
    name = f"model.layers.{layer}.attn"
    qkv = nodes.matmul(source, f"{name}.qkv_proj", shape.qkv, shape.hidden)
    past = [f"past_key_values.{layer}.key", f"past_key_values.{layer}.value"]
    present = [f"present.{layer}.key", f"present.{layer}.value"]
    nodes.nodes.append(
        helper.make_node(
            "GroupQueryAttention",
            [qkv, "", "", *past, "seqlens_k", "total_sequence_length", "cos_cache", "sin_cache"],
            [f"{name}.out", *present],
            name=f"/{name}",
            domain=MS,
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            scale=1 / math.sqrt(shape.head),
            do_rotary=1,
            rotary_interleaved=0,
        )
    )
    return nodes.matmul(f"{name}.out", f"{name}.o_proj", shape.hidden, shape.heads * shape.head)


def _feed_forward(nodes: Nodes, shape: Shape, layer: int, source: str) -> str:
    name = f"model.layers.{layer}.mlp"
    gate = nodes.matmul(source, f"{name}.gate_proj", shape.inner, shape.hidden)
    sigmoid = nodes.add("Sigmoid", [gate], f"{name}.sigmoid")
    silu = nodes.add("Mul", [gate, sigmoid], f"{name}.silu")
    up = nodes.matmul(source, f"{name}.up_proj", shape.inner, shape.hidden)
    product = nodes.add("Mul", [silu, up], f"{name}.product")
    return nodes.matmul(product, f"{name}.down_proj", shape.hidden, shape.inner)


def nodes(shape: Shape) -> list[NodeProto]:
    """Return the operators in order: embedding, layers, norm, output matrix."""
    nodes = Nodes(shape.bits)
    _lengths(nodes)
    residual = nodes.add("Gather", ["model.embed_tokens.weight", "input_ids"], "embedded", axis=0)
    normed = nodes.add(
        "SimplifiedLayerNormalization",
        [residual, "model.layers.0.input_layernorm.weight"],
        "model.layers.0.input_layernorm.out",
        axis=-1,
        epsilon=EPSILON,
        stash_type=1,
    )
    for layer in range(shape.layers):
        attended = _attention(nodes, shape, layer, normed)
        normed, residual = nodes.skip_norm(attended, residual, f"model.layers.{layer}.post_attention_layernorm")
        fed = _feed_forward(nodes, shape, layer, normed)
        last = layer == shape.layers - 1
        following = "model.norm" if last else f"model.layers.{layer + 1}.input_layernorm"
        normed, residual = nodes.skip_norm(fed, residual, following)
    nodes.matmul(normed, "lm_head", shape.vocabulary, shape.hidden, output="logits")
    return nodes.nodes


def constants() -> list[TensorProto]:
    """Return the initializers that stay in model.onnx whatever becomes of the weights."""
    return [
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("one.scalar", TensorProto.INT64, [], [1]),
    ]


def inputs(shape: Shape) -> list[ValueInfoProto]:
    """Return the graph's inputs: ids, mask, and the past of each layer."""
    value = helper.make_tensor_value_info
    length = "total_sequence_length"
    listed = [
        value("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"]),
        value("attention_mask", TensorProto.INT64, ["batch_size", length]),
    ]
    return listed + _caches(shape, "past_key_values", "past_sequence_length")


def outputs(shape: Shape) -> list[ValueInfoProto]:
    """Return the graph's outputs: logits, and the present of each layer."""
    dims = ["batch_size", "sequence_length", shape.vocabulary]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, dims)
    return [logits, *_caches(shape, "present", "total_sequence_length")]


def _caches(shape: Shape, prefix: str, length: str) -> list[ValueInfoProto]:
    dims = ["batch_size", shape.kv_heads, length, shape.head]
    return [
        helper.make_tensor_value_info(f"{prefix}.{layer}.{part}", TensorProto.FLOAT, dims)
        for layer in range(shape.layers)
        for part in ("key", "value")
    ]
