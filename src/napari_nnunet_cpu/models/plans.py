"""plans.json and dataset.json, in every layout of nnunetv2 2.0 to 2.8.

Source: nnU-Net `utilities/plans_handling/plans_handler.py`. Names of classes and functions
in the plans are looked up in our own tables and never imported.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.documents import Strict, at_most, parse
from napari_nnunet_cpu.models.labels import MAX_LABELS, LabelValue
from napari_nnunet_cpu.models.network import Architecture, architecture_of_old_plans

Normalization = Literal[
    "ZScoreNormalization",
    "CTNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
]
ResamplingName = Literal["resample_data_or_seg_to_shape", "resample_torch_fornnunet", "no_resampling_hack"]
PatchLength = Annotated[int, Field(ge=1, le=4096)]
SpacingLength = Annotated[float, Field(gt=0, le=1e6)]
Axis = Annotated[int, Field(ge=0, le=2)]

# Readers of nnU-Net that reorient every image to RAS first. All others keep the order of the file.
REORIENTING_READERS = frozenset({"NibabelIOWithReorient", "SimpleITKIOWithReorient"})
# Readers that ignore pixel sizes, because their models were trained on voxels instead of millimetres.
VOXEL_READERS = frozenset({"Tiff3DIO", "NaturalImage2DIO"})
KNOWN_READERS = REORIENTING_READERS | VOXEL_READERS | {"SimpleITKIO", "NibabelIO"}


_MAX_ENTRIES = 1000  # channels, configurations


def _as_text(value: Any) -> Any:
    """Convert a number to text, because names that are only displayed may be numbers."""
    return str(value) if isinstance(value, int | float) else value


def _called(default: str) -> pydantic.BeforeValidator:
    """For a name that is only displayed: null means the default."""
    return pydantic.BeforeValidator(lambda value: default if value is None else _as_text(value))


class Intensities(Strict):
    """Statistics of one channel in the foreground of the training images."""

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


class ResamplingOptions(Strict):
    """Keyword arguments for a resampling function, from the plans."""

    is_seg: bool = False
    order: Annotated[int, Field(ge=0, le=5)] = 3
    order_z: Annotated[int, Field(ge=0, le=5)] = 0
    force_separate_z: bool | None = False
    separate_z_anisotropy_threshold: Annotated[float, Field(gt=0)] = 3.0
    mode: str = "linear"
    aniso_axis_mode: str = "nearest-exact"


class Configuration(Strict):
    """One configuration of the plans, such as 2d or 3d_fullres, with inheritance resolved."""

    # (Y, X) for 2d, else (Z, Y, X), in the model's axes; the spacing in mm, too.
    patch_size: Annotated[tuple[PatchLength, ...], Field(min_length=2, max_length=3)]
    spacing: Annotated[tuple[SpacingLength, ...], Field(min_length=2, max_length=3)]
    normalization_schemes: tuple[Normalization, ...]
    use_mask_for_norm: tuple[bool, ...]
    resampling_fn_data: ResamplingName = "resample_data_or_seg_to_shape"
    resampling_fn_data_kwargs: ResamplingOptions
    resampling_fn_seg: ResamplingName = "resample_data_or_seg_to_shape"
    resampling_fn_seg_kwargs: ResamplingOptions = ResamplingOptions(order=1, force_separate_z=None)
    resampling_fn_probabilities: ResamplingName = "resample_data_or_seg_to_shape"
    resampling_fn_probabilities_kwargs: ResamplingOptions
    preprocessor_name: Literal["DefaultPreprocessor"] = "DefaultPreprocessor"
    previous_stage: Annotated[str, Field(pattern=r"^[\w.-]+$", max_length=100)] | None = None
    architecture: Architecture

    @pydantic.model_validator(mode="before")
    @classmethod
    def _without_unread(cls, document: Any) -> Any:
        """Drop the resampling of labels, except for a cascade's second stage: no other network sees labels."""
        if not isinstance(document, dict) or document.get("previous_stage") is not None:
            return document
        return {name: value for name, value in document.items() if not name.startswith("resampling_fn_seg")}

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Configuration:
        if not len(self.patch_size) == len(self.spacing) == self.architecture.dimensions:
            raise ValueError(
                f"patch_size {self.patch_size}, spacing {self.spacing} and "
                f"{self.architecture.dimensions}D convolutions must have the same number of axes"
            )
        if len(self.normalization_schemes) != len(self.use_mask_for_norm):
            raise ValueError("normalization_schemes and use_mask_for_norm must be equally long")
        return self


