"""What a header may claim: no memory is set aside for voxels that the file can't hold."""

from __future__ import annotations

from pathlib import Path

from napari_nnunet_cpu.errors import CaseError

UNCOMPRESSED = 1
# Deflate, which PNG, .nii.gz, .nrrd and .mha use, spends two bits at least on 258 bytes.
DEFLATE = 1032


def check_claim(path: Path, claimed_bytes: float, times: int = DEFLATE) -> None:
    """Refuse a header that claims more than even the best compression could have put in the file.

    Parameters
    ----------
    path : Path
        The file.
    claimed_bytes : float
        Size of its voxels, uncompressed, according to its header.
    times : int
        How many times as large as the file they can be, which depends on the compression.

    Raises
    ------
    CaseError
        When the file is too small for that.
    """
    size = path.stat().st_size
    if claimed_bytes > size * times:
        raise CaseError(
            f"{path} is damaged or cut off: its header claims {claimed_bytes:.3g} bytes of voxels, "
            f"which can't be in the {size} bytes of the file; copy the file again"
        )
