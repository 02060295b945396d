"""Find crops of an image, and quantize a network with them.

Quantizing records the output of every layer for some examples, which is several times slower than a pass. Therefore
the examples are crops of about half a patch.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import rich

from napari_nnunet_cpu.engines.agreement import foreground_classes, winners
from napari_nnunet_cpu.engines.engine import Engine
from napari_nnunet_cpu.engines.openvino import last_convolution, last_line, load_nncf
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.models import Labels, TrainedModel
from napari_nnunet_cpu.models.network import Architecture

if TYPE_CHECKING:
    import openvino


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """A crop of the image."""

    crop: npt.NDArray[np.float32]  # shape (C, *crop), float32
    winners: npt.NDArray[Any]  # the winning heads in float32, see `agreement.winners`


def crop_size(model: TrainedModel) -> tuple[int, ...]:
    """Half the patch along each axis where the network allows it, else the patch; for Primus, its fixed patch."""
    architecture, patch = model.architecture, model.configuration.patch_size
    if not isinstance(architecture, Architecture):
        return patch
    # A multiple of the downsampling factor, and at least twice, because a single voxel can't be normalized.
    halves = (max(n // 2 // step, 2) * step for n, step in zip(patch, architecture.reduction, strict=True))
    return tuple(map(min, halves, patch))


def label(engine: Engine, crop: npt.NDArray[np.float32], labels: Labels) -> npt.NDArray[Any]:
    """The winning heads in a crop, for the sum of all folds; see `agreement.winners`."""
    total = engine.forward(crop, 0).copy()
    for fold in range(1, engine.folds):
        total += engine.forward(crop, fold)
    return winners(total, labels)


def find_samples(engine: Engine, crops: Iterable[npt.NDArray[np.float32]], labels: Labels, wanted: int) -> list[Sample]:
    """Find at most `wanted` crops (C, *crop) with foreground, those with most classes first.

    If at most one crop has foreground, other crops are added. The engine must be in float32, for the size of the
    crops. The iterable is read only as far as necessary.
    """
    full: list[tuple[int, Sample]] = []
    empty: list[Sample] = []
    for crop in crops:
        sample = Sample(crop, label(engine, crop, labels))
        classes = foreground_classes(sample.winners)
        if classes:
            full.append((classes, sample))
        else:
            empty.append(sample)
        if len(full) == wanted:
            break
    found = [sample for _, sample in sorted(full, key=lambda pair: pair[0], reverse=True)]
    return found if len(found) > 1 else [*found, *empty][:wanted]


def quantized(network: openvino.Model, samples: Sequence[Sample]) -> openvino.Model:
    """Quantize a copy of a float32 network to 8-bit integers, calibrated with samples.

    Raises `EngineError` if NNCF can't be loaded, or fails.
    """
    nncf = load_nncf()
    crops = [sample.crop[None] for sample in samples]
    example = network.clone()
    convolution = last_convolution(network)
    last = [] if convolution is None else [convolution.get_friendly_name()]
    try:
        example.reshape(list(crops[0].shape))
        with _silence():
            found: openvino.Model = nncf.quantize(
                example,
                nncf.Dataset(crops),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(crops),
                # Not instance normalization, because rounding its input costs agreement, most of all in air.
                # Not the last layer, because it is small, and features may be summed before it.
                ignored_scope=nncf.IgnoredScope(types=["MVN"], names=last, validate=False),
            )
    except MemoryError as error:
        raise EngineError("calibrating it ran out of memory") from error
    except Exception as error:  # noqa: BLE001  # an unknown network can make nncf raise anything
        raise EngineError(f"nncf can't quantize the network: {last_line(error)}") from error
    return found


@contextmanager
def _silence() -> Iterator[None]:
    """Silence NNCF inside the block, because its log and progress go to stdout."""
    logger, console = logging.getLogger("nncf"), rich.get_console()
    before = logger.disabled, console.quiet
    logger.disabled = console.quiet = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled, console.quiet = before
