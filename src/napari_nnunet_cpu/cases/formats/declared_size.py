"""Check the size that a header declares, so that no memory is allocated for voxels that the file can't hold."""

from __future__ import annotations

from pathlib import Path

from napari_nnunet_cpu.errors import CaseError

UNCOMPRESSED = 1
# The largest compression of deflate (PNG, .nii.gz, .nrrd, .mha): 258 bytes to two bits.
DEFLATE = 1032


def check_declared_size(path: Path, declared_bytes: float, max_ratio: int = DEFLATE) -> None:
    """Raise `CaseError` if a header declares more bytes of voxels than the best compression could fit in the file.

    `max_ratio` is the largest ratio of uncompressed to compressed size.
    """
    size = path.stat().st_size
    if declared_bytes > size * max_ratio:
        raise CaseError(
            f"{path} is damaged or cut off: its header declares {declared_bytes:.3g} bytes of voxels, "
            f"which can't be in the {size} bytes of the file; copy the file again"
        )
