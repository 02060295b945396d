"""What one parity test labels: a model or several, an image, and how they are run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from contradictions import write_contradiction
from images import LOOKS, Affine, read_labels, write_image, write_imagej_stack, write_ome_stack, write_spacing
from random_model import DATASET, RandomModel, postprocessing_document

from napari_nnunet_cpu import Case, Settings, TrainedModel, load_model, read_case
from napari_nnunet_cpu.cases.case import planar_spacing
from napari_nnunet_cpu.settings import AUTO_FOLDS


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, or the members of an ensemble, and an image.

    The image is made here, or `image` is the path of one. Without `ending` both sides get it as an array; with one,
    or with an `affine`, it is a file that each side reads with its own reader. `spacing_in` says where a TIFF stack
    has its spacing: in "json" beside it, in the pixel sizes of "imagej" or "ome", in "both" (JSON and ImageJ, which
    differ) or in "nothing".
    `contradiction` names what is wrong with the geometry in the header of a NIfTI file.
    `stacked` puts all channels into one file, which nnU-Net reads, but can't write labels for. `postprocessing` is
    that of the ensemble, as RandomModel's is that of a model.
    """

    name: str
    model: RandomModel | Sequence[RandomModel] | Path = field(default_factory=RandomModel)
    shape: Sequence[int] = (24, 27, 29)
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)
    mirror: bool = False
    step: float = 0.5
    planar: bool = False
    look: str = "scan"
    affine: Affine | None = None
    ending: str | None = None
    contradiction: str | None = None
    spacing_in: str = "json"
    stacked: bool = False
    image: Path | None = None
    chosen_folds: str | Sequence[str] = AUTO_FOLDS
    postprocessing: Sequence[Any] | None = None
    seed: int = 3

    @property
    def members(self) -> Sequence[RandomModel]:
        if isinstance(self.model, Path):
            return ()
        return (self.model,) if isinstance(self.model, RandomModel) else tuple(self.model)

    @property
    def postprocess(self) -> bool:
        return any(part.postprocessing is not None for part in (self, *self.members))

    @property
    def settings(self) -> Settings:
        return Settings.exact(mirror=self.mirror, step=self.step, probabilities=True, postprocess=self.postprocess)

    @property
    def file_ending(self) -> str | None:
        """Of the image, and of the labels."""
        if self.image is not None:
            return "." + self.image.name.split(".", 1)[1]
        return self.ending or (".nii.gz" if self.affine is not None else None)

    @property
    def label_ending(self) -> str | None:
        """Of the file that nnU-Net writes, if it can."""
        return None if self.stacked else self.file_ending

    def write(self, folder: Path) -> None:
        """Everything the reference needs, under `folder`."""
        folder.mkdir()
        for member in self.members:
            member.write(folder)
        self._write_image(folder)
        if self.postprocessing is not None:
            names = "___".join(member.folder_name for member in self.members)
            path = folder / DATASET / "ensembles" / f"ensemble___{names}___0" / "postprocessing.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(postprocessing_document(self.postprocessing)))
        postprocessing = next(folder.glob("*/*/*/postprocessing.json")) if self.postprocess else ""
        task = {
            "mirror": self.mirror,
            "step": self.step,
            "members": [[self._stage(folder, part) for part in stages] for stages in self._stages()],
            "files": [str(path) for path in self.files(folder)],
            "spacing": list(self._spacing()),
            "ending": self.label_ending,
            "postprocessing": str(postprocessing),
        }
        (folder / "task.json").write_text(json.dumps(task))

    def open_model(self, folder: Path) -> TrainedModel | list[TrainedModel]:
        if isinstance(self.model, Path):
            return load_model(self.model)
        models = [
            load_model(self._model_folder(folder, member), folds=self.chosen_folds, checkpoint=member.checkpoint_name)
            for member in self.members
        ]
        return models[0] if len(models) == 1 else models

    def open_case(self, folder: Path) -> Case:
        files = self.files(folder)
        if files:
            return read_case(*files)
        return Case(np.load(folder / "image.npy"), self._spacing(), name=self.name, planar=self.planar)

    def reference(self, folder: Path, precision: str) -> np.ndarray:
        """The labels that `reference.py` left, in the order of the case: a reader that turns images turns them back."""
        if self.label_ending is None:
            return np.load(folder / f"{precision}.npy")
        return read_labels(folder / f"{precision}{self.label_ending}")

    def reference_probabilities(self, folder: Path) -> np.ndarray:
        """The probabilities of nnU-Net with 32-bit sums (heads, Z, Y, X), in the order of its reader."""
        return np.load(folder / "probabilities.npy")

    def _stages(self) -> list[list[RandomModel | Path]]:
        if isinstance(self.model, Path):
            return [[self.model]]
        return [[*([member.first_stage] if member.first_stage else []), member] for member in self.members]

    def _stage(self, folder: Path, part: RandomModel | Path) -> dict[str, Any]:
        if isinstance(part, Path):
            return {"folder": str(part), "folds": None, "checkpoint": "checkpoint_final.pth"}
        only_all = list(part.folds) if "all" in part.folds else None  # nnU-Net does not look for that one
        return {
            "folder": str(self._model_folder(folder, part)),
            "folds": only_all if self.chosen_folds == AUTO_FOLDS else list(self.chosen_folds),
            "checkpoint": part.checkpoint_name,
        }

    def _model_folder(self, folder: Path, part: RandomModel) -> Path:
        return folder / DATASET / part.folder_name

    def _spacing(self) -> tuple[float, float, float]:
        z, y, x = self.spacing_mm
        return planar_spacing((y, x)) if self.planar else (z, y, x)

    def files(self, folder: Path) -> list[Path]:
        """The image, a file per channel or one of all; none where both sides get an array."""
        if self.image is not None:
            return [self.image]
        return sorted(folder.glob(f"case_????{self.file_ending}")) if self.file_ending else []

    def _write_image(self, folder: Path) -> None:
        if self.image is not None:
            return
        image = LOOKS[self.look](self.shape, len(self.members[0].channels), self.seed)
        ending = self.file_ending
        if ending is None:
            np.save(folder / "image.npy", image)
            return
        in_one = self.stacked or self.members[0].reader == "NaturalImage2DIO"
        other_spacing = [length * 0.4 for length in self.spacing_mm]
        for number, part in enumerate([image] if in_one else image[:, None]):
            path = folder / f"case_{number:04}{ending}"
            if self.contradiction is not None:
                write_contradiction(path, part[0].T, np.array(self.affine), self.contradiction)
            elif self.spacing_in in ("imagej", "both"):
                write_imagej_stack(path, part, other_spacing)
            elif self.spacing_in == "ome":
                write_ome_stack(path, part, other_spacing)
            else:
                affine = self.affine or np.diag([*self.spacing_mm[::-1], 1.0]).tolist()
                write_image(path, part, affine, self.planar)
        if ending in (".tif", ".tiff") and self.spacing_in in ("json", "both"):
            write_spacing(folder / "case.json", self.spacing_mm)
