"""nnU-Net's own check of a raw dataset, and what its reader makes of it. Run as a program: `verify.py FOLDER`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np


def main(folder: str) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = str(Path(folder).parent)
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
    from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    verify_dataset_integrity(folder, num_processes=1)
    description = json.loads((Path(folder) / "dataset.json").read_text())
    cases = get_filenames_of_train_images_and_targets(folder, description)
    for name, files in cases.items():
        reader = determine_reader_writer_from_dataset_json(description, files["images"][0])
        image, properties = reader().read_images(files["images"])
        labels, _ = reader().read_seg(files["label"])
        out = Path(folder).parent / f"{name}.npz"
        np.savez(out, image=image, labels=labels, spacing=properties["spacing"], reader=reader.__name__)


if __name__ == "__main__":
    main(sys.argv[1])
