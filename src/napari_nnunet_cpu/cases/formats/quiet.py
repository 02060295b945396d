"""Silence the warnings of libraries that read images, because every relevant problem raises an error."""

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
    """Silence readers and floating point warnings in the block, for this thread only."""
    token = _QUIET.set(True)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        _QUIET.reset(token)


for _logger in _LOGGERS:
    logging.getLogger(_logger).addFilter(lambda _: not _QUIET.get())
