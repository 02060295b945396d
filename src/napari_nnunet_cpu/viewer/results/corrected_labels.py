"""Save corrected labels to a session folder: a raw dataset that nnU-Net can train on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_nnunet_cpu.cases import RawDataset
from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.models import Dataset, parse, read_json
from napari_nnunet_cpu.prepare import reader_order, spacing_seen_by_reader
from napari_nnunet_cpu.viewer.results.origin import check_checksums, check_image, check_model, checksum

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_nnunet_cpu.cases import Case, Spacing
    from napari_nnunet_cpu.models import LabelValue, TrainedModel
    from napari_nnunet_cpu.viewer.image import LayerImage

_GIVE = "save it with the image it was made from"


def save_corrected(
    folder: str | os.PathLike[str],
    labels_layer: Labels,
    image: LayerImage,
    model: TrainedModel,
    spacing_mm: Spacing | None = None,
) -> tuple[str, ...]:
    """Save the labels of a layer with their image, in file order, as cases of a raw dataset.

    The dataset gets the model's channels, labels and reader, and the spacing as this reader sees it: a model
    trained on voxels (Tiff3DIO, NaturalImage2DIO) is trained further on voxels. For a series, the time points in
    the metadata of `labels_layer` replace those of `image`. `spacing_mm` (Z, Y, X) is a spacing that the user
    states. Saving the same image again replaces its labels.

    Returns the identifiers of the cases, one per time point. If a time point fails, the earlier ones stay saved.
    Raises the errors of `RawDataset.add`, `CaseError` if the layer does not lie on the image's grid or was made from
    another image or with other labels, and `ModelError` if the model's folder is gone.
    """
    dataset = RawDataset(Path(folder))
    values, order = label_values(model)
    check_image(labels_layer, image, _GIVE)
    check_model(labels_layer, model)
    if getattr(labels_layer, "multiscale", False):
        raise CaseError(f"{labels_layer.name} has several scales; make a layer of the finest one")
    image = _at_times_of(labels_layer, image)
    painted = np.asarray(labels_layer.data)
    saved = []
    for number, time in enumerate(image.times):
        labels = image.from_labels(painted, number)
        case = image.case(spacing_mm, time)
        check_checksums(labels_layer, image, [checksum(case)], _GIVE)
        case = _as_model_sees(case, model)
        name = _name(image, time)
        reader = model.plans.image_reader_writer
        saved.append(dataset.add(case, labels, model.channel_names, values, order, name, reader=reader))
    return tuple(saved)


def label_values(model: TrainedModel) -> tuple[dict[str, LabelValue], tuple[int, ...] | None]:
    """The "labels" and "regions_class_order" of a dataset with the label values of the model.

    Raises `ModelError` if the model's dataset.json can't be read any more.
    """
    path = model.folder / "dataset.json"
    dataset = parse(Dataset, read_json(path), str(path))
    if model.labels.region_values is not None:
        return dataset.labels, model.labels.region_values
    # The model's own values, because they have no gaps, even if those of its training data had some.
    values: dict[str, LabelValue] = {"background": 0}
    values |= {name: value for value, name in model.labels.names.items() if value}
    if "ignore" in dataset.labels:
        values["ignore"] = model.labels.heads
    return values, None


def _at_times_of(layer: Labels, image: LayerImage) -> LayerImage:
    """The image at the time points of the labels layer."""
    made_from: Any = layer.metadata.get("nnunet", {})
    made_from = made_from.get("image", {}) if isinstance(made_from, dict) else {}
    times = made_from.get("time_points") if isinstance(made_from, dict) else None
    if image.axes.time is None or not isinstance(times, list | tuple) or not times:
        return image
    if any(time not in range(image.placement.shape[image.axes.time]) for time in times):
        raise CaseError(f"{layer.name} has labels of time points {list(times)}, which {image.name} does not have")
    return replace(image, times=tuple(times))


def _as_model_sees(case: Case, model: TrainedModel) -> Case:
    """The case with the spacing that the model's reader sees; a plane stays unchanged."""
    reader_order(case, model)  # raises an error if the model turns images and this one states no orientation
    spacing = spacing_seen_by_reader(case, model)
    if case.planar or spacing == case.seen_by(model.plans.image_reader_writer).spacing_mm:
        return case
    return replace(case, spacing_mm=spacing, affine=None, nifti=None)


def _name(image: LayerImage, time: int) -> str:
    """The image's name, followed by the time point if it is a series."""
    if image.axes.time is None:
        return image.name
    last = image.placement.shape[image.axes.time] - 1
    return f"{image.name}_t{time:0{len(str(last))}}"