class Plans(Strict):
    """plans.json. Configurations and statistics stay unparsed until they are needed."""

    dataset_name: Annotated[str, _called("dataset")] = "dataset"
    plans_name: Annotated[str, _called("nnUNetPlans")] = "nnUNetPlans"
    image_reader_writer: str = "SimpleITKIO"
    transpose_forward: tuple[Axis, Axis, Axis]
    transpose_backward: tuple[Axis, Axis, Axis]
    foreground_intensity_properties_per_channel: Any = Field(
        default=None,
        validation_alias=pydantic.AliasChoices(
            "foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality"
        ),
    )
    label_manager: Literal["LabelManager"] = "LabelManager"
    configurations: Annotated[dict[str, Any], at_most(_MAX_ENTRIES)]

    @pydantic.model_validator(mode="after")
    def _transposes(self) -> Plans:
        forward, backward = self.transpose_forward, self.transpose_backward
        if sorted(forward) != [0, 1, 2] or [forward[axis] for axis in backward] != [0, 1, 2]:
            raise ValueError(f"transpose_forward {forward} and transpose_backward {backward} must undo each other")
        if self.image_reader_writer not in KNOWN_READERS:
            raise ValueError(f"image reader {self.image_reader_writer} is not known; one of {sorted(KNOWN_READERS)} is")
        return self

    def with_intensities(self, schemes: Sequence[str], where: str) -> Plans:
        """The same plans with parsed `Intensities`, for the channels of CTNormalization only.

        Raises `ModelError` if they are missing or invalid.
        """
        stated, found = self.foreground_intensity_properties_per_channel, {}
        for channel in (str(number) for number, scheme in enumerate(schemes) if scheme == "CTNormalization"):
            if not isinstance(stated, dict) or channel not in stated:
                raise ModelError(f"{where}: CTNormalization of channel {channel} needs its intensity statistics")
            place = f"{where}: foreground_intensity_properties_per_channel.{channel}"
            found[channel] = parse(Intensities, stated[channel], place)
        return self.model_copy(update={"foreground_intensity_properties_per_channel": found})

    def configuration(self, name: str, where: str) -> Configuration:
        """The configuration called `name`.

        Raises `ModelError` if it does not exist, inherits from itself, or is invalid.
        """
        merged = self._resolve(name, where)
        if "architecture" not in merged:
            merged["architecture"] = architecture_of_old_plans(merged, f"{where}: {name}")
        return parse(Configuration, merged, f"{where}: configurations.{name}")

    def _resolve(self, name: str, where: str) -> dict[str, Any]:
        """The keys of a configuration, merged over those it inherits (`inherits_from`)."""
        chain: dict[str, None] = {}  # an ordered set
        current: Any = name
        while current is not None:
            if not isinstance(current, str) or current not in self.configurations:
                found = ", ".join(list(self.configurations)[:12]) or "none"
                raise ModelError(f"{where} has no configuration {reprlib.repr(current)}; found {found}")
            if current in chain:
                raise ModelError(f"{where}: configurations inherit in a circle: {' -> '.join([*chain, current][:12])}")
            if not isinstance(self.configurations[current], dict):
                found = reprlib.repr(self.configurations[current])
                raise ModelError(f"{where}: configurations.{reprlib.repr(current)} must be an object, found {found}")
            chain[current] = None
            current = self.configurations[current].get("inherits_from")
        merged: dict[str, Any] = {}
        for ancestor in reversed(chain):
            merged |= self.configurations[ancestor]
        return merged


def _named_by_number(names: Any) -> Any:
    """Number the channels of a list from 0, and name a channel after its number if its name is null."""
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict):
        return names
    return {number: f"channel {number}" if name is None else _as_text(name) for number, name in names.items()}


class Dataset(Strict):
    """dataset.json: channels and labels."""

    channel_names: Annotated[
        dict[str, str], Field(min_length=1), at_most(_MAX_ENTRIES), pydantic.BeforeValidator(_named_by_number)
    ] = Field(validation_alias=pydantic.AliasChoices("channel_names", "modality"))
    labels: Annotated[dict[str, LabelValue], at_most(MAX_LABELS)]
    regions_class_order: Any = None  # parsed with the labels, if these are regions

    @property
    def channels(self) -> tuple[str, ...]:
        """Channel names in the order of their numbers."""
        numbered = sorted(self.channel_names.items(), key=lambda item: (len(item[0]), item[0]))
        return tuple(name for _, name in numbered)
