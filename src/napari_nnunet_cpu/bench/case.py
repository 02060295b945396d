"""The model and image that both programs segment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_nnunet_cpu.cases import LABEL_ENDINGS
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.models import TrainedModel, load_model


@dataclass(frozen=True)
class BenchCase:
    """A model with one fold and an image, a file per channel; `options` are further ones of our `segment`."""

    name: str
    description: str
    model: TrainedModel
    images: tuple[Path, ...]
    options: tuple[str, ...] = ()

    @property
    def ending(self) -> str:
        """The file ending of the labels, which is the image's, because nnU-Net writes no other."""
        name = self.images[0].name.lower()
        return next((ending for ending in LABEL_ENDINGS if name.endswith(ending)), ".nii.gz")


def own_case(model: Path, images: tuple[Path, ...]) -> BenchCase:
    """The first fold of the user's model, and the user's image.

    Raises `SettingsError` for a cascade, because it is two networks, and `ModelError` if the model can't be opened.
    """
    trained = load_model(model)
    if trained.cascade:
        raise SettingsError(f"{model} is a cascade; bench measures one network: name its first stage")
    one_fold = load_model(model, folds=trained.folds[:1])
    return BenchCase("own", f"{trained.name} {trained.configuration_name}", one_fold, images)
