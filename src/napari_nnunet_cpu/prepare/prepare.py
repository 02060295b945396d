"""Transpose, crop, normalize and resample a case, in nnU-Net's order.

Source: `preprocessing/preprocessors/default_preprocessor.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.cases import Case, Spacing, SpacingSource, check_intensities, planar_spacing
from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.models import REORIENTING_READERS, VOXEL_READERS, TrainedModel
from napari_nnunet_cpu.prepare.crop import bounding_box, nonzero_mask, nonzero_voxels
from napari_nnunet_cpu.prepare.geometry import AxisOrder, Geometry, to_ras
from napari_nnunet_cpu.prepare.normalize import normalize
from napari_nnunet_cpu.prepare.resample import Resampler, resampled_shape

# A larger image surely has its spacing in a wrong unit, and would only exhaust the memory.
_MAX_VOXELS = 2**34


@dataclass(frozen=True, eq=False)
class Prepared:
    """The image as the network sees it."""

    # Shape (C, *geometry.shape), model's axes: the normalized and resampled channels. In a cascade, further channels
    # are masks (0 or 1) of the labels of the first stage.
    image: npt.NDArray[np.float32]
    geometry: Geometry


@dataclass(frozen=True, eq=False)
class Cropped:
    """The cropped image: the part of a case that is not zero."""

    geometry: Geometry
    mask: npt.NDArray[np.bool_]  # shape geometry.cropped_shape: where any channel is not zero, with holes filled


def crop(case: Case, model: TrainedModel) -> Cropped:
    """Crop a case to its nonzero voxels, before any array of the prepared image's size is made.

    Raises `CaseError` if the channels or axes do not fit the model, or the spacing is absurd.
    """
    order = reader_order(case, model).then(model.plans.transpose_forward)
    mask = nonzero_mask(order.apply(channel) for channel in case.channels)
    box = bounding_box(mask)
    return Cropped(plan_geometry(case, model, order.undo_box(box, order.permute(case.shape))), mask[box.slices])


def nonzero_box(case: Case) -> Box:
    """The box of the voxels that are nonzero in any channel: every model crops the case to it."""
    return bounding_box(nonzero_voxels(case.channels))


def prepare(
    case: Case, model: TrainedModel, first_stage: npt.NDArray[Any] | None = None, cropped: Cropped | None = None
) -> Prepared:
    """Prepare a case by the plans of a model.

    A cascade needs the labels of its `first_stage`, shape of the case (Z, Y, X). `cropped` is the result of `crop`, if
    the caller has it. Raises `CaseError` like `crop`, if voxels have values that mean "no data", or if the labels of
    the first stage are missing or do not fit the case.
    """
    cropped = cropped or crop(case, model)
    geometry, mask = cropped.geometry, cropped.mask
    order, box = geometry.order, geometry.box.slices
    result = np.empty((model.input_channels, *geometry.shape), dtype=np.float32)
    if model.cascade:
        labels = order.apply(check_first_stage(first_stage, case, model))[box].astype(np.int32)
        labels[(labels == 0) & ~mask] = -1  # because nnU-Net separates background from voxels outside the image
        mask = labels >= 0
        _one_hot(labels, model, geometry, result[len(case.channels) :])
        del labels
    configuration = model.configuration
    resampler = Resampler.from_plans(
        configuration.resampling_fn_data,
        configuration.resampling_fn_data_kwargs,
        geometry.spacing_mm,
        geometry.target_spacing_mm,
    )
    for index, original in enumerate(case.channels):
        if configuration.normalization_schemes[index] != "CTNormalization":  # because this scheme clips
            check_intensities(original, index, case.name)
        # A contiguous copy in the model's axes, because sums depend on the order of voxels in memory.
        channel = np.array(order.apply(original), dtype=np.float32, order="C")[box]
        # Before resampling, because a resampled mask would not fit the image.
        normalize(
            channel,
            configuration.normalization_schemes[index],
            mask if configuration.use_mask_for_norm[index] else None,
            model.plans.foreground_intensity_properties_per_channel.get(str(index)),
        )
        result[index] = resampler.apply(channel, geometry.shape)
    return Prepared(result, geometry)


def _one_hot(
    labels: npt.NDArray[np.int32], model: TrainedModel, geometry: Geometry, result: npt.NDArray[np.float32]
) -> None:
    """Write masks (labels, *geometry.shape) of the cropped labels (Z, Y, X) of a first stage into `result`."""
    configuration = model.configuration
    resampler = Resampler.from_plans(
        configuration.resampling_fn_seg,
        configuration.resampling_fn_seg_kwargs,
        geometry.spacing_mm,
        geometry.target_spacing_mm,
    )
    resampled = resampler.apply_labels(labels, geometry.shape)
    for channel, value in zip(result, model.labels.foreground, strict=True):
        channel[...] = resampled == value


def plan_geometry(case: Case, model: TrainedModel, box: Box | None = None) -> Geometry:
    """The geometry of the prepared image, without reading intensities.

    `box` is the cropped part of the case; without it, the whole image. Raises `CaseError` like `prepare`.
    """
    _check_fit(case, model)
    order = reader_order(case, model).then(model.plans.transpose_forward)
    full_shape = order.permute(case.shape)
    box = Box.whole(full_shape) if box is None else order.apply_box(box, case.shape)
    spacing = order.permute(spacing_seen_by_reader(case, model))
    target = _target_spacing(spacing, model.configuration.spacing)
    resampled = model.configuration.resampling_fn_data != "no_resampling_hack"
    shape = resampled_shape(box.shape, spacing, target) if resampled else box.shape
    if min(shape) < 1 or prod(shape) > _MAX_VOXELS:
        raise CaseError(
            f"{case.name}: with spacing {spacing} mm the image would become {shape} voxels at the model's {target} mm; "
            "the spacing is probably in another unit: state it in millimetres"
        )
    return Geometry(order, full_shape, box, spacing, shape, target)


def reader_order(case: Case, model: TrainedModel) -> AxisOrder:
    """The order from the case's axes to the axes that the model's reader returns: RAS, or unchanged.

    Raises `CaseError` if the reader reorients images and the case has no affine.
    """
    reader = model.plans.image_reader_writer
    return to_ras(case.seen_by(reader)) if reader in REORIENTING_READERS else AxisOrder()


def spacing_seen_by_reader(case: Case, model: TrainedModel) -> Spacing:
    """The spacing (Z, Y, X) that the model's reader finds; 1 if it ignores pixel sizes."""
    reader = model.plans.image_reader_writer
    if reader in VOXEL_READERS and case.spacing_source is SpacingSource.PIXEL_SIZE:
        return planar_spacing((1.0, 1.0)) if case.planar else (1.0, 1.0, 1.0)
    return case.seen_by(reader).spacing_mm


