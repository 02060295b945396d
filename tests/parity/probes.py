"""What nnU-Net does where it fails or leaves room. Run as a program, for the reason that `reference.py` is one.

`probes.py FOLDER` writes FOLDER/answers.json: for every probe, by its name, what nnU-Net gave, or its error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import reference
from contradictions import write_contradiction
from images import affine_of, read_labels, write_image, write_spacing
from random_model import RandomModel, smooth_image

CUBE = smooth_image((20, 21, 22), 3)
BROKEN = CUBE.copy()
BROKEN[0, 10, 10, 10] = np.nan
NO_DATA = CUBE.copy()
NO_DATA[0, 10, 10, 10] = np.finfo(np.float32).min
SHEARED = np.array([[1, 0.3, 0, 0], [0, 1.5, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])

LARGE_LOGITS = RandomModel(spread=5000.0)
REGION_300 = RandomModel(labels={"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 300])
GAPS = RandomModel(labels={"background": 0, "liver": 3, "kidney": 7})
ONLY_ALL = RandomModel(folds=("all",))
COARSE = RandomModel(spacing=(100.0, 1.0, 1.0))
UNMIRRORED = RandomModel(mirror_axes=())
ORDER_FOR_TORCH = RandomModel(
    spacing=(1.2, 1.0, 1.0), resampling="resample_torch_fornnunet", resampling_options={"data": {"order": 3}}
)
CASCADE = RandomModel(first_stage=RandomModel(called="3d_lowres", spacing=(2.0, 2.0, 2.0)))
TIFF_NAMES = ("cells_0000", "cells")
READERS = ("SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient")


def main(root: Path) -> None:
    reference.start("float16", root)
    answers = {}
    for name, probe in PROBES.items():
        folder = root / name
        folder.mkdir()
        answers[name] = attempt(probe, folder)
    (root / "answers.json").write_text(json.dumps(answers))


def attempt(probe: Callable[[Path], Any], folder: Path) -> Any:
    try:
        return probe(folder)
    except Exception as error:  # noqa: BLE001  # the error is the answer
        return f"{type(error).__name__}: {error}"


def labelled(
    model: RandomModel, image: np.ndarray = CUBE, previous: np.ndarray | None = None, mirror: bool = False
) -> Callable[[Path], list[int]]:
    """The label values that nnU-Net finds in an image."""

    def probe(folder: Path) -> list[int]:
        return np.unique(predictor(folder, model, mirror)(image, previous)).tolist()

    return probe


def predictor(folder: Path, model: RandomModel, mirror: bool = False) -> Callable[..., np.ndarray]:
    """From an image, and labels of a first stage, to the labels that nnU-Net finds."""
    stage = {"folder": str(model.write(folder)), "folds": None, "checkpoint": "checkpoint_final.pth"}
    predict = reference.opened(stage, {"mirror": mirror, "step": 0.5}).predict_single_npy_array
    return lambda image, previous=None: predict(image, {"spacing": (1.0, 1.0, 1.0)}, previous)


def without_contrast(folder: Path) -> list[bool]:
    """Whether an image and its negative get the same labels, with one voxel that has no data and without it."""
    predict = predictor(folder, RandomModel())
    return [
        np.array_equal(*(predict(np.where(bad, NO_DATA, sign * CUBE)) for sign in (1, -1)))
        for bad in (NO_DATA < -1e30, np.zeros(CUBE.shape, bool))
    ]


def by_reader(use: Callable[[Any, Path], Any]) -> Callable[[Path], dict[str, Any]]:
    """The answers of nnU-Net's readers of NIfTI, by name."""

    def probe(folder: Path) -> dict[str, Any]:
        from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name as found

        return {name: attempt(lambda folder, name=name: use(found(name)(), folder), folder) for name in READERS}

    return probe


