"""Findings on the recording itself: what makes its numbers less than certain."""

from cvtrace.analysis.contract.quantities import pluralize
from cvtrace.analysis.contract.report_schema import Finding
from cvtrace.analysis.findings.scene import HIGH, MEDIUM, Scene


def events_lost(scene: Scene) -> Finding | None:
    """Events could not be written: counts are lower bounds."""
    lost_events = {
        name: int(count) for name, count in (scene.study.recording.meta.get("lost") or {}).items() if int(count)
    }
    if not lost_events:
        return None
    return Finding(
        id="events_lost",
        severity=HIGH,
        title="events were lost",
        evidence=f"the recorder lost {pluralize(sum(lost_events.values()), 'event')} ({', '.join(f'{name} {count:,}' for name, count in lost_events.items())})",
        advice="record again with a larger --buffer; until then counts are lower bounds",
    )


def cut_off(scene: Scene) -> Finding | None:
    """The recording was cut off."""
    damage = scene.report.trace.damage
    if not damage:
        return None
    return Finding(
        id="cut_off",
        severity=MEDIUM,
        title="the recording is incomplete",
        evidence=damage,
        advice="use the report only for the recorded part, or record again",
    )


def counters_disagree(scene: Scene) -> Finding | None:
    """What was traced is not what the client counted."""
    differing = [check for check in scene.report.checks if check.agree is False]
    if not differing:
        return None
    evidence = ", ".join(f"{check.name}: {check.traced or 0:,} traced, {check.client:,} counted" for check in differing)
    return Finding(
        id="counters_disagree",
        severity=HIGH,
        title="the client's own counters disagree with the trace",
        evidence=evidence,
        advice="other processes used the mount, or events were missed: record again while no other process uses the mount",
    )
