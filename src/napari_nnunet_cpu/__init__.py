"""nnU-Net v2 models on the images open in napari, with the CPU as a first-class device.

These names are loaded on first use, because importing the package must stay fast:

>>> from napari_nnunet_cpu import load_model, read_case, segment, Settings
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_nnunet_cpu.cases import Case, read_case
    from napari_nnunet_cpu.errors import NNUNetCPUError
    from napari_nnunet_cpu.models import TrainedModel, load_model
    from napari_nnunet_cpu.predict import Estimate, Result, Run, estimate, segment
    from napari_nnunet_cpu.samples import sample_image, sample_model
    from napari_nnunet_cpu.settings import Settings
    from napari_nnunet_cpu.viewer.scripting import save_corrected_layer, segment_layer

_HOME = {
    "Case": "cases",
    "read_case": "cases",
    "NNUNetCPUError": "errors",
    "TrainedModel": "models",
    "load_model": "models",
    "Estimate": "predict",
    "Result": "predict",
    "Run": "predict",
    "estimate": "predict",
    "segment": "predict",
    "sample_image": "samples",
    "sample_model": "samples",
    "Settings": "settings",
    "save_corrected_layer": "viewer.scripting",
    "segment_layer": "viewer.scripting",
}

__all__ = [
    "Case",
    "Estimate",
    "NNUNetCPUError",
    "Result",
    "Run",
    "Settings",
    "TrainedModel",
    "estimate",
    "load_model",
    "read_case",
    "sample_image",
    "sample_model",
    "save_corrected_layer",
    "segment",
    "segment_layer",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
