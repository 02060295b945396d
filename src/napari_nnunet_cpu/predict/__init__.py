"""The sliding window: which tiles, in which order, added up how. `Run` owns the line from case to labels."""

from napari_nnunet_cpu.predict.cost import Estimate, estimate
from napari_nnunet_cpu.predict.result import Result
from napari_nnunet_cpu.predict.run import Run
from napari_nnunet_cpu.predict.segment import drained, segment, stages

__all__ = ["Estimate", "Result", "Run", "drained", "estimate", "segment", "stages"]
