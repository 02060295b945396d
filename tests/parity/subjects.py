"""All subjects of the parity tests, each once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contradictions import CONTRADICTIONS
from images import affine_of, rotation
from random_model import RandomModel
from subject import Subject

from napari_nnunet_cpu import sample_image, sample_model

DATA = Path(__file__).with_name("data")
CHEST = DATA / "Dataset011_ChestCT" / "nnUNetTrainer_10epochs__nnUNetPlans__3d_fullres"
HEAD = DATA / "Dataset012_HeadMR" / "nnUNetTrainer_10epochs__nnUNetPlans__3d_fullres"
OBLIQUE = rotation(0, 17) @ rotation(2, -24) @ np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]])  # a turned sagittal scan
FLIPPED = np.diag([-1.0, 1.0, -1.0])
TILTED = rotation(1, 11) @ FLIPPED
ANISOTROPIC = {
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
}
FLAT_STRIDES = ANISOTROPIC | {"strides": [[1, 1, 1], [1, 2, 2], [1, 2, 2]]}
FLAT: dict[str, Any] = {"patch": (16, 16), "spacing": (1.0, 1.1)}
REGIONS: dict[str, Any] = {
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3},
    "regions_class_order": [1, 2, 3],
}
ORGANS = {"background": 0, "liver": 1, "kidney": 2, "spleen": 3, "pancreas": 4, "aorta": 5}
TORCH = {"resampling": "resample_torch_fornnunet"}
RESIDUAL = {"family": "ResidualEncoderUNet"}


def resenc_m(dimensions: int) -> dict[str, Any]:
    """The shape of nnU-Net's ResEnc M plans: six stages, many blocks; few features."""
    strides = [[1] * dimensions, *[[2] * dimensions] * 3, *[[1, 2, 2][-dimensions:]] * 2]
    return RESIDUAL | {
        "architecture": {
            "n_stages": 6,
            "features_per_stage": [4, 8, 8, 12, 12, 12],
            "kernel_sizes": [[3] * dimensions] * 6,
            "strides": strides,
            "n_blocks_per_stage": [1, 3, 4, 6, 6, 6],
            "n_conv_per_stage_decoder": [1] * 5,
        }
    }


def cascade(low: dict[str, Any] | None = None, high: dict[str, Any] | None = None, **common: Any) -> RandomModel:
    """Two stages: "3d_lowres" at twice the spacing of the second unless it is said otherwise."""
    first = RandomModel(**{"called": "3d_lowres", "spacing": (2.0, 2.0, 2.0), "seed": 11} | common | (low or {}))
    return RandomModel(**{"first_stage": first} | common | (high or {}))


def numbered(count: int) -> dict[str, int]:
    """Labels 1 to `count`, and background."""
    return {"background": 0} | {f"structure {value}": value for value in range(1, count + 1)}


def options(data: dict[str, Any] | None = None, logits: dict[str, Any] | None = None) -> dict[str, Any]:
    """Arguments for the resampling of the image and of the logits."""
    return {"resampling_options": {"data": data or {}, "probabilities": logits or {}}}


WINDOWS: Sequence[Subject] = (
    Subject("3d, isotropic"),
    Subject("3d, mirrored", RandomModel(mirror_axes=(0, 1, 2)), mirror=True),
    Subject("3d, mirrored in two axes", RandomModel(mirror_axes=(0, 2)), mirror=True),
    Subject("3d, mirroring asked for, not trained", RandomModel(mirror_axes=None), mirror=True),
    Subject("2d, stack", RandomModel((16, 16), (1.0, 1.2)), (7, 37, 31), (2.0, 1.1, 1.0)),
    Subject("2d, stack, mirrored", RandomModel((16, 16), (1.0, 1.2), mirror_axes=(0, 1)), (5, 33, 31), (2.0, 1.1, 1.0),
            mirror=True),
    Subject("2d, stack, transposed", RandomModel((16, 16), (1.0, 1.2), transpose=(2, 0, 1)), (35, 37, 5),
            (1.1, 1.0, 3.0)),
    Subject("2d, image", RandomModel((16, 16), (1.0, 1.0)), (1, 61, 75), (1.0, 0.9, 1.2), planar=True),
    Subject("image smaller than the patch", RandomModel(), (10, 9, 21)),
    Subject("image smaller than the patch, mirrored", RandomModel(mirror_axes=(0, 1, 2)), (13, 18, 11), mirror=True),
    Subject("odd patch, odd image", RandomModel((5, 12, 20), architecture=FLAT_STRIDES), (17, 31, 43)),
    Subject("step 0.3", step=0.3),
    Subject("step 0.75, odd patch", RandomModel((5, 12, 20), architecture=FLAT_STRIDES), (17, 31, 43), step=0.75),
    Subject("zero outside an ellipsoid", RandomModel(spacing=(1.1, 1.0, 0.9)), (31, 34, 37), look="brain"),
)  # fmt: skip

