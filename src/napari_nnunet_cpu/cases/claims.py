"""What a header may claim: no memory is set aside for voxels that the file can't hold."""

from __future__ import annotations

from pathlib import Path

from napari_nnunet_cpu.errors import CaseError

# Deflate, which PNG, .nii.gz, .nrrd and .mha use, spends two bits at least on 258 bytes.
SMALLEST_SHARE = 1 / 1032


def check_claim(path: Path, claimed_bytes: float) -> None:
    """Refuse a header that claims more than even the best compression could have put in the file.

    Parameters
    ----------
    path : Path
        The file.
    claimed_bytes : float
        Size of its voxels, uncompressed, according to its header.

    Raises
    ------
    CaseError
        When the file is too small for that.
    """
    size = path.stat().st_size
    if claimed_bytes * SMALLEST_SHARE > size:
        raise CaseError(
            f"{path} is damaged: its header claims {claimed_bytes:.3g} bytes of voxels, which no compression could "
            f"put in the {size} bytes of the file"
        )
