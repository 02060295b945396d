"""Libraries that read images are kept from complaining on the terminal: what matters is raised."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

_QUIET = ContextVar("_QUIET", default=False)
_LOGGERS = ("nibabel.global", "tifffile")


@contextmanager
def quiet() -> Iterator[None]:
    """In the block, and in this thread alone, nothing that readers log and no floating point warning is shown."""
    token = _QUIET.set(True)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        _QUIET.reset(token)


for _logger in _LOGGERS:
    logging.getLogger(_logger).addFilter(lambda _: not _QUIET.get())
