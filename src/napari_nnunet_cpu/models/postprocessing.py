"""Read the postprocessing that nnU-Net found in validation: which components of labels to remove.

Source: nnU-Net `postprocessing/remove_connected_components.py`, which writes the same steps as a
pickle and as JSON. The pickle is never opened, because it can run code.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.archive import naming_archive
from napari_nnunet_cpu.models.documents import Strict, parse, read_json
from napari_nnunet_cpu.models.model import TrainedModel

_MAX_STEPS = 1000
_JSON, _PICKLE = "postprocessing.json", "postprocessing.pkl"


class _Arguments(Strict):
    labels_or_regions: Any
    background_label: Literal[0] = 0


_Step = Literal["remove_all_but_largest_component_from_segmentation"]


class _Document(Strict):
    # One step for all labels together, and one for each label.
    postprocessing_fns: Annotated[list[_Step], Field(max_length=_MAX_STEPS)]
    postprocessing_kwargs: Annotated[list[_Arguments], Field(max_length=_MAX_STEPS)]


def read_postprocessing(models: Sequence[TrainedModel]) -> tuple[tuple[int, ...], ...]:
    """The postprocessing steps of a model, or of the members of an ensemble in any order.

    Each step is a tuple of label values: of their voxels, only the largest component stays. There are no steps
    if nnU-Net found none that improves the labels. Raises `ModelError` if nnU-Net's file is missing or invalid.
    """
    with naming_archive(models[0].unpacked):
        return _read(models)


def _read(models: Sequence[TrainedModel]) -> tuple[tuple[int, ...], ...]:
    folders = [folder for folder in _folders(models) if (folder / _JSON).is_file()]
    if not folders:
        pickled = any((folder / _PICKLE).is_file() for folder in _folders(models))
        raise ModelError(
            f"{models[0].folder} has no {_JSON} for {' and '.join(model.configuration_name for model in models)}; "
            + (f"{_PICKLE} is not opened, because it can run code: " if pickled else "")
            + "run without postprocessing, or let nnU-Net find it (nnUNetv2_find_best_configuration)"
        )
    path = folders[0] / _JSON
    document = parse(_Document, read_json(path), str(path))
    if len(document.postprocessing_fns) != len(document.postprocessing_kwargs):
        raise ModelError(f"{path}: postprocessing_fns and postprocessing_kwargs must be equally long")
    steps = [_values(step.labels_or_regions, path) for step in document.postprocessing_kwargs]
    return tuple(dict.fromkeys(steps))  # without repeated steps, because they have no effect


def _folders(models: Sequence[TrainedModel]) -> Iterator[Path]:
    """The folders where nnU-Net writes the steps: first that of the folds in use, then those of other folds."""
    folds = "_".join(sorted(models[0].folds))
    if len(models) == 1:
        found = models[0].folder.glob("crossval_results_folds_*")
    else:
        names = {model.folder.name for model in models}
        ensembles = (models[0].folder.parent / "ensembles").glob("ensemble___*")
        found = (folder for folder in ensembles if set(folder.name.split("___")[1:-1]) == names)
    yield from sorted(
        found, key=lambda folder: (folder.name.rpartition("_folds_")[2].split("___")[-1] != folds, folder)
    )


def _values(value: Any, path: Path) -> tuple[int, ...]:
    """The label values of a label, a region, or a list of either; in JSON, regions are lists, too."""
    regions = value if isinstance(value, list) else [value]
    flat = [inner for region in regions for inner in (region if isinstance(region, list) else [region])]
    if not flat or not all(type(part) is int and 0 < part <= 65535 for part in flat):
        raise ModelError(f"{path}: labels_or_regions must hold label values, found {reprlib.repr(value)}")
    return tuple(sorted(set(flat)))
