"""Rows of the report on predictions. Part of the contract: see report_schema."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PredictedPhase:
    """A phase as measured and as predicted; None where it cannot be predicted."""

    name: str
    measured_s: float
    predicted_s: float | None


@dataclass(frozen=True)
class Prediction:
    """The predicted time of the run after one change; `wall_s` is None, and there is a `reason`, where that cannot be told.

    `lab_error` is the largest error of such predictions in the lab, as a share of the predicted run; None if not measured.
    """

    name: str
    what: str
    wall_s: float | None
    phases: tuple[PredictedPhase, ...]
    assumptions: tuple[str, ...]
    lab_error: float | None
    reason: str | None


@dataclass(frozen=True)
class WhatIf:
    """Predictions by replay of the critical path, and what the trace shows of the network to the server (None: nothing)."""

    rtt_s: float | None
    rtt_from: str
    bytes_per_s: float | None
    predictions: tuple[Prediction, ...]
