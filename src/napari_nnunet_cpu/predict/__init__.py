"""The sliding window: which tiles, in which order, added up how. `Run` owns the line from case to labels."""

from napari_nnunet_cpu.predict.planning.estimate import estimate
from napari_nnunet_cpu.predict.planning.plan import Estimate
from napari_nnunet_cpu.predict.result import Result
from napari_nnunet_cpu.predict.resume.saved_runs import SavedRun, saved_runs
from napari_nnunet_cpu.predict.run import Run
from napari_nnunet_cpu.predict.segment import run_to_end, segment
from napari_nnunet_cpu.predict.segmentation import Segmentation
from napari_nnunet_cpu.predict.tiles.order import Focus

__all__ = [
    "Estimate",
    "Focus",
    "Result",
    "Run",
    "SavedRun",
    "Segmentation",
    "run_to_end",
    "estimate",
    "saved_runs",
    "segment",
]