NETWORKS: Sequence[Subject] = (
    Subject("three folds", RandomModel(folds=("0", "1", "2"))),
    Subject("three folds, mirrored", RandomModel(folds=("0", "1", "2"), mirror_axes=(0, 1, 2)), mirror=True),
    Subject("folds 1 and 3 of five", RandomModel(folds=("0", "1", "2", "3", "4")), chosen_folds=("1", "3")),
    Subject("fold_all", RandomModel(folds=("all",))),
    Subject("fold_all beside others", RandomModel(folds=("0", "1", "all")), chosen_folds=("all",)),
    Subject("checkpoint_best", RandomModel(checkpoint_name="checkpoint_best.pth")),
    Subject("residual encoder", RandomModel(**RESIDUAL)),
    Subject("residual encoder, 2d", RandomModel(**RESIDUAL, **FLAT), (6, 37, 31)),
    Subject("residual encoder, ResEnc M", RandomModel((16, 64, 64), **resenc_m(3)), (19, 71, 66)),
    Subject("residual encoder, ResEnc M, 2d", RandomModel((64, 64), (1.0, 1.0), **resenc_m(2)), (4, 81, 76)),
    Subject("plans before 2.3, plain", RandomModel(old_layout=True)),
    Subject("plans before 2.3, plain, 2d", RandomModel(old_layout=True, **FLAT), (6, 37, 31)),
    Subject("plans before 2.3, residual encoder", RandomModel(old_layout=True, **RESIDUAL)),
    Subject("nnUNetTrainerBN", RandomModel(trainer="nnUNetTrainerBN")),
    Subject("plans that inherit twice", RandomModel(ancestors=("3d_base", "3d_base_of_the_base"))),
)  # fmt: skip

INTENSITIES: Sequence[Subject] = (
    Subject("CTNormalization", RandomModel(normalization="CTNormalization")),
    Subject("RescaleTo01Normalization", RandomModel(normalization="RescaleTo01Normalization")),
    Subject("NoNormalization", RandomModel(normalization="NoNormalization")),
    Subject("ZScoreNormalization inside the mask", RandomModel(use_mask=True, spacing=(1.1, 1.0, 0.9)), (31, 34, 37),
            look="brain"),
    Subject("CTNormalization, zero outside an ellipsoid",
            RandomModel(normalization="CTNormalization", spacing=(1.1, 1.0, 0.9)), (31, 34, 37), look="brain"),
    Subject("RGBTo01Normalization, 2d image",
            RandomModel((16, 16), (1.0, 1.0), channels=("R", "G", "B"), normalization="RGBTo01Normalization"),
            (1, 61, 75), planar=True, look="colours"),
    Subject("RGBTo01Normalization with masks",
            RandomModel(channels=("R", "G", "B"), normalization="RGBTo01Normalization", use_mask=True),
            look="colours"),
    Subject("two channels, two normalizations",
            RandomModel(channels=("T1", "CT"), normalization=("ZScoreNormalization", "CTNormalization"),
                        use_mask=(True, False))),
    Subject("four channels, four normalizations",
            RandomModel(channels=("T1", "CT", "map", "as is"), use_mask=(True, False, True, False),
                        normalization=("ZScoreNormalization", "CTNormalization", "RescaleTo01Normalization",
                                       "NoNormalization")),
            (29, 31, 33), look="brain"),
)  # fmt: skip

