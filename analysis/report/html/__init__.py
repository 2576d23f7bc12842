"""The report as one file of HTML that needs no network: linked pictures, each with its table.

    scene      what all pictures share: numbers that link them, names as they are shown
    detail     how much is drawn one by one
    pictures   how a picture is made of rectangles; palette: their colours
    phases, timeline, activity, tokens, flame, waterfall, heat   one picture each
    timeline_bands: what the timeline shows, before it is reduced; tracks: its names; borders: of tensors and chunks
    figures    the top of the page; folders: the tree of folders and files
    tables     the same as text
    page       what is said of the run; document: all of it in one file
    static/    the page's template, style and glue

Drawing is Bokeh's, whose JavaScript comes with its package.
"""

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.report.html import activity, flame, heat, phases, timeline, tokens, waterfall
from cvtrace.analysis.report.html.page import page
from cvtrace.analysis.report.html.scene import scene
from cvtrace.analysis.report.html.tables import tables
from cvtrace.analysis.storage.tables import Tables


def render(study: Study, details: Tables, report: Report) -> str:
    """Return the page."""
    shared = scene(study, details, report)
    heats = heat.picture(shared)
    pictures = [
        phases.picture(shared),
        timeline.picture(shared),
        activity.picture(shared),
        tokens.picture(shared),
        flame.picture(shared),
        waterfall.picture(shared),
        heats[0] if heats else None,
    ]
    every_table = [*tables(shared), activity.table(shared)]
    return page(
        shared,
        [each for each in pictures if each],
        heats[1] if heats else [],
        [table for table in every_table if table.total],
    )
