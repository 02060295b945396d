"""The identity of a run: everything its sums depend on, that is image, network and settings other than its tiles."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.resume.run_file import RunFile
from napari_nnunet_cpu.resources import installed_version, int8_is_fast
from napari_nnunet_cpu.settings import Settings

_VERSIONS_OF = ("napari-nnunet-cpu", "torch", "openvino", "nncf")
_SETTINGS = ("engine", "device", "precision", "agreement", "step", "mirror", "uncertainty")


def identity_of(
    case: Case, model: TrainedModel, settings: Settings, first_stage: npt.NDArray[Any] | None, channels: int
) -> dict[str, Any]:
    """Plain values that are equal for two runs if their sums are equal.

    Left out are the folder of the model, and settings that choose tiles or only affect time. `uncertainty` is part of
    it, because disagreement adds a channel to the sums. `first_stage` are the labels of a cascade's first stage, with
    the shape of the case (Z, Y, X), and `channels` is the number of accumulated channels.
    """
    chosen = settings.as_dict()
    return {
        "channels": [_hash(channel) for channel in case.channels],
        "spacing_mm": list(case.spacing_mm),
        "spacing_source": str(case.spacing_source),
        "affine": None if case.affine is None else np.asarray(case.affine, float).tolist(),
        "planar": case.planar,
        "model": {key: value for key, value in model.describe().items() if key != "folder"},
        "plans": model.plans.model_dump(mode="json"),
        "configuration": model.configuration.model_dump(mode="json"),
        "weights": model.weights_sha256,
        "accumulated_channels": channels,
        "first_stage": None if first_stage is None else _hash(first_stage),
        "settings": {name: chosen[name] for name in _SETTINGS},
        # Because computers that share the folder may compute the same settings in float32.
        "int8": settings.precision == "int8" and int8_is_fast(),
        "versions": {name: installed_version(name) for name in _VERSIONS_OF},
    }


def describe_run(file: RunFile, case: Case, model: TrainedModel, tiles: int, in_rows: bool) -> None:
    """Describe the run in its file, for people and for `saved_runs`."""
    file.describe(
        {
            "image": case.name,
            "shape": list(case.shape),
            "model": f"{model.name} {model.configuration_name}",
            "weights_sha256": model.weights_sha256,
            "tiles": tiles,
            "in_rows": in_rows,
        }
    )


def _hash(array: npt.NDArray[Any]) -> str:
    found = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    for plane in array:  # plane by plane, because each may have to be copied
        found.update(np.ascontiguousarray(plane).data)
    return found.hexdigest()
