"""The work of a run, and the seconds that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.settings import Settings


@dataclass(frozen=True, slots=True)
class Work:
    """The work of a run, counted."""

    prepared: int  # voxels of all channels, of the image and of the prepared image
    passes: int
    exported: int  # logits, and labels or (for probabilities and uncertainty) all heads

    @classmethod
    def counted(cls, case: Case, model: TrainedModel, settings: Settings, geometry: Geometry, passes: int) -> Work:
        """The work of one run."""
        voxels, heads = prod(geometry.shape), model.labels.heads
        cropped = prod(geometry.cropped_shape)
        exported = heads * cropped if settings.probabilities or settings.uncertainty else cropped
        return cls(len(model.channel_names) * (prod(case.shape) + voxels), passes, heads * voxels + exported)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of a load, and for each voxel, pass and number that `Work` counts; a pass includes adding up its tile."""

    load: float
    prepare: float
    network: float
    export: float

    @classmethod
    def measured(cls, seconds: dict[str, float], work: Work) -> Times:
        """The times of a run, from its seconds per stage."""
        return cls(
            seconds.get("load", 0.0),
            seconds["prepare"] / work.prepared,
            seconds["predict"] / work.passes,
            seconds["export"] / work.exported,
        )

    def of(self, work: Work) -> float:
        """Seconds of a run."""
        return self.load + self.prepare * work.prepared + self.network * work.passes + self.export * work.exported
