"""The origin: serves a store over HTTP, and can be slow, wrong or gone on purpose. Import from here.

injection.py what is done to which request, pacing.py how a body is slowed down, response.py one request and
its answer, listener.py the socket and its connections, server.py the origin itself, access_log.py what it did, exactly, control.py changing it while it
runs. proxy.py is a small caching proxy between clients and an origin.
"""

from cvtrace.lab.origin.access_log import AccessEntry, read_access_log
from cvtrace.lab.origin.control import control
from cvtrace.lab.origin.injection import Injection
from cvtrace.lab.origin.server import Origin

__all__ = ["AccessEntry", "Injection", "Origin", "control", "read_access_log"]