def check_first_stage(labels: npt.NDArray[Any] | None, case: Case, model: TrainedModel) -> npt.NDArray[Any]:
    """Return the labels of a cascade's first stage unchanged.

    Raises `CaseError` if there are none, or they are not integers in the shape of the case (Z, Y, X).
    """
    if labels is None:
        raise CaseError(
            f"{model.folder.name} is the second stage of a cascade and needs the labels of "
            f"{model.configuration.previous_stage}: put that model beside it, or give its labels of {case.name}"
        )
    if labels.shape != case.shape:
        raise CaseError(
            f"the first stage's labels have shape (Z, Y, X) {labels.shape}, {case.name} has {case.shape}; "
            "they must be those of the same image"
        )
    if labels.dtype.kind not in "biu":
        raise CaseError(f"the first stage's labels of {case.name} must be whole numbers, found {labels.dtype}")
    return labels


def _target_spacing(spacing: Spacing, wanted: tuple[float, ...]) -> Spacing:
    """The spacing of the configuration; for a 2d one, the distance of slices stays."""
    z, y, x = wanted if len(wanted) == 3 else (spacing[0], *wanted)
    return z, y, x


def _check_fit(case: Case, model: TrainedModel) -> None:
    names = model.channel_names
    if len(case.channels) != len(names):
        raise CaseError(
            f"{case.name} has {len(case.channels)} channel(s), the model needs {len(names)}: {', '.join(names)}"
        )
    if case.planar and len(model.configuration.patch_size) == 3:
        raise CaseError(
            f"{case.name} is a 2D image, but {model.configuration_name} needs a volume; use a 2d configuration"
        )
