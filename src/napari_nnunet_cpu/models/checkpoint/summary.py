"""What the checkpoints of a model say, remembered under their hashes: reading them anew would need torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from napari_nnunet_cpu.json_cache import hash_of, recall, remember
from napari_nnunet_cpu.resources import installed_version

_KIND = "cards"
# Of the package itself, since another version may check more; the others hold the code of some networks.
_CODE = ("napari-nnunet-cpu", "dynamic-network-architectures", "timm", "torch")


@dataclass(frozen=True, slots=True)
class CheckpointSummary:
    """What the first checkpoint says of a model, whose checkpoints all fit its network.

    Attributes
    ----------
    configuration, trainer : str
        As nnU-Net stored them.
    mirror_axes : tuple of int
        Axes of the patch that may be mirrored.
    fold : str
        Of the first checkpoint, as nnU-Net stored it.
    """

    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...]
    fold: str


def summary_key(documents_sha256: Sequence[str], checkpoints_sha256: Sequence[str]) -> str:
    """Where the summary of a model is: elsewhere after every change of its files, or of the code that checks them."""
    return hash_of(
        {
            "documents": list(documents_sha256),
            "checkpoints": list(checkpoints_sha256),
            "code": {name: installed_version(name) for name in _CODE},
        }
    )


def read_summary(key: str) -> CheckpointSummary | None:
    """The summary; None where nobody has checked such a model."""
    match recall(_KIND, key):
        case {"configuration": str(configuration), "trainer": str(trainer), "mirror_axes": [*axes], "fold": str(fold)}:
            if all(isinstance(axis, int) and axis >= 0 for axis in axes):
                return CheckpointSummary(configuration, trainer, tuple(axes), fold)
    return None


def keep_summary(key: str, summary: CheckpointSummary) -> None:
    """Remember a summary."""
    remember(_KIND, key, asdict(summary))
