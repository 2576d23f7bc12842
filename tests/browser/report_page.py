"""A report in a browser: where its marks are on the screen, and what went wrong."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from playwright.sync_api import FloatRect, Page

DEADLINE_S = 10.0
FIND = """([name, expected]) => {
  const plain = (source, key) => source.data[key] ?? source.data.get(key);
  const source = Bokeh.documents[0].get_model_by_name(name);
  const columns = Object.fromEntries(["left", "right", "bottom", "top", "phase", "token", "file", "fetch", "what"].map((key) => [key, plain(source, key)]));
  let widest = null;
  for (let index = 0; index < columns.what.length; index++) {
    const mark = { index, ...Object.fromEntries(Object.entries(columns).map(([key, values]) => [key, values[index]])) };
    if (!Object.entries(expected).every(([key, value]) => mark[key] === value)) continue;
    if (widest === null || mark.right - mark.left > widest.right - widest.left) widest = mark;
  }
  return widest;
}"""
PLACE = """([key, x, y]) => {
  const view = Bokeh.index.roots.find((each) => each.el.parentElement?.id === `plot-${key}` || document.getElementById(`plot-${key}`).contains(each.el));
  const canvas = view.el.getBoundingClientRect();
  return [canvas.left + view.frame.x_scale.compute(x), canvas.top + view.frame.y_scale.compute(y)];
}"""


class ReportPage:
    """A page whose requests and errors are kept in `troubles`."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.troubles: list[str] = []
        page.on("request", lambda request: self._trouble(request.url, not request.url.startswith("file:///")))
        page.on("console", lambda line: self._trouble(line.text, line.type in ("error", "warning")))
        page.on("pageerror", lambda error: self._trouble(str(error), True))
        page.on("dialog", lambda dialog: self._trouble(f"dialog {dialog.message}", True))

    def _trouble(self, what: str, is_trouble: bool) -> None:
        if is_trouble:
            self.troubles.append(what)

    def open(self, report: Path, fragment: str = "") -> None:
        """Load a report and wait until it can be used."""
        self.page.goto(report.resolve().as_uri() + fragment)
        self.page.wait_for_selector("html[data-ready]", timeout=60_000)

    @property
    def hash(self) -> str:
        value: str = self.page.evaluate("decodeURIComponent(location.hash)")
        return value

    def box(self, key: str) -> FloatRect:
        """Return where a picture is in the window."""
        value = self.page.locator(f"#plot-{key}").bounding_box()
        assert value is not None
        return value

    def show(self, key: str) -> None:
        """Bring a picture into view, and let it catch up."""
        self.page.locator(f"#plot-{key}").evaluate("(place) => place.scrollIntoView({ block: 'center' })")
        self.frame()

    def frame(self) -> None:
        """Wait until the browser has drawn."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 100)))")

    def mark(self, source: str, **expected: object) -> dict[str, Any]:
        """Return the widest mark with these values."""
        value: dict[str, Any] | None = self.page.evaluate(FIND, [source, expected])
        assert value is not None, (source, expected)
        return value

    def place(self, key: str, mark: dict[str, Any]) -> tuple[float, float]:
        """Return where the middle of a mark is on the screen."""
        middle = ((mark["left"] + mark["right"]) / 2, (mark["bottom"] + mark["top"]) / 2)
        x, y = self.page.evaluate(PLACE, [key, *middle])
        return x, y

    def click(self, key: str, source: str, **expected: object) -> dict[str, Any]:
        """Click on a mark as a user would."""
        self.show(key)
        mark = self.mark(source, **expected)
        self.page.mouse.click(*self.place(key, mark))
        self.page.wait_for_timeout(350)  # the library waits for a second click before it believes in one
        return mark

    def until(self, expression: str, expected: object) -> None:
        """Wait until an expression has a value."""
        deadline = time.monotonic() + DEADLINE_S
        while (value := self.page.evaluate(expression)) != expected:
            assert time.monotonic() < deadline, (expression, value)
            time.sleep(0.02)

    def range(self, key: str) -> tuple[float, float]:
        """Return the stretch of time that a picture shows."""
        start, end = self.page.evaluate(
            "(key) => { const r = Bokeh.documents[0].get_model_by_name(`time-${key}`); return [r.start, r.end]; }", key
        )
        return start, end

    def selected(self, source: str) -> set[int]:
        """Return the marks that stand out, none if all do."""
        return set(self.page.evaluate("(name) => Bokeh.documents[0].get_model_by_name(name).selected.indices", source))

    def values(self, table: str, column: str) -> list[str]:
        """Return what a table shows in the column of that name."""
        rows = self.rows(table)
        names = self.page.locator(f'details[data-table="{table}"] th').all_inner_texts()
        place = names.index(column)
        return [row[place] for row in rows]

    def rows(self, table: str) -> list[list[str]]:
        """Return what a table shows; it is opened if it is not."""
        place = self.page.locator(f'details[data-table="{table}"]')
        if place.get_attribute("open") is None:
            place.locator("summary").click()
            place.locator("tbody").wait_for(state="attached")
        cells: list[list[str]] = place.locator("tbody tr").evaluate_all(
            "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
        )
        return cells
