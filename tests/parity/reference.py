"""nnU-Net's own labels of the subjects in a folder. Run as a program, so that the tests' process never meets it.

`reference.py float16 FOLDER` is nnU-Net as shipped; with `float32` it adds up tiles in 32 bits. Subjects are taken in
the order of their folders' names; "labelled NAME" is printed after each.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path


def main(precision: str, root: Path) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = str(root)
    import torch

    torch.half = {"float16": torch.float16, "float32": torch.float32}[precision]
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))  # two of these work side by side
    warnings.simplefilter("ignore")
    for folder in sorted(path.parent for path in root.glob("*/task.json")):
        label(folder, json.loads((folder / "task.json").read_text()), precision)
        print("labelled", folder.name, flush=True)


def label(folder: Path, task: dict, precision: str) -> None:
    import numpy as np
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        tile_step_size=0.5, use_mirroring=task["mirror"], perform_everything_on_device=False,
        device=torch.device("cpu"), allow_tqdm=False,
    )  # fmt: skip
    predictor.initialize_from_trained_model_folder(task["model"], None)
    if "file" in task:
        reader = predictor.plans_manager.image_reader_writer_class()
        image, properties = reader.read_images([task["file"]])
    else:
        image, properties = np.load(folder / "image.npy"), {"spacing": task["spacing"]}
    labels = predictor.predict_single_npy_array(image, properties, None, None, False)
    if "file" in task:
        reader.write_seg(labels, str(folder / f"{precision}.nii.gz"), properties)
    else:
        np.save(folder / f"{precision}.npy", labels)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
