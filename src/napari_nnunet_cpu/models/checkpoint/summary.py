"""The facts in the checkpoints of a model, cached under their hashes, because reading checkpoints needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from napari_nnunet_cpu.json_cache import hash_of, recall, remember
from napari_nnunet_cpu.resources import installed_version

_KIND = "checkpoint-summaries"
# Packages whose code checks a model: this package, and the packages that define its networks.
_CODE = ("napari-nnunet-cpu", "dynamic-network-architectures", "timm", "torch")


@dataclass(frozen=True, slots=True)
class CheckpointSummary:
    """The facts in the first checkpoint of a model whose checkpoints all fit its network, as nnU-Net stored them.

    `mirror_axes` are axes of the patch, and `fold` is that of the first checkpoint.
    """

    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...]
    fold: str


def summary_key(documents_sha256: Sequence[str], checkpoints_sha256: Sequence[str]) -> str:
    """The cache key of a model's summary, which changes with its files and with the code that checks them."""
    return hash_of(
        {
            "documents": list(documents_sha256),
            "checkpoints": list(checkpoints_sha256),
            "code": {name: installed_version(name) for name in _CODE},
        }
    )


def read_summary(key: str) -> CheckpointSummary | None:
    """The cached summary; None if this model was never checked."""
    match recall(_KIND, key):
        case {"configuration": str(configuration), "trainer": str(trainer), "mirror_axes": [*axes], "fold": str(fold)}:
            if all(isinstance(axis, int) and axis >= 0 for axis in axes):
                return CheckpointSummary(configuration, trainer, tuple(axes), fold)
    return None


def keep_summary(key: str, summary: CheckpointSummary) -> None:
    """Cache a summary."""
    remember(_KIND, key, asdict(summary))