RESAMPLING: Sequence[Subject] = (
    Subject("3d, resampled", RandomModel(spacing=(1.2, 0.9, 1.0)), spacing_mm=(1.0, 1.1, 0.8)),
    Subject("3d, resampled by half", RandomModel(spacing=(2.0, 2.0, 2.0)), (37, 34, 45)),
    Subject("3d, resampled to twice as many", RandomModel(spacing=(0.5, 0.5, 0.5)), (13, 14, 12)),
    Subject("3d, separate z", RandomModel((8, 16, 16), (3.5, 0.9, 1.0), architecture=ANISOTROPIC), (10, 37, 41),
            (4.0, 1.1, 0.8)),
    Subject("3d, separate z, along y", RandomModel(spacing=(0.9, 3.5, 1.0)), (30, 9, 33), (1.1, 4.0, 0.8)),
    Subject("3d, separate z, along x", RandomModel(spacing=(0.9, 1.0, 3.5)), (30, 33, 9), (1.1, 0.8, 4.0)),
    Subject("3d, separate z, coarse target only", RandomModel(spacing=(3.5, 0.9, 1.0)), (24, 30, 31), (1.2, 1.0, 0.9)),
    Subject("3d, separate z, forced", RandomModel(spacing=(1.6, 0.9, 1.0), force_separate_z=True), (20, 29, 31),
            (2.0, 1.1, 0.8)),
    Subject("3d, separate z, forbidden", RandomModel((8, 16, 16), (3.5, 0.9, 1.0), force_separate_z=False,
                                                     architecture=ANISOTROPIC), (10, 37, 41), (4.0, 1.1, 0.8)),
    Subject("3d, separate z, from a ratio of 1.5",
            RandomModel(spacing=(1.6, 0.9, 1.0), **options({"separate_z_anisotropy_threshold": 1.5},
                                                           {"separate_z_anisotropy_threshold": 1.5})),
            (20, 29, 31), (2.0, 1.1, 0.8)),
    Subject("3d, separate z, linear along it",
            RandomModel((8, 16, 16), (3.5, 0.9, 1.0), architecture=ANISOTROPIC,
                        **options({"order_z": 1}, {"order_z": 1})),
            (10, 37, 41), (4.0, 1.1, 0.8)),
    Subject("3d, separate z, cubic along it",
            RandomModel((8, 16, 16), (3.5, 0.9, 1.0), architecture=ANISOTROPIC,
                        **options({"order_z": 3}, {"order_z": 2})),
            (10, 37, 41), (4.0, 1.1, 0.8)),
    Subject("3d, two coarse axes", RandomModel(spacing=(0.8, 3.0, 3.0)), (30, 17, 18), (0.9, 4.0, 4.0)),
    Subject("3d, image linear, logits cubic",
            RandomModel(spacing=(1.2, 0.9, 1.0), **options({"order": 1}, {"order": 3})), spacing_mm=(1.0, 1.1, 0.8)),
    Subject("3d, image quadratic, logits nearest",
            RandomModel(spacing=(1.2, 0.9, 1.0), **options({"order": 2}, {"order": 0})), spacing_mm=(1.0, 1.1, 0.8)),
    Subject("3d, transposed", RandomModel(spacing=(0.9, 1.2, 1.0), transpose=(1, 2, 0)), (22, 27, 31),
            (1.1, 0.8, 1.0)),
    Subject("3d, transposed, separate z", RandomModel(spacing=(3.5, 0.9, 1.0), transpose=(2, 0, 1)), (30, 37, 11),
            (0.8, 1.1, 4.0)),
    Subject("torch resampling", RandomModel(spacing=(1.2, 0.9, 1.0), **TORCH), spacing_mm=(1.0, 1.1, 0.8)),
    Subject("torch resampling, separate z", RandomModel(spacing=(3.5, 0.9, 1.0), **TORCH), (10, 37, 41),
            (4.0, 1.1, 0.8)),
    Subject("torch resampling, separate z, linear along it",
            RandomModel(spacing=(3.5, 0.9, 1.0), **TORCH, **options({"aniso_axis_mode": "linear"},
                                                                    {"aniso_axis_mode": "linear"})),
            (10, 37, 41), (4.0, 1.1, 0.8)),
    Subject("torch resampling, separate z, forced",
            RandomModel(spacing=(1.6, 0.9, 1.0), force_separate_z=True, **TORCH), (20, 29, 31), (2.0, 1.1, 0.8)),
    Subject("torch resampling, separate z, forbidden",
            RandomModel(spacing=(3.5, 0.9, 1.0), force_separate_z=False, **TORCH), (10, 37, 41), (4.0, 1.1, 0.8)),
    Subject("no_resampling_hack", RandomModel(spacing=(1.2, 0.9, 1.0), resampling="no_resampling_hack"),
            spacing_mm=(1.0, 1.1, 0.8)),
)  # fmt: skip