def spacing_of_a_plane(reader: Any, folder: Path) -> list[float]:
    write_image(folder / "plane.nii.gz", CUBE[:, :1], affine_of((1.0, 1.5, 2.0)), planar=True)
    return numbers(reader.read_images([str(folder / "plane.nii.gz")])[1]["spacing"])


def labelled_with(kind: str) -> Callable[[Any, Path], list[float]]:
    """Spacing of a file whose header is wrong in this way, if labels of it can be written too."""

    def use(reader: Any, folder: Path) -> list[float]:
        path = write_contradiction(folder / "scan.nii.gz", CUBE[0].T, np.diag([1.0, 1.5, 2.0, 1.0]), kind)
        image, properties = reader.read_images([str(path)])
        reader.write_seg(np.zeros(image.shape[1:]), str(folder / "labels.nii.gz"), properties)
        return numbers(properties["spacing"])

    return use


def spacing_of_a_sheared_image(reader: Any, folder: Path) -> list[float]:
    nib.save(nib.Nifti1Image(CUBE[0].T, SHEARED), folder / "sheared.nii.gz")
    return numbers(reader.read_images([str(folder / "sheared.nii.gz")])[1]["spacing"])


def largest_value_written(reader: Any, folder: Path) -> int:
    write_image(folder / "image.nii.gz", CUBE, affine_of((1.0, 1.5, 2.0)), planar=False)
    _, properties = reader.read_images([str(folder / "image.nii.gz")])
    reader.write_seg(np.full(CUBE.shape[1:], 299), str(folder / "labels.nii.gz"), properties)
    return int(read_labels(folder / "labels.nii.gz").max())


def labels_of_channels_in_one_file(reader: Any, folder: Path) -> list[int]:
    write_image(folder / "channels.nii.gz", np.concatenate([CUBE, CUBE]), affine_of((1.0, 1.5, 2.0)), planar=False)
    image, properties = reader.read_images([str(folder / "channels.nii.gz")])
    reader.write_seg(np.zeros(image.shape[1:]), str(folder / "labels.nii.gz"), properties)
    return list(image.shape)


def spacings_beside_a_tiff(folder: Path) -> dict[str, list[float]]:
    """By the name of the image; beside each lies the JSON file of the same name."""
    from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

    found = {}
    for name in TIFF_NAMES:
        write_image(folder / f"{name}.tif", CUBE, np.eye(4).tolist(), planar=False)
        write_spacing(folder / f"{name.removesuffix('_0000')}.json", (2.0, 1.5, 1.0))
        found[name] = numbers(Tiff3DIO().read_images([str(folder / f"{name}.tif")])[1]["spacing"])
    return found


def numbers(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values]


PROBES: dict[str, Callable[[Path], Any]] = {
    "logits_beyond_16_bits": labelled(LARGE_LOGITS),
    "not_a_number": labelled(RandomModel(), BROKEN),
    "no_data": without_contrast,
    "an_axis_without_voxels": labelled(COARSE),
    "region_values_above_255": labelled(REGION_300),
    "values_left_out": labelled(GAPS),
    "only_fold_all": labelled(ONLY_ALL),
    "mirroring_without_axes": labelled(UNMIRRORED, mirror=True),
    "an_order_for_torch": labelled(ORDER_FOR_TORCH),
    "first_stage_missing": labelled(CASCADE),
    "first_stage_of_8_bits": labelled(CASCADE, previous=np.ones((1, 20, 21, 22), dtype=np.uint8)),
    "labels_above_255": by_reader(largest_value_written),
    "channels_in_one_file": by_reader(labels_of_channels_in_one_file),
    "planes": by_reader(spacing_of_a_plane),
    "micrometres": by_reader(labelled_with("micrometres")),
    "long_quaternions": by_reader(labelled_with("quaternion too long")),
    "singular_forms": by_reader(labelled_with("singular sform, and a qform")),
    "json_beside_a_tiff": spacings_beside_a_tiff,
    "sheared_images": by_reader(spacing_of_a_sheared_image),
}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
