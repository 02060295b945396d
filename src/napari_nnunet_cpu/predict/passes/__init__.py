"""Passes through the network: patches, mirrored passes, streams, and the sums of overlapping tiles."""

from napari_nnunet_cpu.predict.passes.accumulate import Accumulator
from napari_nnunet_cpu.predict.passes.accumulated_channels import accumulated_channels, extra_channels, sums_features
from napari_nnunet_cpu.predict.passes.disagreement import Disagreement
from napari_nnunet_cpu.predict.passes.mirroring import mirrored_axes, passes_per_tile
from napari_nnunet_cpu.predict.passes.patches import Patches
from napari_nnunet_cpu.predict.passes.streams import PauseGate, in_streams
from napari_nnunet_cpu.predict.passes.tile_passes import TilePasses
