"""Import OpenVINO, and NNCF, which quantizes its networks, without telemetry.

Importing them sends a message to Google Analytics and leaves an identifier in the user's home folder, unless the
user has opted out. `openvino.convert_model` and `nncf.quantize` do the same. All of them use the package
openvino_telemetry, and are silent without it.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import Any

from napari_nnunet_cpu.errors import EngineError, first_line

_TELEMETRY = "openvino_telemetry"
_lock = threading.Lock()


def load_openvino() -> ModuleType:
    """Import `openvino`, without telemetry unless another package imported it before.

    Raises `EngineError` if it is not installed or can't be loaded.
    """
    # If another package imported it before, it is left as it is, because that package may need its telemetry.
    with _lock, nullcontext() if "openvino" in sys.modules else _without_telemetry():
        try:
            import openvino
        except ModuleNotFoundError as error:
            if error.name != "openvino":
                raise _broken(error) from error
            raise EngineError("openvino is not installed; install it with 'pip install openvino'") from error
        except Exception as error:  # a damaged installation may raise anything
            raise _broken(error) from error
    module: ModuleType = openvino
    return module


def load_nncf() -> ModuleType:
    """Import `nncf`, without telemetry unless another package imported it before.

    Raises `EngineError` if it is not installed or can't be loaded.
    """
    load_openvino()
    loggers = logging.getLoggerClass()
    with _lock, nullcontext() if "nncf" in sys.modules else _without_telemetry(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports warn
        try:
            import nncf
        except Exception as error:  # a damaged installation may raise anything
            raise EngineError(f"nncf can't be loaded ({first_line(error)})") from error
        finally:
            logging.setLoggerClass(loggers)  # because it replaces the class of all loggers
    module: ModuleType = nncf
    return module


def openvino_version() -> str:
    """The exact version of OpenVINO with its commit; raises `EngineError` if it can't be loaded."""
    return str(load_openvino().get_version())


def last_line(error: Exception) -> str:
    """The reason in an OpenVINO error, which is its last line, after positions in OpenVINO's source code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removesuffix(".") if lines else type(error).__name__


def _broken(error: Exception) -> EngineError:
    return EngineError(f"openvino can't be loaded ({first_line(error)}); install it again")


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Make the import of the telemetry fail inside the block."""
    modules: dict[str, Any] = sys.modules
    before = modules.get(_TELEMETRY)
    modules[_TELEMETRY] = None
    try:
        yield
    finally:
        del modules[_TELEMETRY]
        if before is not None:
            modules[_TELEMETRY] = before
