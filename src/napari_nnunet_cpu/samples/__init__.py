"""The sample image (a head) and the sample model, for trying the package. Not for medical use."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent

NOT_FOR_MEDICAL_USE = "sample model, for trying the software: not for medical use"


def sample_image() -> Path:
    """The T1 head: ICBM152, 2 mm, NIfTI. See NOTICE-ICBM152.txt beside it."""
    return _HERE / "icbm152_t1_2mm.nii.gz"


def sample_model() -> Path:
    """The model folder (background, grey matter, white matter), trained on variants of the sample head."""
    return _HERE / "Dataset001_HeadTissues" / "nnUNetTrainer_10epochs__nnUNetPlans__3d_fullres"
