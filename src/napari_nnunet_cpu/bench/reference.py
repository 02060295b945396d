"""nnU-Net as shipped on one image, in one process: `reference.py TASK.json` prints its seconds and memory as JSON.

A program for the interpreter that has nnunetv2; nothing of this package is imported here, and nothing there.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def main(task: dict[str, Any]) -> dict[str, Any]:
    """Label the image of the task with nnU-Net's own functions, one after the other."""
    with contextlib.suppress(OSError):  # on Linux, so that the system kills this process first if memory runs out
        Path("/proc/self/oom_score_adj").write_text("1000")
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = task["folder"]
    os.environ.update(nnUNet_def_n_proc=str(task["threads"]))  # nnU-Net would stop at 8 threads
    warnings.simplefilter("ignore")
    import torch
    from nnunetv2.inference.data_iterators import PreprocessAdapterFromNpy
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    torch.set_num_threads(task["threads"])
    idle_mb = peak_mb()
    seconds: dict[str, float] = {}
    with timing(seconds, "load"):
        predictor = nnUNetPredictor(
            tile_step_size=0.5, use_mirroring=False, perform_everything_on_device=False,
            device=torch.device("cpu"), allow_tqdm=False,
        )  # fmt: skip
        predictor.initialize_from_trained_model_folder(task["model"], [task["fold"]], task["checkpoint"])
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    image, properties = plans.image_reader_writer_class().read_images(task["images"])
    with timing(seconds, "prepare"):
        adapter = PreprocessAdapterFromNpy(
            [image], [None], [properties], [None], plans, predictor.dataset_json, configuration
        )
        prepared = next(adapter)
    with timing(seconds, "predict"):
        logits = predictor.predict_logits_from_preprocessed_data(prepared["data"]).cpu()
    with timing(seconds, "export"):
        labels = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits, plans, configuration, predictor.label_manager, prepared["data_properties"]
        )
    plans.image_reader_writer_class().write_seg(labels, task["out"], prepared["data_properties"])
    return {
        "seconds": seconds,
        "idle_memory_mb": idle_mb,
        "peak_memory_mb": peak_mb(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


@contextlib.contextmanager
def timing(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Record the seconds of the block under `name`."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def peak_mb() -> float | None:
    """Peak memory of this process in MB; None if the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # because nnU-Net prints to stdout
        found = main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print(json.dumps(found))