LABELS: Sequence[Subject] = (
    Subject("regions", RandomModel(**REGIONS, spacing=(1.0, 1.1, 1.2))),
    Subject("regions, another painting order", RandomModel(labels=REGIONS["labels"], regions_class_order=[3, 1, 2])),
    Subject("regions, zero outside an ellipsoid", RandomModel(**REGIONS), (31, 34, 37), look="brain"),
    Subject("regions and an ignore label",
            RandomModel(labels=REGIONS["labels"] | {"ignore": 4}, regions_class_order=[1, 2, 3])),
    Subject("an ignore label", RandomModel(labels={"background": 0, "liver": 1, "kidney": 2, "ignore": 3})),
    Subject("labels out of order in dataset.json",
            RandomModel(labels={"kidney": 2, "background": 0, "spleen": 3, "liver": 1})),
    Subject("labels that leave numbers out", RandomModel(labels={"background": 0, "liver": 3, "kidney": 7})),
    Subject("one label", RandomModel(labels={"background": 0, "tumour": 1})),
    Subject("300 labels", RandomModel(labels=numbered(300)), (20, 23, 19)),
    Subject("postprocessing, all labels as one", RandomModel(postprocessing=[[1, 2]])),
    Subject("postprocessing, label by label", RandomModel(labels=ORGANS, postprocessing=[[1, 2, 3, 4, 5], 2, 4])),
    Subject("postprocessing, regions", RandomModel(**REGIONS, postprocessing=[[[1, 2, 3], [2, 3], 3], [2, 3]])),
)  # fmt: skip

