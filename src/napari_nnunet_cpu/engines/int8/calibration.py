"""Parts of an image, and a network quantized with them.

Quantizing looks at what every layer gives for some examples, which takes several times as long as running the
network. So the examples are crops of about half a patch.
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

from napari_nnunet_cpu.engines.agreement import decided, foreground_classes
from napari_nnunet_cpu.engines.engine import Engine
from napari_nnunet_cpu.engines.openvino.last_layer import last_convolution
from napari_nnunet_cpu.engines.openvino.library import last_line, load_nncf
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.models.labels import Labels
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.models.network.architecture import Architecture

if TYPE_CHECKING:
    import openvino


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """A part of the image.

    Attributes
    ----------
    crop : numpy.ndarray
        Shape (C, *crop), float32.
    decided : numpy.ndarray
        What the network says of it in float32, see `agreement.decided`.
    """

    crop: npt.NDArray[np.float32]
    decided: npt.NDArray[Any]


def crop_size(model: TrainedModel) -> tuple[int, ...]:
    """Half the patch along each axis where the network can take that, else all of it; of a Primus its only patch."""
    architecture, patch = model.architecture, model.configuration.patch_size
    if not isinstance(architecture, Architecture):
        return patch
    # A multiple of what becomes one voxel at the bottleneck, two of them at least: one can't be normalized.
    halves = (max(n // 2 // step, 2) * step for n, step in zip(patch, architecture.reduction, strict=True))
    return tuple(map(min, halves, patch))


def label(engine: Engine, crop: npt.NDArray[np.float32], labels: Labels) -> npt.NDArray[Any]:
    """What all folds together say of a crop, see `agreement.decided`."""
    total = engine.forward(crop, 0).copy()
    for fold in range(1, engine.folds):
        total += engine.forward(crop, fold)
    return decided(total, labels)


def find_samples(engine: Engine, crops: Iterable[npt.NDArray[np.float32]], labels: Labels, wanted: int) -> list[Sample]:
    """So many of the crops, at most: those with foreground, most classes first; any, where hardly one has some.

    Parameters
    ----------
    engine : Engine
        In float32, for the size of the crops.
    crops : iterable of numpy.ndarray
        Shape (C, *crop) each; no more of them are taken than are needed.
    labels : Labels
        What the network's heads mean.
    wanted : int
        Samples, at most.
    """
    full: list[tuple[int, Sample]] = []
    empty: list[Sample] = []
    for crop in crops:
        sample = Sample(crop, label(engine, crop, labels))
        classes = foreground_classes(sample.decided)
        if classes:
            full.append((classes, sample))
        else:
            empty.append(sample)
        if len(full) == wanted:
            break
    found = [sample for _, sample in sorted(full, key=lambda pair: pair[0], reverse=True)]
    return found if len(found) > 1 else [*found, *empty][:wanted]


def quantized(network: openvino.Model, samples: Sequence[Sample]) -> openvino.Model:
    """A network whose convolutions take 8-bit integers; the given one stays as it is.

    Parameters
    ----------
    network : openvino.Model
        In float32.
    samples : sequence of Sample
        What it is calibrated with.

    Raises
    ------
    EngineError
        When NNCF can't be loaded, or fails.
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
                # Instance normalization: rounding its input costs agreement, most where a patch is nearly all air.
                # The last layer: it is small, and features may be summed before it.
                ignored_scope=nncf.IgnoredScope(types=["MVN"], names=last, validate=False),
            )
    except MemoryError as error:
        raise EngineError("calibrating it ran out of memory") from error
    except Exception as error:  # noqa: BLE001  # a network that nncf has never seen may raise anything
        raise EngineError(f"nncf can't quantize the network: {last_line(error)}") from error
    return found


@contextmanager
def _silence() -> Iterator[None]:
    """Let NNCF print nothing inside the block: neither its log nor its progress, which go to stdout."""
    logger, console = logging.getLogger("nncf"), rich.get_console()
    before = logger.disabled, console.quiet
    logger.disabled = console.quiet = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled, console.quiet = before
