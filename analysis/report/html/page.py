"""One file of HTML: library, data, styles and glue inlined, and a policy under which nothing is asked of any network."""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib.resources import files as resources
from typing import Any, Final

import numpy as np
from bokeh.document import Document
from bokeh.resources import Resources
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from cvtrace.analysis.classes import GROUPS, LABELS, MEMBERS
from cvtrace.analysis.intervals import Ints
from cvtrace.analysis.report import sentences
from cvtrace.analysis.report.html.heat import Heat
from cvtrace.analysis.report.html.palette import COLOURS, PAINTS
from cvtrace.analysis.report.html.pictures import Picture
from cvtrace.analysis.report.html.scene import Scene
from cvtrace.analysis.report.html.tables import Table
from cvtrace.analysis.report.names import printable
from cvtrace.analysis.report.text import BLOCKS

STATIC: Final = "cvtrace.analysis.report.html"
SCRIPTS: Final = ("tables.js", "pictures.js", "links.js", "page.js")
LEVEL: Final = 6


def page(scene: Scene, pictures: Sequence[Picture], heats: Sequence[Heat], tables: Sequence[Table]) -> str:
    """Return the page. `pictures` and `tables` are in the order in which they stand."""
    scripts = [_library(), _glue()]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["shown"] = printable
    template = environment.from_string(_static("page.html"))
    by_picture = {picture.table for picture in pictures}
    return template.render(
        policy=_policy(scripts),
        style=Markup(_static("page.css")),
        scripts=[Markup(script) for script in scripts],
        data=_packed(_payload(scene, pictures, heats, tables)),
        report=scene.report,
        answer=_lines(sentences.answer(scene.report)),
        said=[line for block in BLOCKS if block is not sentences.lacking for line in _lines(block(scene.report))],
        title=printable(sentences.title(scene.report)),
        lacking=[*scene.report.trace.missing, *scene.report.notes],
        findings=scene.report.findings,
        pictures=pictures,
        heats=heats,
        tables={table.key: table for table in tables},
        others=[table for table in tables if table.key not in by_picture],
        legend=[(group, [(LABELS[number], PAINTS[number]) for number in MEMBERS[group]]) for group in GROUPS],
        classes=len(COLOURS),
    )


def _lines(said: Iterable[str]) -> list[str]:
    return [printable(line) for line in said]


def _static(name: str) -> str:
    return (resources(STATIC) / "static" / name).read_text(encoding="utf-8")


def _library() -> str:
    """Return Bokeh's own JavaScript, as its package carries it."""
    return _harmless(Resources(mode="inline", components=["bokeh"]).js_raw[0])


def _glue() -> str:
    return _harmless("\n".join(["(() => {", '"use strict";', *map(_static, SCRIPTS), "})();"]))


def _harmless(script: str) -> str:
    """Return a script that cannot end the element it stands in."""
    return "\n" + script.replace("</script", "<\\/script").replace("<!--", "<\\!--") + "\n"


def _policy(scripts: Sequence[str]) -> str:
    """Return the policy: only these scripts run, nothing is loaded or sent, no form, no frame."""
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _packed(payload: dict[str, Any]) -> str:
    """Return data as gzip in base64: names cannot be taken for markup, and a row costs a few bytes."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), LEVEL, mtime=0)).decode()


def _payload(
    scene: Scene, pictures: Sequence[Picture], heats: Sequence[Heat], tables: Sequence[Table]
) -> dict[str, Any]:
    document = Document()
    for picture in pictures:
        document.add_root(picture.model)
    return {
        "document": document.to_json(deferred=False),
        "roots": {picture.key: picture.model.id for picture in pictures},
        "paints": PAINTS,
        "classes": len(COLOURS),
        "duration": scene.duration_s,
        "phases": scene.phases,
        "spans": _spans(scene),
        "files": scene.file_names,
        "heats": [{"file": heat.file, "until": heat.top_mb} for heat in heats],
        "fetches": _fetch_links(scene),
        "tables": [_table(table) for table in tables],
    }


def _table(table: Table) -> dict[str, Any]:
    columns = [
        {"name": column.name, "unit": column.unit, "values": [_rounded(value) for value in column.values]}
        for column in table.columns
    ]
    return {"key": table.key, "columns": columns, "links": table.links, "total": table.total}


def _rounded(value: Any) -> Any:
    return round(value, 9) if isinstance(value, float) else value


def _spans(scene: Scene) -> dict[str, list[list[float]]]:
    """Return from when to when each phase, token and fetch lasted, in seconds: what is zoomed to."""
    segments, calls = scene.study.segments, scene.study.phase_calls
    tokens = calls.token >= 0
    phases = [
        _span(scene, segments.start[segments.row == row], segments.end[segments.row == row])
        for row in range(len(scene.phases))
    ]
    fetches = [
        [row.start_s, row.start_s + row.queue_s + row.connect_s + row.request_s + row.transfer_s + row.fill_s]
        for row in scene.report.fetches
    ]
    ends = np.column_stack([scene.second(calls.start[tokens]), scene.second(calls.end[tokens])])
    return {"phase": phases, "token": _short(ends.tolist()), "fetch": _short(fetches)}


def _short(spans: list[list[float]]) -> list[list[float]]:
    return [[round(start, 6), round(end, 6)] for start, end in spans]


def _span(scene: Scene, start: Ints, end: Ints) -> list[float]:
    if not len(start):
        return []
    return [round((int(start.min()) - scene.since) / 1e9, 6), round((int(end.max()) - scene.since) / 1e9, 6)]


def _fetch_links(scene: Scene) -> dict[str, list[int]]:
    """Return phase, token and file of each fetch: what a picture without fetches shows when one is chosen."""
    request = scene.study.gets.request[scene.fetch_order]
    token = np.append(scene.study.request_token, -1)[request]
    return {
        "phase": scene.study.get_row[scene.fetch_order].tolist(),
        "token": token.tolist(),
        "file": scene.file_of(request).tolist(),
    }
