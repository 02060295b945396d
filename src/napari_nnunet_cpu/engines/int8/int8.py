"""Run the network in 8-bit integers, if this is faster and agrees with float32 on the image.

Some crops of the image go through the network in float32. Half of them calibrate the quantized network, the others
measure the agreement of its labels. A network that agreed is cached for later runs, which then need neither NNCF
nor torch. But every new image is checked.
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
from napari_nnunet_cpu.engines.int8.known_agreement import hash_of_crops, recall_agreement, remember_agreement
from napari_nnunet_cpu.engines.openvino import (
    OpenVINOEngine,
    entry_folder,
    f32_networks,
    keep_network,
    network_key,
    read_network,
)
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.resources import installed_version, int8_is_fast

if TYPE_CHECKING:
    import openvino

# Takes a crop size and a maximum count; yields crops (C, *size) from all over the image.
Crops = Callable[[tuple[int, ...], int], Iterator[npt.NDArray[np.float32]]]

_MAX_CROPS = 24  # searched for foreground: as much work as three patches
_TO_CALIBRATE = _TO_CHECK = 4
_TO_CHECK_AGAIN = 2  # for a further image, with a network that was calibrated before


def int8_obstacle(engine: str) -> str:
    """Why the engine of this name can't compute in int8 on this computer, in one line; empty if it can."""
    if engine != "openvino":
        return f"{engine} computes in f32 alone"
    if not int8_is_fast():
        return "this CPU has no VNNI, the instructions for it"
    if installed_version("nncf") is None:
        return "nncf is not installed; install it with 'pip install napari-nnunet-cpu[int8]'"
    return ""


def int8_or_f32(
    model: TrainedModel, threads: int, min_dice: float, crops: Crops, reason: str, features: bool, streams: int
) -> OpenVINOEngine:
    """The engine in int8 if every class reaches `min_dice` against float32 on this image, else in float32.

    `reason` says why this engine was chosen, and gets a part about int8. Raises `ModelError` if a checkpoint is
    damaged or does not fit, and `EngineError` if the networks fail in float32, too.
    """
    f32 = functools.cache(lambda: list(f32_networks(model, threads)))
    try:
        int8, folders, agreement = _calibrated(model, f32, threads, min_dice, crops)
        if agreement.dice < min_dice:
            raise EngineError(f"it agrees too little with f32, Dice {min_dice:g} is asked for: {agreement}")
        found = f"{reason}; int8, which agrees with f32: {agreement}"
        engine = OpenVINOEngine(
            model, threads, found, int8, precision="int8", features=features, folders=folders, streams=streams
        )
    except EngineError as error:
        found = f"{reason}; f32, not int8: {error}"
        return OpenVINOEngine(model, threads, found, f32(), features=features, streams=streams)
    engine.agreement = agreement
    return engine


def _calibrated(
    model: TrainedModel, f32: Callable[[], list[openvino.Model]], threads: int, min_dice: float, crops: Crops
) -> tuple[list[openvino.Model], Sequence[Path], Agreement]:
    """Networks in int8, their cache folders, and their agreement with float32.

    The list of networks is empty if an earlier run has found too little agreement on this image. Raises
    `EngineError` if the networks can't be made or compared.
    """
    size, keys = crop_size(model), [network_key(model, fold, "int8") for fold in range(len(model.folds))]
    cached = [network for network in map(read_network, keys) if network is not None]
    if len(cached) < len(keys):
        cached = []
    folders = [entry_folder(key) for key in keys] if cached else []
    image = hash_of_crops(crops(size, _MAX_CROPS))
    known = recall_agreement(keys, image)
    if known is not None and (cached or known.dice < min_dice):
        return cached, folders, known
    wanted = _TO_CHECK_AGAIN if cached else _TO_CALIBRATE + _TO_CHECK
    engine = OpenVINOEngine(model, threads, "", _clones(f32()), patch=size)
    samples = find_samples(engine, crops(size, _MAX_CROPS), model.labels, wanted)
    if len(samples) < (1 if cached else 2):
        raise EngineError(
            f"the image has too few parts of {' x '.join(map(str, size))} voxels to calibrate and check it"
        )
    if cached:
        agreement = _agreement(model, cached, folders, threads, samples)
        remember_agreement(keys, image, agreement)
        return cached, folders, agreement
    made = [quantized(network, samples[1::2]) for network in f32()]
    agreement = _agreement(model, made, (), threads, samples[::2])
    if agreement.dice >= min_dice:
        stored = [keep_network(network, key) for network, key in zip(made, keys, strict=True)]
        if not all(stored):  # because the entry may be another process's network
            return made, [], agreement
        folders = [entry_folder(key) for key in keys]
    remember_agreement(keys, image, agreement)
    return made, folders, agreement


def _agreement(
    model: TrainedModel,
    int8: Sequence[openvino.Model],
    folders: Sequence[Path],
    threads: int,
    samples: Sequence[Sample],
) -> Agreement:
    engine = OpenVINOEngine(model, threads, "", _clones(int8), patch=crop_size(model), folders=folders)
    pairs = ((sample.winners, label(engine, sample.crop, model.labels)) for sample in samples)
    return measure_agreement(pairs, model.labels)


def _clones(networks: Sequence[openvino.Model]) -> Iterator[openvino.Model]:
    """Copies of networks that an engine may change; they share the weights."""
    return (network.clone() for network in networks)
