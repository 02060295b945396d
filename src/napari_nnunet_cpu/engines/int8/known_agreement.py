"""Remember the agreement of int8 with float32 on an image, so that the same image is checked only once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.engines.agreement import Agreement
from napari_nnunet_cpu.engines.openvino import entry_sha256
from napari_nnunet_cpu.json_cache import hash_of, recall, remember, this_computer

AGREEMENTS = "agreement"  # name in the cache folder
_CHECK = 1  # increase it when the same network and image are compared differently


def hash_of_crops(crops: Iterable[npt.NDArray[np.float32]]) -> str:
    """A hash that identifies an image by its crops."""
    digest = hashlib.sha256()
    for crop in crops:
        digest.update(repr(crop.shape).encode())
        digest.update(np.ascontiguousarray(crop).data)
    return digest.hexdigest()


def recall_agreement(keys: Sequence[str], image: str) -> Agreement | None:
    """The agreement on an image, measured earlier on this computer; None if it is unknown.

    `keys` name the networks in the cache; a network without an entry would be calibrated with this image.
    `image` is its `hash_of_crops`.
    """
    document = recall(AGREEMENTS, _name(keys, image)) or {}
    match document:
        case {"worst": str(worst), "dice": float(dice), "voxels": float(voxels)}:
            return Agreement(worst, dice, voxels)
    return None


def remember_agreement(keys: Sequence[str], image: str, agreement: Agreement) -> None:
    """Remember the agreement on an image, see `recall_agreement`."""
    remember(AGREEMENTS, _name(keys, image), asdict(agreement))


def _name(keys: Sequence[str], image: str) -> str:
    networks = [[key, entry_sha256(key)] for key in keys]
    return hash_of({"check": _CHECK, "networks": networks, "parts": image, "computer": this_computer()})
