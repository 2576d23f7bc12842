"""The daemon's entry: `python -m cvtrace.lab.client CONFIGURATION STATUS_FD`, started by `mounting`.

Leaves the caller's session, mounts, and reports through the pipe STATUS_FD: one line of JSON with the pid, or with the reason of a failure.
"""

from __future__ import annotations

import json
import logging
import os
import sys

from cvtrace.lab.client import daemon
from cvtrace.lab.errors import LabError


def main() -> None:
    """Fork away from the caller and serve."""
    configuration = daemon.from_json(json.loads(sys.argv[1]))
    status_fd = int(sys.argv[2])
    if os.fork():
        os._exit(0)

    def report(**values: object) -> None:
        os.write(status_fd, json.dumps(values).encode() + b"\n")
        os.close(status_fd)

    logging.basicConfig(format="%(asctime)s %(message)s")
    try:
        daemon.serve(configuration, ready=lambda: report(pid=os.getpid()))
    except LabError as error:
        report(error=str(error))
        os._exit(1)
    except BaseException:
        logging.exception("the client failed")
        os._exit(1)
    os._exit(0)  # libfuse's threads are gone, but Python would wait for states it made for them


main()
