"""The exceptions of this package.

Every message is one line: the problem, the value found, the remedy. None of
them derives from `RuntimeError`, because Qt thread workers swallow that one.
"""

from __future__ import annotations


class NNUNetCPUError(Exception):
    """Base of all exceptions that this package raises on purpose."""


class SettingsError(NNUNetCPUError, ValueError):
    """Raised when the settings of a run are invalid."""


class CaseError(NNUNetCPUError, ValueError):
    """Raised when an image can't be read, or does not fit the model or the settings."""


class MemoryBudgetError(NNUNetCPUError):
    """Raised before a run that needs more memory or disk space than it may use."""


class ModelError(NNUNetCPUError, ValueError):
    """Raised when a model folder, archive or checkpoint is incomplete, unsafe or not supported."""


class DeviceError(NNUNetCPUError, ValueError):
    """Raised when this computer does not have the chosen device."""


class EngineError(NNUNetCPUError):
    """Raised when the network fails during a pass."""


class ViewerError(NNUNetCPUError):
    """Raised when no napari window can be opened."""


class OutputError(NNUNetCPUError, OSError):
    """Raised when a result can't be written."""


def first_line(error: Exception) -> str:
    """The first line of another library's error message; the name of its type where the message is empty."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
