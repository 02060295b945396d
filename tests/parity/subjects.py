"""What the parity tests label: a model, an image and how to run it, each once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu import Case, Settings, TrainedModel, load_model, read_case, sample_image, sample_model
from napari_nnunet_cpu.cases.case import planar_spacing


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and an image; without `model` the sample's.

    With an `affine` the image is a NIfTI file that each side reads with its own reader; otherwise both get the
    same array.
    """

    name: str
    model: RandomModel | None = field(default_factory=RandomModel)
    shape: Sequence[int] = (24, 27, 29)
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)
    mirror: bool = False
    planar: bool = False
    colours: bool = False
    affine: Sequence[Sequence[float]] | None = None
    seed: int = 3

    @property
    def settings(self) -> Settings:
        return Settings.exact(mirror=self.mirror)

    @property
    def reads_file(self) -> bool:
        return self.affine is not None or self.model is None

    def write(self, folder: Path) -> None:
        """Everything the reference needs, under `folder`."""
        folder.mkdir()
        task = {"mirror": self.mirror, "model": str(self._model_folder(folder)), "spacing": list(self._spacing())}
        if self.model is None:
            task["file"] = str(sample_image())
        else:
            self.model.write(folder)
            image = self._image()
            if self.affine is not None:
                task["file"] = str(folder / "image.nii.gz")
                array = image[0].transpose(2, 1, 0)
                nifti = nib.Nifti1Image(array[..., 0] if self.planar else array, np.array(self.affine))
                nifti.set_qform(np.array(self.affine))
                nib.save(nifti, task["file"])
            else:
                np.save(folder / "image.npy", image)
        (folder / "task.json").write_text(json.dumps(task))

    def open_model(self, folder: Path) -> TrainedModel:
        return load_model(self._model_folder(folder))

    def open_case(self, folder: Path) -> Case:
        if self.model is None:
            return read_case(sample_image())
        if self.affine is not None:
            return read_case(folder / "image.nii.gz")
        return Case(np.load(folder / "image.npy"), self._spacing(), name=self.name, planar=self.planar)

    def reference(self, folder: Path, precision: str) -> np.ndarray:
        """The labels that `reference.py` left, in the order of the case: a reader that turns images turns them back."""
        if not self.reads_file:
            return np.load(folder / f"{precision}.npy")
        array = np.asarray(nib.load(folder / f"{precision}.nii.gz").dataobj)
        return array.T[None] if self.planar else array.transpose(2, 1, 0)

    def _model_folder(self, folder: Path) -> Path:
        if self.model is None:
            return sample_model()
        return folder / "Dataset999_Random" / f"{self.model.trainer}__nnUNetPlans__{self.model.configuration}"

    def _spacing(self) -> tuple[float, float, float]:
        z, y, x = self.spacing_mm
        return planar_spacing((y, x)) if self.planar else (z, y, x)

    def _image(self) -> np.ndarray:
        channels = 1 if self.model is None else len(self.model.channels)
        image = smooth_image(self.shape, self.seed, channels)
        if self.colours:
            image = np.clip(np.round(image / 8 + 127), 0, 255)
        return image


def affine_of(spacing_xyz: Sequence[float], turn: Any = None, origin: Sequence[float] = (-31.5, 12.25, 7.0)) -> Any:
    """An affine of orthogonal axes: `turn` is a 3 x 3 rotation, with or without reflections."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else np.asarray(turn)) @ np.diag(spacing_xyz)
    affine[:3, 3] = origin
    return affine.tolist()


def rotation(axis: int, degrees: float) -> np.ndarray:
    """Rotation about one axis."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(3)
    a, b = [other for other in range(3) if other != axis]
    matrix[a, a] = matrix[b, b] = c
    matrix[a, b], matrix[b, a] = -s, s
    return matrix


OBLIQUE = rotation(0, 17) @ rotation(2, -24) @ np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]])  # a turned sagittal scan
FLIPPED = np.diag([-1.0, 1.0, -1.0])
TILTED = rotation(1, 11) @ FLIPPED
ANISOTROPIC = {
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
}
FLAT_STRIDES = ANISOTROPIC | {"strides": [[1, 1, 1], [1, 2, 2], [1, 2, 2]]}
REGIONS: dict[str, Any] = {
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3},
    "regions_class_order": [1, 2, 3],
}

