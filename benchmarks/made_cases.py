"""The cases of the benchmarks by name: each has an image and a model that are made here, always the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from anatomy import anatomical_weights
from random_model import RandomModel
from scans import write_scan

from napari_nnunet_cpu.bench.case import BenchCase
from napari_nnunet_cpu.cases import read_case
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.models import load_model
from napari_nnunet_cpu.samples import sample_image, sample_model

FEATURES = (32, 64, 128, 256, 320, 320)  # nnU-Net's own for volumes
_PATCH = (96, 96, 96)
_SPACING_MM = (1.5, 1.5, 1.5)
# Because int8 would always be refused: its rounding errors grow from layer to layer of a random network.
_ANY_AGREEMENT = ("--agreement", "0")


def plain_unet(
    patch: Sequence[int], spacing_mm: Sequence[float], features: Sequence[int], classes: int, seed: int = 0
) -> RandomModel:
    """A PlainConvUNet with nnU-Net's default plans and one channel; every stage but the first halves all axes."""
    dimensions, stages = len(patch), len(features)
    return RandomModel(
        patch, spacing_mm, channels=("MR",), mirror_axes=range(dimensions), seed=seed,
        labels={"background": 0} | {f"class {number}": number for number in range(1, classes)},
        architecture={
            "n_stages": stages,
            "features_per_stage": list(features),
            "kernel_sizes": [[3] * dimensions] * stages,
            "strides": [[1] * dimensions, *[[2] * dimensions] * (stages - 1)],
            "n_conv_per_stage": [2] * stages,
            "n_conv_per_stage_decoder": [2] * (stages - 1),
        },
    )  # fmt: skip


@dataclass(frozen=True)
class RandomCase:
    """An image like a scan, and a random network whose labels look like anatomy.

    `shape` and `spacing_mm` are the image's, (Z, Y, X); `options` are further options of our `segment`.
    """

    description: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    model: RandomModel
    options: tuple[str, ...] = ()

    def write(self, name: str, folder: Path) -> BenchCase:
        """Write image and model into the folder, unless an earlier benchmark finished both."""
        image, finished = folder / "image_0000.nii.gz", folder / "finished"
        if not finished.exists():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self.model.folder(folder), ignore_errors=True)
            write_scan(image, self.shape, self.spacing_mm, self.model.seed)
            case = read_case(image)
            self.model.write(folder, weights=lambda model, seed: anatomical_weights(model, case, seed))
            finished.touch()
        options = (*self.options, *_ANY_AGREEMENT)
        return BenchCase(name, self.description, load_model(self.model.folder(folder)), (image,), options)


def _sample(name: str, folder: Path) -> BenchCase:
    description = "the T1 head and the model of grey and white matter that come with the package"
    return BenchCase(name, description, load_model(sample_model()), (sample_image(),))


def _volume(classes: int) -> RandomModel:
    return plain_unet(_PATCH, _SPACING_MM, FEATURES, classes)


WRITERS: dict[str, Callable[[str, Path], BenchCase]] = {
    "5-classes": RandomCase("a volume of few classes, 16 tiles", (120, 256, 256), (2.5, 0.8, 0.8), _volume(5)).write,
    "60-classes": RandomCase(
        "the same volume, many classes: export counts", (120, 256, 256), (2.5, 0.8, 0.8), _volume(60)
    ).write,
    "2d": RandomCase(
        "a stack of slices and a 2d network",
        (40, 320, 320),
        (5.0, 1.4, 1.4),
        plain_unet((256, 256), (1.25, 1.25), (32, 64, 128, 256, 512, 512), 5),
    ).write,
    "sample": _sample,
    "one-tile": RandomCase(
        "an image that fits into one patch: start-up counts", (60, 110, 110), (2.0, 1.2, 1.2), _volume(5)
    ).write,
    "300-cube": RandomCase(
        "a volume of many rows of tiles, a narrow network: how soon the slice on screen is there",
        (300, 300, 300),
        (1.5, 1.5, 1.5),
        plain_unet((48, 96, 96), _SPACING_MM, (16, 32, 64, 128, 160), 5),
    ).write,
    "118-classes": RandomCase(
        "a large volume of very many classes, a narrow network: memory counts",
        (300, 512, 512),
        (1.5, 0.75, 0.75),
        plain_unet(_PATCH, _SPACING_MM, (16, 32, 64, 128, 160, 160), 118),
        ("--memory", "4GB"),
    ).write,
}


def check_names(names: Sequence[str]) -> None:
    """Raise `SettingsError` if a name is not the name of a case."""
    for name in names:
        if name not in WRITERS:
            raise SettingsError(f"unknown case {name!r}: choose among {', '.join(WRITERS)}")


def write_case(name: str, work: Path) -> BenchCase:
    """Write the case called `name` into its folder under `work`."""
    return WRITERS[name](name, work / name)
