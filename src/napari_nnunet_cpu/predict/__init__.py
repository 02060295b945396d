"""From case to labels: `Run` computes the tiles of one network, and `Segmentation` the runs of a model or ensemble."""

from napari_nnunet_cpu.predict.control import RunControl
from napari_nnunet_cpu.predict.planning import Estimate, check_fit, estimate
from napari_nnunet_cpu.predict.result import Result, check_probabilities
from napari_nnunet_cpu.predict.resume import RunFiles, SavedRun, SavedRunList, saved_runs
from napari_nnunet_cpu.predict.run import Run
from napari_nnunet_cpu.predict.segment import run_to_end, segment
from napari_nnunet_cpu.predict.segmentation import Segmentation
from napari_nnunet_cpu.predict.tiles import Focus, TileSelection
