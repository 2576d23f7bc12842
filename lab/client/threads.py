"""Threads that bear the name of the process and leave signals to the main thread."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Final

from cvtrace.lab.client.syscalls import name_thread

PROCESS_NAME: Final = "cvmfs2"

_FOR_MAIN_THREAD: Final = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT}


def start_thread(work: Callable[[], None], name: str = PROCESS_NAME) -> threading.Thread:
    """Start a daemon thread, named like every thread of the client or as given."""

    def run() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_MAIN_THREAD)
        name_thread(name)
        try:
            work()
        except Exception:  # a client without one of its threads would hang its users; a dead one answers ENOTCONN
            logging.exception("a thread of the client failed")
            os._exit(1)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
