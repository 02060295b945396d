"""The network in 8-bit integers: where it is faster, and agrees with float32 on the image at hand.

Some parts of the image go through the network in float32. One half of them calibrates the quantized
network, the other tells how far its labels agree. A network that did is kept for later runs, which
then need neither NNCF nor torch; but every image is checked anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.engines.agreement import Agreement, measure_agreement
from napari_nnunet_cpu.engines.calibration import Sample, crop_size, find_samples, label, quantized
from napari_nnunet_cpu.engines.network_cache import entry_folder, keep_network, network_key, read_network
from napari_nnunet_cpu.engines.openvino_engine import OpenVINOEngine
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.resources import installed_version, int8_is_fast

if TYPE_CHECKING:
    import openvino

# Of a size as the patch, at most so many: parts (C, *size) of the image in an order that goes all over it.
Crops = Callable[[tuple[int, ...], int], Iterator[npt.NDArray[np.float32]]]

_MOST_CROPS = 24  # gone through in search of foreground: as much work as three patches
_TO_CALIBRATE = _TO_CHECK = 4
_TO_CHECK_AGAIN = 2  # of an image for a network that was calibrated before


def why_not_int8(engine: str) -> str:
    """Why an engine can't compute in int8 here, in one line; empty where it may.

    Parameters
    ----------
    engine : {"openvino", "torch"}
        Its name.
    """
    if engine != "openvino":
        return f"{engine} computes in f32 alone"
    if not int8_is_fast():
        return "this CPU has no VNNI, the instructions for it"
    if installed_version("nncf") is None:
        return "nncf is not installed; install it with 'pip install napari-nnunet-cpu[int8]'"
    return ""


def int8_or_f32(
    model: TrainedModel,
    f32: Sequence[openvino.Model],
    threads: int,
    least: float,
    crops: Crops,
    reason: str,
    features: bool,
) -> OpenVINOEngine:
    """The engine in int8 if it agrees with float32 on parts of this image, else in float32.

    Parameters
    ----------
    model : TrainedModel
        What to run.
    f32 : sequence of openvino.Model
        Its networks, one per fold.
    threads : int
        CPU threads of one pass, at most.
    least : float
        Dice that every class must reach.
    crops : callable
        Gives parts of the image, see `Crops`.
    reason : str
        Why this engine; what is found about int8 is added.
    features : bool
        Whether it is to give features, see `OpenVINOEngine`.

    Raises
    ------
    EngineError
        When the networks fail in float32, too.
    """
    try:
        int8, folders, agreement = _agreeing(model, f32, threads, least, crops)
        found = f"{reason}; int8, which agrees with f32: {agreement}"
        engine = OpenVINOEngine(model, threads, found, int8, precision="int8", features=features, keep_in=folders)
    except EngineError as error:
        return OpenVINOEngine(model, threads, f"{reason}; f32, not int8: {error}", f32, features=features)
    engine.agreement = agreement
    return engine


def _agreeing(
    model: TrainedModel, f32: Sequence[openvino.Model], threads: int, least: float, crops: Crops
) -> tuple[list[openvino.Model], Sequence[Path], Agreement]:
    """Networks in int8, where those from the cache are, and how far they agree.

    Raises
    ------
    EngineError
        The reason why there are none.
    """
    size, keys = crop_size(model), [network_key(model, fold, "int8") for fold in range(len(model.folds))]
    known = [network for network in map(read_network, keys) if network is not None]
    calibrate = len(known) < len(keys)
    wanted = _TO_CALIBRATE + _TO_CHECK if calibrate else _TO_CHECK_AGAIN
    engine = OpenVINOEngine(model, threads, "", _clones(f32), patch=size)
    samples = find_samples(engine, crops(size, _MOST_CROPS), model.labels, wanted)
    if len(samples) < 1 + calibrate:
        raise EngineError(
            f"the image has too few parts of {' x '.join(map(str, size))} voxels to calibrate and check it"
        )
    if not calibrate:
        folders = [entry_folder(key) for key in keys]
        return known, folders, _checked(model, known, folders, threads, least, samples)
    made = [quantized(network, samples[1::2]) for network in f32]
    agreement = _checked(model, made, (), threads, least, samples[::2])
    for network, key in zip(made, keys, strict=True):
        keep_network(network, key)
    return made, (), agreement  # in the cache may be another process's


def _checked(
    model: TrainedModel,
    int8: Sequence[openvino.Model],
    folders: Sequence[Path],
    threads: int,
    least: float,
    samples: Sequence[Sample],
) -> Agreement:
    engine = OpenVINOEngine(model, threads, "", _clones(int8), patch=crop_size(model), keep_in=folders)
    pairs = ((sample.decided, label(engine, sample.crop, model.labels)) for sample in samples)
    agreement = measure_agreement(pairs, model.labels)
    if agreement.dice < least:
        raise EngineError(f"it agrees too little with f32, Dice {least:g} is asked for: {agreement}")
    return agreement


def _clones(networks: Sequence[openvino.Model]) -> Iterator[openvino.Model]:
    """The networks as an engine may change them; weights are shared."""
    return (network.clone() for network in networks)