CASCADES: Sequence[Subject] = (
    Subject("cascade", cascade()),
    Subject("cascade, mirrored, folds", cascade(mirror_axes=(0, 1, 2), folds=("0", "1")), mirror=True),
    Subject("cascade, six classes, resampled", cascade(high={"spacing": (1.2, 0.9, 1.0)}, labels=ORGANS), (29, 31, 33),
            (1.0, 1.1, 0.8)),
    Subject("cascade, regions", cascade(high={"spacing": (1.0, 1.1, 0.9)}, **REGIONS), (29, 31, 33)),
    Subject("cascade, zero outside an ellipsoid", cascade(high={"spacing": (1.1, 1.0, 0.9)}, use_mask=True),
            (31, 34, 37), look="brain"),
    Subject("cascade, transposed, separate z",
            cascade({"spacing": (4.0, 2.0, 2.0)}, {"spacing": (3.5, 0.9, 1.0)}, transpose=(2, 0, 1)), (33, 37, 16),
            (0.8, 1.1, 4.0)),
    Subject("cascade, separate z, linear along it",
            cascade({"spacing": (4.0, 2.0, 2.0)},
                    {"spacing": (3.5, 0.9, 1.0), "resampling_options": {"seg": {"order_z": 1}}}, labels=ORGANS),
            (16, 37, 33), (4.0, 1.1, 0.8)),
    Subject("cascade, torch resampling, six classes",
            cascade(high={"spacing": (1.2, 0.9, 1.0)}, labels=ORGANS, **TORCH), (29, 31, 33), (1.0, 1.1, 0.8), seed=4),
    Subject("cascade, torch resampling, separate z",
            cascade({"spacing": (4.0, 2.0, 2.0)}, {"spacing": (3.5, 0.9, 1.0)}, **TORCH), (16, 37, 33),
            (4.0, 1.1, 0.8)),
    Subject("cascade, an ignore label",
            cascade(labels={"background": 0, "liver": 1, "kidney": 2, "ignore": 3})),
    Subject("cascade, labels that leave numbers out", cascade(labels={"background": 0, "liver": 1, "kidney": 7})),
    Subject("cascade, 150 labels", cascade(labels=numbered(150)), (20, 23, 19)),
    Subject("cascade, file, SimpleITKIO", cascade(high={"spacing": (1.1, 1.0, 0.9)}), (29, 31, 33),
            affine=affine_of((1.1, 0.9, 1.2), TILTED)),
    Subject("cascade, file, NibabelIOWithReorient, oblique",
            cascade(high={"spacing": (1.1, 1.0, 0.9)}, reader="NibabelIOWithReorient"), (33, 27, 22),
            affine=affine_of((1.9, 0.9, 1.2), OBLIQUE)),
)  # fmt: skip

CASCADE_AND_2D = Subject(
    "ensemble, cascade and 2d, file",
    (cascade(high={"spacing": (1.1, 1.0, 0.9)}), RandomModel(**FLAT, seed=4)),
    (21, 23, 25),
    affine=affine_of((1.1, 0.9, 1.2), TILTED),
)
ENSEMBLES: Sequence[Subject] = (
    CASCADE_AND_2D,
    Subject("ensemble, 2d and 3d_fullres", (RandomModel(**FLAT), RandomModel(seed=4))),
    Subject("ensemble, three plans",
            (RandomModel(), RandomModel(plans_name="nnUNetResEncUNetMPlans", **RESIDUAL, seed=4),
             RandomModel(plans_name="custom", spacing=(1.3, 1.2, 1.1), transpose=(1, 0, 2), seed=5))),
    Subject("ensemble, regions", (RandomModel(**FLAT, **REGIONS), RandomModel(**REGIONS, seed=4))),
    Subject("ensemble, zero outside an ellipsoid", (RandomModel(**FLAT), RandomModel(seed=4)), (31, 34, 37),
            look="brain"),
    Subject("ensemble, postprocessing", (RandomModel(**FLAT), RandomModel(seed=4)), postprocessing=[[1, 2], 2]),
    Subject("ensemble, cascade and 3d_fullres", (cascade(), RandomModel(seed=4))),
    Subject("ensemble, folds, mirrored",
            (RandomModel(**FLAT, folds=("0", "1"), mirror_axes=(0, 1)), RandomModel(mirror_axes=(0, 1, 2), seed=4)),
            mirror=True),
    Subject("ensemble, file, SimpleITKIOWithReorient, oblique",
            (RandomModel(**FLAT, reader="SimpleITKIOWithReorient"),
             RandomModel(reader="SimpleITKIOWithReorient", seed=4)),
            (33, 27, 12), affine=affine_of((3.9, 0.9, 1.2), OBLIQUE)),
)  # fmt: skip

