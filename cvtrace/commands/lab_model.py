"""`cvtrace lab model`: build a GenAI model of any size."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--size", default="64MB", show_default=True, help="Approximate size, from 1MB.")
@click.option("--inline", is_flag=True, help="Weights inside model.onnx instead of model.onnx.data.")
@click.option("--mapped", is_flag=True, help="Weights used straight from the mapped file during generation.")
@click.option("--seed", default=0, show_default=True, help="Seed of the random weights.")
def command(directory: Path, size: str, inline: bool, mapped: bool, seed: int) -> None:
    """Build a model for onnxruntime-genai in DIRECTORY: random weights, real operators, answers of any length."""
    from cvtrace.lab.model import build
    from cvtrace.lab.quantities import parse_size_bytes

    built = build(directory, parse_size_bytes(size), inline=inline, mapped=mapped, seed=seed)
    shape = built.shape
    click.echo(
        f"{built.directory}: {built.size_bytes / 1e6:.1f} MB, {shape.layers} layers of {shape.hidden}, "
        f"{shape.vocabulary} tokens, up to {shape.context} in a row"
    )
