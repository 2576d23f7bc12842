"""Which of the names that a daemon handles enter a trace: those that it handles for the target."""

from __future__ import annotations

from typing import Final

import numpy as np

from cvtrace.probes.events import Texts

FOR_TARGET: Final = 0x4000
"""Flag in the kind of a daemon's text while a probe holds it: the thread was at work for the target."""


class Names:
    """Takes the texts of a recording, in order, and leaves out what is not the target's."""

    def take(self, texts: Texts) -> Texts:
        """Return `texts` without their flags."""
        texts["kind"] &= ~np.uint16(FOR_TARGET)
        return texts
