"""Where nnU-Net fails or leaves room, and what is done here instead: text for docs/fidelity.md.

Every entry has a test of the same name in test_parity_differences.py, which asks both sides.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One row: a situation, nnU-Net's answer, ours."""

    situation: str
    theirs: str
    ours: str


FAILURES = {
    "logits_beyond_16_bits": Difference(
        "logits so large that their weighted sums exceed 65504",
        'RuntimeError "Encountered inf in predicted array"',
        "sums in 32 bits, so there are labels",
    ),
    "not_a_number": Difference(
        "one voxel that is not a number",
        "the whole image becomes background, without a word",
        "an error that says which channel and how many voxels",
    ),
    "no_data": Difference(
        'one voxel of -3.4e38, which means "no data", and no CTNormalization',
        "the image has no contrast left: it gets the labels of any other, without a word",
        "an error that says which channel, how many voxels and where",
    ),
    "an_axis_without_voxels": Difference(
        "a spacing so large that no voxel is left along an axis",
        "ValueError of numpy",
        "an error that names the spacing",
    ),
    "only_fold_all": Difference(
        "a model that has fold_all only, no fold chosen",
        "UnboundLocalError",
        "fold_all is used",
    ),
    "mirroring_without_axes": Difference(
        "mirroring with an empty list of axes in the checkpoint",
        "ValueError of max()",
        "nothing is mirrored",
    ),
    "an_order_for_torch": Difference(
        "plans with an order for resample_torch_fornnunet, which has none",
        "TypeError",
        "the order is not looked at",
    ),
    "first_stage_missing": Difference(
        "a cascade without the labels of its first stage, from Python",
        "RuntimeError of the convolution",
        "an error that names the model that is missing",
    ),
    "first_stage_of_8_bits": Difference(
        "labels of the first stage as unsigned integers, from Python",
        "OverflowError with numpy 2",
        "every integer type is taken",
    ),
    "channels_in_one_file": Difference(
        "all channels in one file of four axes",
        "SimpleITKIO reads it and then can't write the labels; the others can't read it",
        "labels of three axes",
    ),
    "planes": Difference(
        "a plane, and a reader other than SimpleITKIO",
        "errors of different kinds",
        "is labelled, and turned as its affine says",
    ),
    "sheared_images": Difference(
        "a NIfTI file whose axes are not at right angles, SimpleITKIO",
        "is not read",
        "is read as NibabelIO reads it",
    ),
    "long_quaternions": Difference(
        "a NIfTI file whose quaternion is a rounding error too long, nibabel's readers",
        "is not read",
        "is read as ITK reads it",
    ),
    "singular_forms": Difference(
        "a NIfTI file whose sform has no inverse, nibabel's readers",
        "is not read, or its labels can't be written",
        "is labelled, unless the model turns images: then an error that says so",
    ),
}
DEVIATIONS = {
    "labels_above_255": Difference(
        "label 299, SimpleITKIOWithReorient",
        "43 in the file: it writes 8 bits",
        "299",
    ),
    "region_values_above_255": Difference(
        "a region that paints 300, fewer than 255 labels",
        "44: the array has 8 bits",
        "300",
    ),
    "micrometres": Difference(
        "a NIfTI file in micrometres",
        "SimpleITKIO converts to millimetres, NibabelIO takes the numbers for millimetres",
        "the same for a model of either reader, with a note; volumes are always converted",
    ),
    "json_beside_a_tiff": Difference(
        "cells.json beside cells.tif, a name without a channel's number, Tiff3DIO",
        "is not found, spacing 1",
        "is read",
    ),
    "values_left_out": Difference(
        "labels 0, 3 and 7",
        "0, 1 and 2 in the result",
        "the same, and the names of the labels go with those values",
    ),
}
