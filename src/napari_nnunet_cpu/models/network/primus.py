"""Primus: transformers that some trainers of nnU-Net build, whatever network the plans describe.

Source: nnU-Net `training/nnUNetTrainer/primus/primus_trainers.py`. The classes are those of
dynamic-network-architectures, an optional dependency. The name of the trainer selects a class from
the table below. Nothing else is imported, and nothing before a model needs it.

dynamic-network-architectures 0.4.0 to 0.4.2 ordered the tokens differently, and no file of a model
tells which version trained it. Weights from these versions load, but give wrong labels, here and in
nnU-Net.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any

from napari_nnunet_cpu.errors import ModelError, first_line

if TYPE_CHECKING:
    from torch import nn

PRIMUS_TRAINERS = (
    {f"nnUNet_Primus_{size}_Trainer": f"Primus{size}" for size in "SBML"}
    | {f"nnUNet_PrimusV{version}{size}_Trainer": f"PrimusV{version}{size}" for version in (2, 3) for size in "SBML"}
    | {f"nnUNet_Primus_M_Trainer_BS8{rate}": "PrimusM" for rate in ("", "_2e4")}
    | {f"_Primus_{size}_{patch}_BS1": f"Primus{size}" for size, patch in (("S", 96), ("B", 96), ("M", 96), ("L", 48))}
)
_BLOCKS = {"S": 12, "B": 12, "M": 16, "L": 24}
TOKEN = 8  # voxels along an axis
_NEEDS = "{} needs dynamic-network-architectures 0.4.4 or newer ({}); install napari-nnunet-cpu[primus]"


@dataclass(frozen=True)
class Primus:
    """A complete description of a transformer, whose sizes are fixed by its name."""

    family: str  # its class: Primus, PrimusV2 or PrimusV3 and S, B, M or L
    patch_size: tuple[int, ...]  # (Z, Y, X), which is fixed

    @property
    def blocks(self) -> int:
        """Attention blocks: a lower bound for the number of weights."""
        return _BLOCKS[self.family[-1]]


def build_primus(primus: Primus, channels: int, heads: int) -> nn.Module:
    """Build the network, with arbitrary weights; raises `ModelError` if its package is missing."""
    network: nn.Module = getattr(_library(primus.family), primus.family)(
        channels, heads, (TOKEN,) * 3, primus.patch_size,
        scale_attn_inner=True, init_values=0.1, rope_impl=_rotary_embedding,
    )  # fmt: skip
    return network


def _library(wanted: str) -> ModuleType:
    """Import the module with the classes of the table."""
    try:
        version = metadata.version("dynamic-network-architectures")
        if tuple(map(int, re.findall(r"\d+", version)[:3])) < (0, 4, 4):
            raise ModelError(_NEEDS.format(wanted, f"found {version}"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm warns about its own imports
            from dynamic_network_architectures.architectures import primus as library
    except (ImportError, RuntimeError) as error:  # RuntimeError if torchvision was built for another torch
        raise ModelError(_NEEDS.format(wanted, first_line(error))) from error
    module: ModuleType = library
    return module


def _rotary_embedding(*args: Any, **kwargs: Any) -> nn.Module:
    """The table of rotations, on the CPU even if the network is built on "meta", because no checkpoint holds it."""
    import torch
    from timm.layers import RotaryEmbeddingCat

    with torch.device("cpu"):
        table: nn.Module = RotaryEmbeddingCat(*args, **kwargs)
    return table
