"""The cases by name: an image and a model each, made here and always the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from napari_nnunet_cpu.bench.images import write_scan
from napari_nnunet_cpu.bench.model_folder import RandomModel
from napari_nnunet_cpu.cases import LABEL_ENDINGS, read_case
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.models import load_model
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.samples import sample_image, sample_model

FEATURES = (32, 64, 128, 256, 320, 320)  # nnU-Net's own for volumes
_PATCH = (96, 96, 96)
_SPACING_MM = (1.5, 1.5, 1.5)
# What is rounded to 8 bits grows from layer to layer of a random network, so that it would always be refused.
_ANY_AGREEMENT = ("--agreement", "0")


@dataclass(frozen=True)
class BenchCase:
    """What both sides segment.

    Attributes
    ----------
    name : str
        In tables.
    what : str
        What it is, in words.
    model : TrainedModel
        With one fold.
    images : tuple of Path
        A file per channel.
    options : tuple of str
        Options of our `segment` that the case is about.
    """

    name: str
    what: str
    model: TrainedModel
    images: tuple[Path, ...]
    options: tuple[str, ...] = ()

    @property
    def ending(self) -> str:
        """Of the file of labels: the image's, as nnU-Net wants it."""
        name = self.images[0].name.lower()
        return next((ending for ending in LABEL_ENDINGS if name.endswith(ending)), ".nii.gz")


@dataclass(frozen=True)
class RandomCase:
    """An image like a scan, and a random network whose labels look like anatomy.

    Attributes
    ----------
    what : str
        What it is, in words.
    shape : tuple of int
        Of the image: Z, Y, X.
    spacing_mm : tuple of float
        Of the image: Z, Y, X.
    model : RandomModel
        The network.
    options : tuple of str
        Options of our `segment` that the case is about.
    """

    what: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    model: RandomModel
    options: tuple[str, ...] = ()

    def write(self, name: str, folder: Path) -> BenchCase:
        """Write image and model into the folder; what an earlier bench has finished there is taken."""
        image, finished = folder / "image_0000.nii.gz", folder / "finished"
        if not finished.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_scan(image, self.shape, self.spacing_mm, self.model.seed)
            self.model.write(folder, read_case(image))
            finished.touch()
        options = (*self.options, *_ANY_AGREEMENT)
        return BenchCase(name, self.what, load_model(self.model.folder(folder)), (image,), options)


def _sample(name: str, folder: Path) -> BenchCase:
    what = "the T1 head and the model of grey and white matter that come with the package"
    return BenchCase(name, what, load_model(sample_model()), (sample_image(),))


def _volume(classes: int) -> RandomModel:
    return RandomModel(_PATCH, _SPACING_MM, FEATURES, classes)


WRITERS: dict[str, Callable[[str, Path], BenchCase]] = {
    "5-classes": RandomCase("a volume of few classes, 16 tiles", (120, 256, 256), (2.5, 0.8, 0.8), _volume(5)).write,
    "60-classes": RandomCase(
        "the same volume, many classes: export counts", (120, 256, 256), (2.5, 0.8, 0.8), _volume(60)
    ).write,
    "2d": RandomCase(
        "a stack of slices and a 2d network",
        (40, 320, 320),
        (5.0, 1.4, 1.4),
        RandomModel((256, 256), (1.25, 1.25), (32, 64, 128, 256, 512, 512), 5),
    ).write,
    "sample": _sample,
    "one-tile": RandomCase(
        "an image that fits into one patch: start-up counts", (60, 110, 110), (2.0, 1.2, 1.2), _volume(5)
    ).write,
    "300-cube": RandomCase(
        "a volume of many rows of tiles, a narrow network: how soon the slice on screen is there",
        (300, 300, 300),
        (1.5, 1.5, 1.5),
        RandomModel((48, 96, 96), _SPACING_MM, (16, 32, 64, 128, 160), 5),
    ).write,
    "118-classes": RandomCase(
        "a large volume of very many classes, a narrow network: memory counts",
        (300, 512, 512),
        (1.5, 0.75, 0.75),
        RandomModel(_PATCH, _SPACING_MM, (16, 32, 64, 128, 160, 160), 118),
        ("--memory", "4GB"),
    ).write,
}


def write_case(name: str, work: Path) -> BenchCase:
    """Write the case called `name` into its folder under `work`.

    Raises
    ------
    SettingsError
        When there is no such case.
    """
    if name not in WRITERS:
        raise SettingsError(f"unknown case {name!r}: choose among {', '.join(WRITERS)}")
    return WRITERS[name](name, work / name)


def own_case(model: Path, images: tuple[Path, ...]) -> BenchCase:
    """The user's own model, its first fold, and image.

    Raises
    ------
    SettingsError
        When the model is a cascade, which is two networks.
    ModelError
        When it can't be opened.
    """
    trained = load_model(model)
    if trained.cascade:
        raise SettingsError(f"{model} is a cascade; bench measures one network: name its first stage")
    one_fold = load_model(model, folds=trained.folds[:1])
    return BenchCase("own", f"{trained.name} {trained.configuration_name}", one_fold, images)