FILES: Sequence[Subject] = (
    Subject("file, SimpleITKIO", RandomModel(spacing=(1.0, 1.0, 1.1)), (22, 27, 31),
            affine=affine_of((1.1, 0.9, 1.2), TILTED)),
    Subject("file, SimpleITKIO, .nrrd", RandomModel(spacing=(1.0, 1.0, 1.1)), (22, 27, 31),
            affine=affine_of((1.1, 0.9, 1.2), OBLIQUE), ending=".nrrd"),
    Subject("file, SimpleITKIO, .mha", RandomModel(spacing=(1.0, 1.0, 1.1)), (22, 27, 31),
            affine=affine_of((1.1, 0.9, 1.2), TILTED), ending=".mha"),
    Subject("file, SimpleITKIO, .gipl", RandomModel(spacing=(1.0, 1.0, 1.1)), (22, 27, 31),
            affine=affine_of((1.1, 0.9, 1.2)), ending=".gipl"),
    Subject("file, SimpleITKIO, 2d image", RandomModel((16, 16), (1.0, 1.0)), (1, 61, 75), planar=True,
            affine=affine_of((0.9, 1.2, 1.0))),
    Subject("file, SimpleITKIO, a file per channel", RandomModel(channels=("T1", "T2")),
            affine=affine_of((1.1, 0.9, 1.2), FLIPPED)),
    Subject("file, SimpleITKIO, all channels in one file", RandomModel(channels=("T1", "T2")),
            affine=affine_of((1.1, 0.9, 1.2), FLIPPED), stacked=True),
    Subject("file, SimpleITKIOWithReorient, oblique",
            RandomModel(spacing=(3.5, 1.0, 1.1), reader="SimpleITKIOWithReorient"), (33, 27, 12),
            affine=affine_of((3.9, 0.9, 1.2), OBLIQUE)),
    Subject("file, SimpleITKIOWithReorient, oblique, .nrrd",
            RandomModel(spacing=(3.5, 1.0, 1.1), reader="SimpleITKIOWithReorient", transpose=(1, 2, 0)), (33, 27, 12),
            affine=affine_of((3.9, 0.9, 1.2), OBLIQUE), ending=".nrrd"),
    Subject("file, NibabelIO", RandomModel(spacing=(1.0, 1.0, 1.1), reader="NibabelIO"), (22, 27, 31),
            affine=affine_of((1.1, 0.9, 1.2), FLIPPED)),
    Subject("file, NibabelIO, .nii", RandomModel(spacing=(1.0, 1.0, 1.1), reader="NibabelIO"), (22, 27, 31),
            affine=affine_of((1.1, 0.9, 1.2), OBLIQUE), ending=".nii"),
    Subject("file, NibabelIOWithReorient, flipped",
            RandomModel(spacing=(1.0, 1.0, 1.1), reader="NibabelIOWithReorient"), (22, 27, 31),
            affine=affine_of((1.1, 0.9, 1.2), FLIPPED)),
    Subject("file, NibabelIOWithReorient, oblique",
            RandomModel(spacing=(3.5, 1.0, 1.1), reader="NibabelIOWithReorient", transpose=(0, 2, 1)), (33, 27, 12),
            affine=affine_of((3.9, 0.9, 1.2), OBLIQUE)),
    Subject("file, Tiff3DIO, spacing in JSON", RandomModel(spacing=(1.8, 1.0, 1.1), reader="Tiff3DIO"), (14, 27, 31),
            (2.0, 0.9, 1.2), ending=".tif"),
    Subject("file, Tiff3DIO, no spacing", RandomModel(spacing=(1.2, 1.0, 1.1), reader="Tiff3DIO"), (19, 27, 31),
            ending=".tif", spacing_in="nothing"),
    Subject("file, Tiff3DIO, ImageJ's pixel sizes only", RandomModel(spacing=(1.2, 1.0, 1.1), reader="Tiff3DIO"),
            (19, 27, 31), (2.0, 0.9, 1.2), ending=".tif", spacing_in="imagej"),
    Subject("file, Tiff3DIO, OME's pixel sizes only", RandomModel(spacing=(1.2, 1.0, 1.1), reader="Tiff3DIO"),
            (19, 27, 31), (2.0, 0.9, 1.2), ending=".tif", spacing_in="ome"),
    Subject("file, Tiff3DIO, ImageJ's pixel sizes and JSON", RandomModel(spacing=(1.8, 1.0, 1.1), reader="Tiff3DIO"),
            (14, 27, 31), (2.0, 0.9, 1.2), ending=".tif", spacing_in="both"),
    Subject("file, Tiff3DIO, a file per channel", RandomModel(channels=("DAPI", "GFP"), reader="Tiff3DIO"),
            (14, 27, 31), (2.0, 0.9, 1.2), ending=".tif"),
    Subject("file, NaturalImage2DIO, colours, .png",
            RandomModel((16, 16), (1.0, 1.0), channels=("R", "G", "B"), normalization="RGBTo01Normalization",
                        reader="NaturalImage2DIO"), (1, 61, 75), planar=True, look="colours", ending=".png"),
    Subject("file, NaturalImage2DIO, colours and alpha, .png",
            RandomModel((16, 16), (1.0, 1.0), channels=("R", "G", "B", "A"), normalization="RGBTo01Normalization",
                        reader="NaturalImage2DIO"), (1, 61, 75), planar=True, look="colours", ending=".png"),
    Subject("file, NaturalImage2DIO, grey, .png",
            RandomModel((16, 16), (1.0, 1.0), reader="NaturalImage2DIO"), (1, 61, 75), planar=True, look="colours",
            ending=".png"),
    Subject("file, NaturalImage2DIO, grey of 16 bits, .png",
            RandomModel((16, 16), (1.0, 1.0), reader="NaturalImage2DIO"), (1, 61, 75), planar=True, look="deep grey",
            ending=".png"),
    Subject("file, NaturalImage2DIO, colours, .bmp",
            RandomModel((16, 16), (1.0, 1.0), channels=("R", "G", "B"), reader="NaturalImage2DIO"), (1, 61, 75),
            planar=True, look="colours", ending=".bmp"),
    Subject("file, NaturalImage2DIO, colours, .tif",
            RandomModel((16, 16), (1.0, 1.0), channels=("R", "G", "B"), reader="NaturalImage2DIO"), (1, 61, 75),
            planar=True, look="colours", ending=".tif", spacing_in="nothing"),
    Subject("file, NaturalImage2DIO, grey, .tif",
            RandomModel((16, 16), (1.0, 1.0), reader="NaturalImage2DIO"), (1, 61, 75), planar=True, look="deep grey",
            ending=".tif", spacing_in="nothing"),
)  # fmt: skip

