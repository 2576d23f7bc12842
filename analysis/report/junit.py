"""What a check found as JUnit XML, which CI systems show: a test case for each condition.

The elements are those of https://github.com/testmoapp/junitxml: testsuites, testsuite, properties, testcase, failure, error.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree

from cvtrace.probes.visible import printable

SUITE: Final = "cvtrace check"
NO_CHARACTER: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold (production 2, Char)."""


@dataclass(frozen=True)
class Case:
    """One condition. `failure` is None where it holds; with `error`, it could not be tested."""

    name: str
    failure: str | None = None
    error: str | None = None


def render(subject: str, cases: Sequence[Case], properties: dict[str, str]) -> bytes:
    """Return the XML on one trace or bench folder, the `subject`."""
    counts = {
        "tests": len(cases),
        "failures": sum(case.failure is not None for case in cases),
        "errors": sum(case.error is not None for case in cases),
    }
    texts = {name: str(number) for name, number in counts.items()}
    root = ElementTree.Element("testsuites", {"name": SUITE, **texts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": _text(subject), **texts, "skipped": "0", "time": "0"})
    known = {name: value for name, value in properties.items() if value}
    if known:
        parent = ElementTree.SubElement(suite, "properties")
        for name, value in known.items():
            ElementTree.SubElement(parent, "property", {"name": name, "value": _text(value)})
    for case in cases:
        names = {"classname": _text(subject), "name": _text(case.name), "time": "0"}
        element = ElementTree.SubElement(suite, "testcase", names)
        for kind, message in (("failure", case.failure), ("error", case.error)):
            if message is not None:
                ElementTree.SubElement(element, kind, {"message": _text(message), "type": "cvtrace"}).text = _text(
                    message
                )
    ElementTree.indent(root)
    body: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return body + b"\n"


def _text(text: str) -> str:
    """Return text that XML may hold: what it cannot hold is written out."""
    return NO_CHARACTER.sub(lambda match: f"\\u{ord(match[0]):04x}", printable(text))
