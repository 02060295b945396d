"""The sliding window: which tiles, in which order, added up how. `Run` owns the line from case to labels."""

from napari_nnunet_cpu.predict.cost import estimate
from napari_nnunet_cpu.predict.order import Focus
from napari_nnunet_cpu.predict.plan import Estimate
from napari_nnunet_cpu.predict.result import Result
from napari_nnunet_cpu.predict.run import Run
from napari_nnunet_cpu.predict.saved_runs import SavedRun, saved_runs
from napari_nnunet_cpu.predict.segment import drained, segment
from napari_nnunet_cpu.predict.segmentation import Segmentation

__all__ = [
    "Estimate",
    "Focus",
    "Result",
    "Run",
    "SavedRun",
    "Segmentation",
    "drained",
    "estimate",
    "saved_runs",
    "segment",
]
