"""How every picture is made: a Bokeh figure of rectangles that share columns, colours, tools and, if it is of time, the axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bokeh.models import (
    BoxAnnotation,
    BoxZoomTool,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    PlainText,
    Range1d,
    TapTool,
    WheelZoomTool,
)
from bokeh.plotting import figure

from cvtrace.analysis.report.html.palette import PAINTS
from cvtrace.analysis.report.html.scene import Marks

Figure = Any
"""A Bokeh figure."""
__all__ = [
    "DOT",
    "Figure",
    "Picture",
    "blank",
    "name_lanes",
    "painted",
    "pointed_at",
    "points",
    "rectangles",
    "room_for_labels",
    "time_range",
    "values",
]

DIMMED: Final = 0.12
"""Opacity of what does not belong to what was chosen."""


DOT: Final[dict[str, Any]] = {"marker": "circle", "size": 8, "line_color": "#ffffff", "line_width": 0.6}
"""How a run is drawn in a picture of many runs."""


@dataclass(frozen=True)
class Picture:
    """A picture of the report; `key` names its place in the page, its sources and its table."""

    key: str
    title: str
    about: str
    model: Any
    table: str
    label: str
    """What a screen reader says of it."""


def time_range(key: str, duration_s: float) -> Range1d:
    """Return an axis of time; the page keeps those of all pictures alike, each when it is in view."""
    margin = duration_s * 0.01
    return Range1d(-margin, duration_s + margin, bounds=(-margin, duration_s + margin), name=f"time-{key}")


def blank(
    key: str, height: int, x_range: Any, y_range: Any, x_label: str, y_label: str = "", dimensions: str = "width"
) -> Figure:
    """Return an empty figure as wide as the page; the wheel zooms with Ctrl only, so that it scrolls the page."""
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        x_range=x_range,
        y_range=y_range,
        tools=f"{'x' if dimensions == 'width' else ''}box_zoom,{'x' if dimensions == 'width' else ''}pan,reset",
        toolbar_location="right",
        output_backend="canvas",
        min_border_left=110,
        min_border_right=10,
        x_axis_label=PlainText(text=x_label) if x_label else None,
        y_axis_label=PlainText(text=y_label) if y_label else None,
        lod_threshold=None,
    )
    plot.add_tools(WheelZoomTool(dimensions=dimensions, modifiers={"ctrl": True}))
    plot.toolbar.active_drag = plot.select_one(BoxZoomTool)
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.grid.grid_line_alpha = 0.25
    plot.outline_line_color = plot.background_fill_color = plot.border_fill_color = None  # the page's shows through
    cursor = BoxAnnotation(
        name=f"cursor-{key}",
        visible=False,
        left=0,
        right=0,
        top=0,
        bottom=0,
        fill_alpha=0,
        line_color="#e600a9",
        line_width=2,
    )
    plot.add_layout(cursor)
    return plot


def painted() -> dict[str, Any]:
    """Return the colour of each mark, by its paint."""
    return {
        "field": "paint",
        "transform": LinearColorMapper(palette=list(PAINTS), low=-0.5, high=len(PAINTS) - 0.5),
    }


def rectangles(
    plot: Figure, name: str, marks: Marks, outlined: bool = False, visible: bool = True, separated: bool = False
) -> Any:
    """Draw marks as rectangles; `outlined` ones can be seen however narrow they are, `separated` ones have a border. Returns the renderer."""
    source = ColumnDataSource(data=marks.columns(), name=name)
    colour = painted()
    return plot.quad(
        left="left",
        right="right",
        bottom="bottom",
        top="top",
        source=source,
        fill_color=colour,
        line_color=colour if outlined else "#80808066" if separated else None,
        line_width=0.8,
        nonselection_fill_alpha=DIMMED,
        nonselection_line_alpha=DIMMED,
        visible=visible,
    )


def points(plot: Figure, name: str, marks: Marks, **style: Any) -> Any:
    """Draw marks as points, which no zoom makes smaller, in a style of `scatter` (size in pixels). Returns the renderer."""
    look = {"marker": "inverted_triangle", "fill_color": painted(), "line_color": painted(), "line_width": 0.8, **style}
    return plot.scatter(
        x="left",
        y="bottom",
        source=ColumnDataSource(data=marks.columns(), name=name),
        nonselection_fill_alpha=DIMMED,
        nonselection_line_alpha=DIMMED,
        **look,
    )


def values(plot: Figure, name: str, x: Sequence[float], y: Sequence[float], texts: Sequence[str], **style: Any) -> None:
    """Write values at places; the page gives them the colour of its text."""
    plot.text(
        x="x",
        y="y",
        text="text",
        source=ColumnDataSource({"x": list(x), "y": list(y), "text": list(texts)}, name=f"{name}-values"),
        **{"text_font_size": "12px", "text_baseline": "middle", "x_offset": 6, **style},
    )


def pointed_at(plot: Figure, renderers: Sequence[Any]) -> None:
    """Let rectangles say what they are when the pointer is over them, and be chosen by a click."""
    tooltips = [("", "@what"), ("", "@how"), ("", "@meaning")]
    plot.add_tools(
        HoverTool(renderers=list(renderers), tooltips=tooltips, point_policy="follow_mouse", visible=False),
        TapTool(renderers=list(renderers), visible=False),
    )


def room_for_labels(plot: Figure, name: str) -> None:
    """Make room for names in rectangles; which fit is found out in the page."""
    plot.text(
        x="left",
        y="middle",
        text="label",
        text_color="ink",
        source=ColumnDataSource(data={"left": [], "middle": [], "label": [], "ink": []}, name=name),
        text_font_size="12px",
        text_baseline="middle",
        x_offset=4,
    )


def name_lanes(plot: Figure, middles: Sequence[float], names: Sequence[str]) -> None:
    """Write names next to the lanes, as they are: nothing in a name is markup."""
    plot.yaxis.ticker = FixedTicker(ticks=list(middles))
    plot.yaxis.major_label_overrides = {
        middle: PlainText(text=name) for middle, name in zip(middles, names, strict=True)
    }
    plot.ygrid.grid_line_color = None
