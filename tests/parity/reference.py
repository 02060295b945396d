"""nnU-Net's own answers for the subjects in a folder. Run as a program, so that the tests' process never meets it.

`reference.py float16 FOLDER` is nnU-Net as shipped; with `float32` it adds up tiles in 32 bits. Subjects are taken in
the order of their folders' names; "labelled NAME" is printed after each.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any


def main(precision: str, root: Path) -> None:
    start(precision, root)
    for folder in sorted(path.parent for path in root.glob("*/task.json")):
        label(folder, json.loads((folder / "task.json").read_text()), precision)
        print("labelled", folder.name, flush=True)


def start(precision: str, root: Path) -> None:
    """What has to be done before nnU-Net is imported."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = str(root)
    import torch

    torch.half = {"float16": torch.float16, "float32": torch.float32}[precision]
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))  # two of these work side by side
    warnings.simplefilter("ignore")


def label(folder: Path, task: dict[str, Any], precision: str) -> None:
    """Labels of one subject, and with 32-bit sums its probabilities."""
    import numpy as np
    from nnunetv2.ensembling.ensemble import average_probabilities

    reader = opened(task["members"][0][0], task).plans_manager.image_reader_writer_class()
    if task["files"]:
        image, properties = reader.read_images(task["files"])
    else:
        image, properties = np.load(folder / "image.npy"), {"spacing": task["spacing"]}
    averaged = []
    for number, stages in enumerate(task["members"]):
        labels = previous = None
        for stage in stages:
            if labels is not None:
                previous = handed_over(labels, reader, folder / f"{precision}-stage{task['ending']}", properties, task)
            predictor = opened(stage, task)
            labels, probabilities = predicted(predictor, image, dict(properties), previous)
        if len(task["members"]) > 1:
            averaged.append(str(folder / f"{precision}-{number}.npz"))
            np.savez(averaged[-1], probabilities=probabilities)
    if averaged:
        probabilities = average_probabilities(averaged)
        labels = predictor.label_manager.convert_probabilities_to_segmentation(probabilities)
    if task["postprocessing"]:
        labels = postprocessed(labels, json.loads(Path(task["postprocessing"]).read_text()))
    if task["ending"]:
        reader.write_seg(labels, str(folder / f"{precision}{task['ending']}"), properties)
    else:
        np.save(folder / f"{precision}.npy", labels)
    if precision == "float32":
        np.save(folder / "probabilities.npy", probabilities)


def opened(stage: dict[str, Any], task: dict[str, Any]) -> Any:
    """nnU-Net's predictor of one model folder."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        tile_step_size=task["step"], use_mirroring=task["mirror"], perform_everything_on_device=False,
        device=torch.device("cpu"), allow_tqdm=False,
    )  # fmt: skip
    predictor.initialize_from_trained_model_folder(stage["folder"], stage["folds"], stage["checkpoint"])
    return predictor


def predicted(predictor: Any, image: Any, properties: dict[str, Any], previous: Any) -> tuple[Any, Any]:
    """What `predict_single_npy_array` does, step by step, so that the network runs once for labels and probabilities.

    nnU-Net takes its labels from logits, and only when asked for probabilities from those.
    """
    from nnunetv2.inference.data_iterators import PreprocessAdapterFromNpy
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

    manager, configuration = predictor.plans_manager, predictor.configuration_manager
    prepared = next(
        PreprocessAdapterFromNpy(
            [image], [previous], [properties], [None], manager, predictor.dataset_json, configuration
        )
    )
    logits = predictor.predict_logits_from_preprocessed_data(prepared["data"]).cpu()
    rest = (manager, configuration, predictor.label_manager, prepared["data_properties"])
    labels = convert_predicted_logits_to_segmentation_with_correct_shape(logits, *rest)
    _, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, *rest, return_probabilities=True
    )
    return labels, probabilities


def handed_over(labels: Any, reader: Any, path: Path, properties: dict[str, Any], task: dict[str, Any]) -> Any:
    """The first stage's labels as the second stage gets them: through a file, or as the float32 that a file gives."""
    if not task["ending"]:
        return labels[None].astype("float32")
    reader.write_seg(labels, str(path), properties)
    return reader.read_seg(str(path))[0]


def postprocessed(labels: Any, document: dict[str, Any]) -> Any:
    """The steps of a postprocessing.json, by nnU-Net's own functions."""
    from nnunetv2.postprocessing import remove_connected_components as steps

    functions = [getattr(steps, name) for name in document["postprocessing_fns"]]
    return steps.apply_postprocessing(labels, functions, document["postprocessing_kwargs"])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
