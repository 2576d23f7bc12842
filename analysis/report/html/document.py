"""One file of HTML: library, data, styles and glue inlined, and a policy under which nothing is asked of any network."""

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files as resources
from typing import Any, Final

from bokeh.document import Document
from bokeh.resources import Resources
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from cvtrace.analysis.contract.classes import GROUPS, MEMBERS, Class, anchor
from cvtrace.analysis.contract.quantities import seconds, size
from cvtrace.analysis.contract.terms import TERMS
from cvtrace.analysis.report.html.palette import ANSWERS, COLOURS, FIRST_ANSWER, PAINTS
from cvtrace.analysis.report.html.pictures import Picture
from cvtrace.analysis.report.html.tables import Column, Table
from cvtrace.analysis.report.names import printable

STATIC: Final = "cvtrace.analysis.report.html"
SCRIPTS: Final = (
    "unpacked.js",
    "tables.js",
    "pictures.js",
    "links.js",
    "explain.js",
    "tree.js",
    "activity.js",
    "page.js",
)
LEVEL: Final = 6


def document(
    template: str, pictures: Sequence[Picture], tables: Sequence[Table], data: dict[str, Any], **shown: Any
) -> str:
    """Return the page that a template makes of pictures, tables (each in the order in which they stand) and what is `shown`.

    `data` goes to the glue: names and numbers by which marks and rows are linked.
    """
    scripts = [_library(), _glue(*SCRIPTS)]
    by_picture = {picture.table for picture in pictures}
    return (
        _environment()
        .get_template(template)
        .render(
            policy=_policy(scripts),
            style=Markup(_static("page.css")),
            scripts=[Markup(script) for script in scripts],
            data=_packed({**_drawn(pictures), **data, "tables": [_table(table) for table in tables]}),
            pictures=pictures,
            tables={table.key: table for table in tables},
            further_tables=[table for table in tables if table.key not in by_picture],
            answers=ANSWERS,
            **_explained(),
            **shown,
        )
    )


def unlinked(template: str, script: str, pictures: Sequence[Picture], **shown: Any) -> str:
    """Return a page whose pictures are not linked with each other: `script` draws them, and tables are part of the template."""
    scripts = [_library(), _glue("unpacked.js", script)]
    return (
        _environment()
        .get_template(template)
        .render(
            policy=_policy(scripts),
            style=Markup(_static("page.css")),
            scripts=[Markup(each) for each in scripts],
            data=_packed(_drawn(pictures)),
            pictures=pictures,
            **_explained(),
            **shown,
        )
    )


def _explained() -> dict[str, Any]:
    """Return what the legend and the glossary of a page explain: the classes by group with their colours, and the terms."""
    return {
        "legend": [(group, [(Class(number), PAINTS[number]) for number in MEMBERS[group]]) for group in GROUPS],
        "terms": [(term, anchor(term), meaning) for term, meaning in TERMS.items()],
    }


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(_static),
    )
    environment.filters["shown"] = printable
    environment.filters["seconds"] = seconds
    environment.filters["size"] = size
    return environment


def load_all() -> None:
    """Read every file that a page is made of, for a process that is about to lose the right to read them."""
    _library()
    for each in (resources(STATIC) / "static").iterdir():
        _static(each.name)


@cache
def _static(name: str) -> str:
    return (resources(STATIC) / "static" / name).read_text(encoding="utf-8")


@cache
def _library() -> str:
    """Return Bokeh's own JavaScript, as its package carries it."""
    return _harmless(Resources(mode="inline", components=["bokeh"]).js_raw[0])


@cache
def _glue(*scripts: str) -> str:
    return _harmless("\n".join(["(() => {", '"use strict";', *map(_static, scripts), "})();"]))


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


@cache
def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _packed(payload: dict[str, Any]) -> str:
    """Return data as gzip in base64: names cannot be taken for markup, and a row costs a few bytes."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), LEVEL, mtime=0)).decode()


def _drawn(pictures: Sequence[Picture]) -> dict[str, Any]:
    drawing = Document()
    for picture in pictures:
        drawing.add_root(picture.model)
    return {
        "document": drawing.to_json(deferred=False),
        "roots": {picture.key: picture.model.id for picture in pictures},
        "paints": PAINTS,
        "classes": len(COLOURS),
        "meanings": [
            *([member.label, member.meaning, member.anchor] for member in Class),
            *([""] * 3 for _ in PAINTS[len(Class) : FIRST_ANSWER]),
            *(["", meaning, ""] for _, meaning in ANSWERS),
        ],
    }


def _table(table: Table) -> dict[str, Any]:
    return {
        "key": table.key,
        "columns": [_column(column) for column in table.columns],
        "links": table.links,
        "total": table.total,
    }


def _column(column: Column) -> dict[str, Any]:
    column_json = {"name": column.name, "unit": column.unit, "values": [_rounded(value) for value in column.values]}
    return column_json | ({"units": column.units} if column.units else {}) | ({"signed": True} if column.signed else {})


def _rounded(value: Any) -> Any:
    return round(value, 9) if isinstance(value, float) else value
