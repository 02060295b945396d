"""The network in 8-bit integers: where it is faster, and agrees with float32 on the image at hand.

Some parts of the image go through the network in float32. One half of them calibrates the quantized
network, the other tells how far its labels agree. A network that did is kept for later runs, which
then need neither NNCF nor torch; but every image is checked once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.engines.agreement import Agreement, measure_agreement
from napari_nnunet_cpu.engines.int8.calibration import Sample, crop_size, find_samples, label, quantized
from napari_nnunet_cpu.engines.int8.known_agreement import hash_of_parts, recall_agreement, remember_agreement
from napari_nnunet_cpu.engines.openvino.network_cache import entry_folder, keep_network, network_key, read_network
from napari_nnunet_cpu.engines.openvino.openvino_engine import OpenVINOEngine, f32_networks
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.resources import installed_version, int8_is_fast

if TYPE_CHECKING:
    import openvino

# Of a size as the patch, at most so many: parts (C, *size) of the image in an order that goes all over it.
Crops = Callable[[tuple[int, ...], int], Iterator[npt.NDArray[np.float32]]]

_MAX_CROPS = 24  # gone through in search of foreground: as much work as three patches
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
    model: TrainedModel, threads: int, least: float, crops: Crops, reason: str, features: bool, streams: int
) -> OpenVINOEngine:
    """The engine in int8 if it agrees with float32 on parts of this image, else in float32.

    Parameters
    ----------
    model : TrainedModel
        What to run.
    threads : int
        CPU threads of one pass, at most.
    least : float
        Dice that every class must reach.
    crops : callable
        Gives parts of the image, see `Crops`.
    reason : str
        Why this engine; what is found about int8 is added.
    features, streams
        As `OpenVINOEngine` takes them.

    Raises
    ------
    ModelError
        When a checkpoint is damaged or does not fit.
    EngineError
        When the networks fail in float32, too.
    """
    f32 = functools.cache(lambda: list(f32_networks(model, threads)))
    try:
        int8, folders, agreement = _calibrated(model, f32, threads, least, crops)
        if agreement.dice < least:
            raise EngineError(f"it agrees too little with f32, Dice {least:g} is asked for: {agreement}")
        found = f"{reason}; int8, which agrees with f32: {agreement}"
        engine = OpenVINOEngine(
            model, threads, found, int8, precision="int8", features=features, keep_in=folders, streams=streams
        )
    except EngineError as error:
        found = f"{reason}; f32, not int8: {error}"
        return OpenVINOEngine(model, threads, found, f32(), features=features, streams=streams)
    engine.agreement = agreement
    return engine


def _calibrated(
    model: TrainedModel, f32: Callable[[], list[openvino.Model]], threads: int, least: float, crops: Crops
) -> tuple[list[openvino.Model], Sequence[Path], Agreement]:
    """Networks in int8, where those from the cache are, and how far they agree.

    There are none where it is known that those of this image agree too little.

    Raises
    ------
    EngineError
        Why they can't be made, or compared.
    """
    size, keys = crop_size(model), [network_key(model, fold, "int8") for fold in range(len(model.folds))]
    kept = [network for network in map(read_network, keys) if network is not None]
    if len(kept) < len(keys):
        kept = []
    folders = [entry_folder(key) for key in keys] if kept else []
    parts = hash_of_parts(crops(size, _MAX_CROPS))
    known = recall_agreement(keys, parts)
    if known is not None and (kept or known.dice < least):
        return kept, folders, known
    wanted = _TO_CHECK_AGAIN if kept else _TO_CALIBRATE + _TO_CHECK
    engine = OpenVINOEngine(model, threads, "", _clones(f32()), patch=size)
    samples = find_samples(engine, crops(size, _MAX_CROPS), model.labels, wanted)
    if len(samples) < (1 if kept else 2):
        raise EngineError(
            f"the image has too few parts of {' x '.join(map(str, size))} voxels to calibrate and check it"
        )
    if kept:
        agreement = _agreement(model, kept, folders, threads, samples)
        remember_agreement(keys, parts, agreement)
        return kept, folders, agreement
    made = [quantized(network, samples[1::2]) for network in f32()]
    agreement = _agreement(model, made, (), threads, samples[::2])
    if agreement.dice >= least:
        ours = [keep_network(network, key) for network, key in zip(made, keys, strict=True)]
        if not all(ours):  # what is kept may be another process's
            return made, [], agreement
        folders = [entry_folder(key) for key in keys]
    remember_agreement(keys, parts, agreement)
    return made, folders, agreement


def _agreement(
    model: TrainedModel,
    int8: Sequence[openvino.Model],
    folders: Sequence[Path],
    threads: int,
    samples: Sequence[Sample],
) -> Agreement:
    engine = OpenVINOEngine(model, threads, "", _clones(int8), patch=crop_size(model), keep_in=folders)
    pairs = ((sample.decided, label(engine, sample.crop, model.labels)) for sample in samples)
    return measure_agreement(pairs, model.labels)


def _clones(networks: Sequence[openvino.Model]) -> Iterator[openvino.Model]:
    """The networks as an engine may change them; weights are shared."""
    return (network.clone() for network in networks)
