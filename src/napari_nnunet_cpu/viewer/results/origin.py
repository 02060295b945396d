"""The origin of a layer: the image and model that its labels were made from. It survives renaming."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.viewer.canvas import unwrapped
from napari_nnunet_cpu.viewer.image import image_from_layers, layer_placement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.layers import Image, Layer

    from napari_nnunet_cpu.cases import Case, Spacing
    from napari_nnunet_cpu.models import TrainedModel
    from napari_nnunet_cpu.viewer.image import LayerImage


@dataclass(frozen=True, eq=False)
class Origin:
    """The image and the model that labels, or their uncertainty, were made from."""

    # A snapshot at the time points of the labels. It keeps the arrays, so that labels and image can be saved as a
    # pair after the user removed the image or replaced its data.
    image: LayerImage
    model: TrainedModel  # the first of an ensemble; all have the same channels and labels
    spacing_mm: Spacing | None  # (Z, Y, X), if the user stated it
    provenance: dict[str, Any]  # the `metadata["nnunet"]` of the layer
    preview: bool = False  # the labels are still being computed

    def image_now(self) -> LayerImage:
        """The image with the present scale and name of its layers; the snapshot if a layer is gone or has new data."""
        layers = _sources(self.image)
        if len(layers) < len(self.image.sources) or _data_replaced(self.image):
            return self.image
        planar = len(self.model.configuration.patch_size) == 2
        channels = len(self.model.channel_names)
        now = image_from_layers(layers, axes=str(self.image.axes), channels=channels, planar=planar)
        return replace(now, times=self.image.times)


# The layer itself is the key, because the user may rename it and its image. The layer's metadata describe the origin
# too, for copies of the layer and for file formats that save metadata.
_ORIGINS: WeakKeyDictionary[Layer, Origin] = WeakKeyDictionary()


def bind(layer: Layer, origin: Origin | None) -> None:
    """Record the origin of a layer."""
    if origin is not None:
        _ORIGINS[unwrapped(layer)] = origin


def origin_of(layer: Layer) -> Origin | None:
    """The origin of a layer, or of the layer that it was copied from; None if unknown."""
    found = _ORIGINS.get(unwrapped(layer))
    number = provenance_of(layer).get("id")
    if found is None and number is not None:
        found = next((origin for origin in _ORIGINS.values() if origin.provenance.get("id") == number), None)
        bind(layer, found)
    return found


def provenance_of(layer: Layer) -> Mapping[str, Any]:
    """The provenance in the metadata of a layer; empty if the layer is not from this package."""
    about = layer.metadata.get("nnunet")
    known = isinstance(about, dict) and isinstance(about.get("image"), dict) and isinstance(about.get("runs"), list)
    return about if known else {}


def check_image(layer: Layer, image: LayerImage, instead: str) -> None:
    """Raise `CaseError` if a layer was made from another image than this one, or is a preview.

    `instead` tells the user what to do.
    """
    origin = origin_of(layer)
    if origin is not None and origin.preview:
        raise CaseError(f"{layer.name} is still being computed; keep its finished labels, or wait for the end")
    if origin is None or _same(origin.image, image):
        return
    made_from = title(origin.image)
    if set(_sources(origin.image)) & set(_sources(image)):
        made_from = f"the data that {made_from} held before"
    raise CaseError(f"{layer.name} was made from {made_from}, not from {title(image)}; {instead}")


def check_checksums(layer: Layer, image: LayerImage, checksums: Sequence[str], instead: str) -> None:
    """Raise `CaseError` if the metadata of a layer state that it was made from other intensities.

    This checks layers without an `Origin`, which were saved and opened again.
    """
    about = provenance_of(layer).get("image", {})
    recorded = about.get("checksums")
    if origin_of(layer) is None and recorded is not None and not set(checksums) <= set(recorded):
        raise CaseError(f"{layer.name} was made from {about.get('name')}, not from {title(image)}; {instead}")


def check_model(layer: Layer, model: TrainedModel) -> None:
    """Raise `CaseError` if the label names of a layer differ from the model's."""
    runs = provenance_of(layer).get("runs")
    made_with = runs[-1].get("model", {}) if runs else {}
    names = {str(value): name for value, name in model.labels.names.items()}
    if made_with.get("labels", names) != names:
        raise CaseError(
            f"{layer.name} was made with {made_with.get('name')}, whose labels are {_listed(made_with['labels'])}, "
            f"not with {model.name}, whose labels are {_listed(names)}; give the model it was made with"
        )


def changes_of(image: LayerImage) -> str | None:
    """Say how the layers of an image changed since the snapshot; None if they did not, or were removed."""
    if _data_replaced(image):
        return "got other data"
    for layer in _sources(image):
        now = layer_placement(layer, image.axes, image.placement.shape).transforms
        then = image.placement.transforms
        numbers = ("scale", "translate", "rotate", "shear", "affine")
        if now["units"] != then["units"] or any(not np.allclose(now[name], then[name]) for name in numbers):
            return "was rescaled or moved"
    return None


def state_of(layer: Image) -> tuple[Any, ...]:
    """Values that change if the layer gets other data or another position."""
    place = (layer.scale, layer.translate, layer.rotate, layer.shear, layer.affine.affine_matrix)
    return id(layer), id(_array(layer)), layer.units, *(np.asarray(numbers).tobytes() for numbers in place)


def checksum(case: Case) -> str:
    """The CRC-32 of the intensities of a case, as text."""
    found = zlib.crc32(f"{case.channels.dtype.str} {case.channels.shape}".encode())
    for channel in case.channels:
        for plane in channel:  # plane by plane, because each may have to be copied
            found = zlib.crc32(np.ascontiguousarray(plane).data, found)
    return f"{found:08x}"


def title(image: LayerImage) -> str:
    """The present name of the image."""
    layers = _sources(image)
    return str(layers[0].name) if layers else image.name


def _same(one: LayerImage, other: LayerImage) -> bool:
    """Whether two snapshots share a channel, because labels of a CT also fit the CT together with its PET."""
    return any(_equal(array, another) for array in one.arrays for another in other.arrays)


def _sources(image: LayerImage) -> list[Image]:
    """The layers of an image that still exist."""
    return [layer for layer in (source() for source in image.sources) if layer is not None]


def _data_replaced(image: LayerImage) -> bool:
    """Whether an existing layer has another array than the snapshot."""
    held = [(source(), array) for source, array in zip(image.sources, image.arrays, strict=False)]
    return any(layer is not None and not _equal(_array(layer), array) for layer, array in held)


def _equal(one: Any, other: Any) -> bool:
    """Whether two arrays are the same object or have equal values, for example if a file was opened twice."""
    if one is other:
        return True
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray) or one.shape != other.shape:
        return False
    some = (slice(None, None, 16),) * one.ndim  # a fast first look, because most different arrays differ here
    return np.array_equal(one[some], other[some]) and np.array_equal(one, other)


def _array(layer: Image) -> Any:
    """The array of the layer; the finest if it has several scales."""
    return layer.data[0] if layer.multiscale else layer.data


def _listed(names: Mapping[str, str]) -> str:
    return ", ".join(f"{value} {name}" for value, name in names.items())
