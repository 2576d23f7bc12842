"""Builds the models of a stack and publishes them, unless that was done before with the same parameters."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any, Final

import cvtrace
from cvtrace.lab.model import build
from cvtrace.lab.publish import publish
from cvtrace.lab.stack.state import FQRN, Options, StateFolder

Say = Callable[[str], None]

FOLDER: Final = "/models"
"""Where the models are in the repository."""


def parameters_by_model(options: Options) -> dict[str, dict[str, Any]]:
    """Return name -> parameters of each model that the options ask for."""
    name = f"lab-{_label(options.size_bytes)}"
    parameters = {
        "size_bytes": options.size_bytes,
        "mapped": False,
        "chunk_bytes": options.chunk_bytes,
        "cvtrace": cvtrace.__version__,
    }
    models = {name: parameters}
    if options.mapped_too:
        models[f"{name}-mapped"] = parameters | {"mapped": True}
    return models


def _label(size_bytes: int) -> str:
    for unit, name in ((10**9, "gb"), (10**6, "mb"), (1 << 20, "mib")):
        if size_bytes % unit == 0:
            return f"{size_bytes // unit}{name}"
    return f"{size_bytes}b"


def prepare(state: StateFolder, options: Options, say: Say) -> None:
    """Have the wanted models built and published; raises LabError."""
    built = state.read_built()
    for name, parameters in parameters_by_model(options).items():
        folder = state.path / "models" / name
        if built.get(name) == parameters:
            continue
        built.pop(name, None)
        state.remember_built(built)
        shutil.rmtree(folder, ignore_errors=True)
        say(f"building {name}")
        build(folder, options.size_bytes, mapped=parameters["mapped"])
        say(f"publishing {name}")
        publish(folder, fqrn=FQRN, store=state.store, at=f"{FOLDER}/{name}", chunk_size=options.chunk_bytes)
        shutil.rmtree(folder)  # the repository has it all
        state.remember_built(built | {name: parameters})
        built = state.read_built()