# nibabel refuses the first, and nnU-Net's writer fails on the second.
NOT_BY_NIBABEL = {"quaternion too long", "singular sform, and a qform"}
READERS = ("SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient")


def contradicting(kind: str, reader: str) -> Subject:
    """A file whose header contradicts itself; ITK alone knows what a micrometre is."""
    unit = 1000 if kind == "micrometres" and reader.startswith("SimpleITK") else 1
    affine = affine_of((1.1 * unit, 0.9 * unit, 1.2 * unit), FLIPPED)
    model = RandomModel(spacing=(1.0, 1.0, 1.1), reader=reader)
    return Subject(f"file, {reader}, {kind}", model, (22, 27, 31), affine=affine, contradiction=kind)


HEADERS: Sequence[Subject] = tuple(
    contradicting(kind, reader)
    for kind in CONTRADICTIONS
    for reader in READERS
    if reader.startswith("SimpleITK") or kind not in NOT_BY_NIBABEL
)

TRAINED: Sequence[Subject] = (
    Subject("sample model, sample head", sample_model(), image=sample_image()),
    Subject("sample model, sample head, mirrored", sample_model(), image=sample_image(), mirror=True),
    Subject("chest CT, trained model, file, SimpleITKIO, .nrrd", CHEST, image=DATA / "ChestCT.nrrd"),
    Subject("head MR, trained model, regions, file, NibabelIOWithReorient", HEAD, image=DATA / "HeadMR.nii.gz"),
    Subject("head MR, trained model, regions, mirrored", HEAD, image=DATA / "HeadMR.nii.gz", mirror=True),
)

SUBJECTS = (
    *WINDOWS, *NETWORKS, *INTENSITIES, *RESAMPLING, *LABELS, *CASCADES, *ENSEMBLES, *FILES, *HEADERS, *TRAINED,
)  # fmt: skip
