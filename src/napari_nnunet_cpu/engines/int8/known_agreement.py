"""How far int8 agreed with float32 on an image: remembered, so that the same image is not checked twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.engines.agreement import Agreement
from napari_nnunet_cpu.engines.openvino.network_cache import entry_sha256
from napari_nnunet_cpu.json_cache import hash_of, recall, remember, this_computer

AGREEMENTS = "agreement"  # of the cache folder
_CHECK = 1  # raise it when the same network and image are compared in another way


def hash_of_parts(parts: Iterable[npt.NDArray[np.float32]]) -> str:
    """A name for an image, by the parts of it that decide."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part.shape).encode())
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def recall_agreement(keys: Sequence[str], parts: str) -> Agreement | None:
    """What was found for an image, on this computer.

    Parameters
    ----------
    keys : sequence of str
        Of the networks, as they are kept by now; without an entry those that this very image would calibrate.
    parts : str
        The image, see `hash_of_parts`.

    Returns
    -------
    Agreement or None
        None where nothing is known.
    """
    document = recall(AGREEMENTS, _name(keys, parts)) or {}
    match document:
        case {"worst": str(worst), "dice": float(dice), "voxels": float(voxels)}:
            return Agreement(worst, dice, voxels)
    return None


def remember_agreement(keys: Sequence[str], parts: str, agreement: Agreement) -> None:
    """Keep what was found for an image, see `recall_agreement`."""
    remember(AGREEMENTS, _name(keys, parts), asdict(agreement))


def _name(keys: Sequence[str], parts: str) -> str:
    networks = [[key, entry_sha256(key)] for key in keys]
    return hash_of({"check": _CHECK, "networks": networks, "parts": parts, "computer": this_computer()})