SUBJECTS = (
    Subject("3d, isotropic"),
    Subject("3d, mirrored", RandomModel(mirror_axes=(0, 1, 2)), mirror=True),
    Subject("3d, mirrored in two axes", RandomModel(mirror_axes=(0, 2)), mirror=True),
    Subject("3d, mirroring asked for, not trained", RandomModel(mirror_axes=None), mirror=True),
    Subject("3d, resampled", RandomModel(spacing=(1.2, 0.9, 1.0)), spacing_mm=(1.0, 1.1, 0.8)),
    Subject("3d, resampled by half", RandomModel(spacing=(2.0, 2.0, 2.0)), (37, 34, 45)),
    Subject(
        "3d, separate z",
        RandomModel((8, 16, 16), (3.5, 0.9, 1.0), architecture=ANISOTROPIC),
        (10, 37, 41),
        (4.0, 1.1, 0.8),
    ),
    Subject("3d, separate z, along x", RandomModel(spacing=(0.9, 1.0, 3.5)), (30, 33, 9), (1.1, 0.8, 4.0)),
    Subject("3d, separate z, coarse target only", RandomModel(spacing=(3.5, 0.9, 1.0)), (24, 30, 31), (1.2, 1.0, 0.9)),
    Subject("3d, separate z, forced", RandomModel(spacing=(1.6, 0.9, 1.0), force_separate_z=True), (20, 29, 31),
            (2.0, 1.1, 0.8)),
    Subject("3d, two coarse axes", RandomModel(spacing=(0.8, 3.0, 3.0)), (30, 17, 18), (0.9, 4.0, 4.0)),
    Subject("3d, transposed", RandomModel(spacing=(0.9, 1.2, 1.0), transpose=(1, 2, 0)), (22, 27, 31),
            (1.1, 0.8, 1.0)),
    Subject("3d, transposed, separate z", RandomModel(spacing=(3.5, 0.9, 1.0), transpose=(2, 0, 1)), (30, 37, 11),
            (0.8, 1.1, 4.0)),
    Subject("2d, stack", RandomModel((16, 16), (1.0, 1.2)), (7, 37, 31), (2.0, 1.1, 1.0)),
    Subject("2d, stack, mirrored", RandomModel((16, 16), (1.0, 1.2), mirror_axes=(0, 1)), (5, 33, 31), (2.0, 1.1, 1.0),
            mirror=True),
    Subject("2d, stack, transposed", RandomModel((16, 16), (1.0, 1.2), transpose=(2, 0, 1)), (35, 37, 5),
            (1.1, 1.0, 3.0)),
    Subject("2d, image", RandomModel((16, 16), (1.0, 1.0)), (1, 61, 75), (1.0, 0.9, 1.2), planar=True),
    Subject("2d, image, colours",
            RandomModel((16, 16), (1.0, 1.0), channels=("R", "G", "B"), normalization="RGBTo01Normalization"),
            (1, 61, 75), planar=True, colours=True),
    Subject("three folds", RandomModel(folds=("0", "1", "2"))),
    Subject("three folds, mirrored", RandomModel(folds=("0", "1", "2"), mirror_axes=(0, 1, 2)), mirror=True),
    Subject("residual encoder", RandomModel(family="ResidualEncoderUNet")),
    Subject("image smaller than the patch", RandomModel(), (10, 9, 21)),
    Subject("image smaller than the patch, mirrored", RandomModel(mirror_axes=(0, 1, 2)), (13, 18, 11), mirror=True),
    Subject("odd patch, odd image", RandomModel((5, 12, 20), architecture=FLAT_STRIDES), (17, 31, 43)),
    Subject("plans before 2.3, plain", RandomModel(old_layout=True)),
    Subject("plans before 2.3, residual encoder", RandomModel(old_layout=True, family="ResidualEncoderUNet")),
    Subject("nnUNetTrainerBN", RandomModel(trainer="nnUNetTrainerBN")),
    Subject("CTNormalization", RandomModel(normalization="CTNormalization")),
    Subject("RescaleTo01Normalization", RandomModel(normalization="RescaleTo01Normalization")),
    Subject("NoNormalization", RandomModel(normalization="NoNormalization")),
    Subject("ZScoreNormalization inside the mask", RandomModel(use_mask=True, spacing=(1.1, 1.0, 0.9))),
    Subject("two channels, two normalizations",
            RandomModel(channels=("T1", "CT"), normalization=("ZScoreNormalization", "CTNormalization"),
                        use_mask=(True, False))),
    Subject("regions", RandomModel(**REGIONS, spacing=(1.0, 1.1, 1.2))),
    Subject("regions, another painting order", RandomModel(labels=REGIONS["labels"], regions_class_order=[3, 1, 2])),
    Subject("an ignore label", RandomModel(labels={"background": 0, "liver": 1, "kidney": 2, "ignore": 3})),
    Subject("resample_torch_fornnunet",
            RandomModel(spacing=(1.2, 0.9, 1.0), resampling="resample_torch_fornnunet"), spacing_mm=(1.0, 1.1, 0.8)),
    Subject("resample_torch_fornnunet, separate z",
            RandomModel(spacing=(3.5, 0.9, 1.0), resampling="resample_torch_fornnunet"), (10, 37, 41), (4.0, 1.1, 0.8)),
    Subject("no_resampling_hack",
            RandomModel(spacing=(1.2, 0.9, 1.0), resampling="no_resampling_hack"), spacing_mm=(1.0, 1.1, 0.8)),
    Subject("file, SimpleITKIO", RandomModel(spacing=(1.0, 1.0, 1.1)), (22, 27, 31),
            affine=affine_of((1.1, 0.9, 1.2), TILTED)),
    Subject("file, SimpleITKIO, 2d image", RandomModel((16, 16), (1.0, 1.0)), (1, 61, 75), planar=True,
            affine=affine_of((0.9, 1.2, 1.0))),
    Subject("file, NibabelIO", RandomModel(spacing=(1.0, 1.0, 1.1), reader="NibabelIO"), (22, 27, 31),
            affine=affine_of((1.1, 0.9, 1.2), FLIPPED)),
    Subject("file, NibabelIOWithReorient, flipped",
            RandomModel(spacing=(1.0, 1.0, 1.1), reader="NibabelIOWithReorient"), (22, 27, 31),
            affine=affine_of((1.1, 0.9, 1.2), FLIPPED)),
    Subject("file, NibabelIOWithReorient, oblique",
            RandomModel(spacing=(3.5, 1.0, 1.1), reader="NibabelIOWithReorient", transpose=(0, 2, 1)), (33, 27, 12),
            affine=affine_of((3.9, 0.9, 1.2), OBLIQUE)),
    Subject("file, SimpleITKIOWithReorient, oblique",
            RandomModel(spacing=(3.5, 1.0, 1.1), reader="SimpleITKIOWithReorient"), (33, 27, 12),
            affine=affine_of((3.9, 0.9, 1.2), OBLIQUE)),
    Subject("sample model, sample head", None),
    Subject("sample model, sample head, mirrored", None, mirror=True),
)  # fmt: skip
