"""What can go wrong, as one family of exceptions.

Every message is one line: what was wrong, what was found, what to do. None of
these derives from `RuntimeError`, because Qt thread workers swallow that one.
"""

from __future__ import annotations


class NNUNetCPUError(Exception):
    """Base of all errors raised on purpose by this package."""


class SettingsError(NNUNetCPUError, ValueError):
    """Raised when a run is asked for with settings that make no sense."""


class CaseError(NNUNetCPUError, ValueError):
    """Raised when an image can't be read or does not fit what is asked of it."""


class MemoryBudgetError(NNUNetCPUError):
    """Raised before a run that needs more memory, or room on disk, than it may use."""


class ModelError(NNUNetCPUError, ValueError):
    """Raised when a model folder, archive or checkpoint is incomplete, unsafe or unsupported."""


class DeviceError(NNUNetCPUError, ValueError):
    """Raised when the device asked for does not exist on this machine."""


class EngineError(NNUNetCPUError):
    """Raised when the network fails while it computes."""


class ViewerError(NNUNetCPUError):
    """Raised when no napari window can be opened."""


class OutputError(NNUNetCPUError, OSError):
    """Raised when a result can't be written."""


def first_line(error: Exception) -> str:
    """What another library's error says, fit for the one line of ours."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
