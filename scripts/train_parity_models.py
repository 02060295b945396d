"""Make the scans and train the models of tests/parity/data: a chest CT and a head MR, each with a small U-Net.

The scans come from the source archive of pyradiomics, which has them for its own tests. Of each kind there are two:
one is trained on, the other is reduced and kept for the parity tests, which label it with nnunetv2 and with
this package. The labels come from thresholds, so that there is something to train; they are of no medical use.

Needs nnunetv2, nilearn (by train_sample_model.py) and SimpleITK, and the archive, pyradiomics-3.0.1.tar.gz::

    python scripts/train_parity_models.py --archive pyradiomics-3.0.1.tar.gz --work parity-model-work

Seeded as train_sample_model.py is, and just as dependent on the machine.
"""

import argparse
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprint_dataset,
    plan_experiment_dataset,
    preprocess_dataset,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import disk
from train_sample_model import nnUNetTrainer_10epochs, smooth_noise

MODEL = "nnUNetTrainer_10epochs__nnUNetPlans__3d_fullres"
ARCHIVED = "pyradiomics-3.0.1/data/{}_image.nrrd"
FEATURES = [6, 12, 24, 32]
BATCH_SIZE = 2
STEPS_PER_EPOCH = 120
VARIANTS = 4


def label_chest(hounsfield: NDArray) -> NDArray[np.uint8]:
    """Body (1), lungs (2) and bone (3) of a CT (Z, Y, X)."""
    body = filled(largest(ndimage.binary_opening(hounsfield > -400, iterations=2)))
    air, _ = ndimage.label(ndimage.binary_opening(body & (hounsfield < -500), np.ones((1, 3, 3))))
    sizes = np.bincount(air.ravel())
    sizes[0] = 0
    labels = body.astype(np.uint8)
    labels[filled(ndimage.binary_closing(sizes[air] > 2000, np.ones((1, 3, 3)))) & body] = 2
    labels[body & (ndimage.gaussian_filter(hounsfield, (0, 0.5, 0.5)) > 180)] = 3
    return labels


def label_head(t1: NDArray) -> NDArray[np.uint8]:
    """Scalp and skull (1) and roughly the brain (2) of an MR (Z, Y, X)."""
    smooth = ndimage.gaussian_filter(t1, (0, 1, 1))
    head = filled(largest(smooth > 0.5 * threshold_otsu(smooth)))
    depth = np.stack([ndimage.distance_transform_edt(plane) for plane in head])
    grey = np.median(t1[depth > 16])
    brain = (depth > 7) & (smooth > 0.6 * grey) & (smooth < 1.8 * grey)
    labels = head.astype(np.uint8)
    labels[filled(ndimage.binary_opening(brain, disk(3)[None]))] = 2
    return labels


def largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest component."""
    components, _ = ndimage.label(mask)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return components == sizes.argmax()


def filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask (Z, Y, X) without holes in its planes."""
    return np.stack([ndimage.binary_fill_holes(plane) for plane in mask])


@dataclass(frozen=True)
class Kind:
    """One kind of scan.

    Attributes
    ----------
    number : int
        Of the dataset.
    trained, kept : str
        Names in the archive.
    first : int
        Slices that are left away below: of the heads, those with the face.
    shrink : int
        Voxels that become one, along X and Y.
    """

    name: str
    number: int
    channel: str
    trained: str
    kept: str
    first: tuple[int, int]
    shrink: int
    ending: str
    reader: str
    label: Callable[[NDArray], NDArray[np.uint8]]
    labels: dict[str, int | list[int]]
    regions_class_order: list[int] | None
    patch: tuple[int, int, int]
    spacing: tuple[float, float, float]
    strides: list[list[int]]

    @property
    def dataset(self) -> str:
        return f"Dataset{self.number:03}_{self.name}"


KINDS = (
    Kind(
        "ChestCT", 11, "CT", "lung2", "lung1", (0, 0), 4, ".nrrd", "SimpleITKIO", label_chest,
        {"background": 0, "body": 1, "lungs": 2, "bone": 3}, None,
        (24, 64, 64), (5.0, 3.0, 3.0), [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]],
    ),
    Kind(
        "HeadMR", 12, "T1", "brain1", "brain2", (11, 10), 2, ".nii.gz", "NibabelIOWithReorient", label_head,
        {"background": 0, "head": [1, 2], "brain": 2}, [1, 2],
        (8, 64, 64), (6.5, 1.9, 1.9), [[1, 1, 1], [1, 2, 2], [1, 2, 2], [1, 2, 2]],
    ),
)  # fmt: skip


def read(archive: Path, name: str, first: int, shrink: int, work: Path) -> sitk.Image:
    """A scan, reduced by the mean of `shrink` x `shrink` voxels; whole numbers, and its place in space."""
    with tarfile.open(archive) as files:
        files.extract(ARCHIVED.format(name), work, filter="data")
    image = sitk.ReadImage(str(work / ARCHIVED.format(name)))[:, :, first:]
    return sitk.Cast(sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), [shrink, shrink, 1]), sitk.sitkInt16)


def warped(image: NDArray, labels: NDArray[np.uint8], seed: int, gains: bool) -> tuple[NDArray, NDArray[np.uint8]]:
    """Both, turned, scaled and bent in the plane at random, with `gains` also brighter or darker; 0 changes nothing."""
    if seed == 0:
        return image, labels
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(n, dtype=float) for n in image.shape], indexing="ij"))
    middle = np.array(image.shape).reshape(3, 1, 1, 1) / 2
    angle, scale = np.deg2rad(rng.uniform(-12, 12)), rng.uniform(0.9, 1.1, 2)
    turn = np.eye(3)
    turn[1:, 1:] = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    grid = np.einsum("ij,jzyx->izyx", turn, grid - middle) + middle
    grid[1:] += 2 * np.stack([smooth_noise(rng, image.shape, 8) for _ in range(2)])
    image = ndimage.map_coordinates(image, grid, order=1, mode="nearest")
    if gains:
        image = image.max() * (image / image.max()) ** rng.uniform(0.8, 1.3) * rng.uniform(0.5, 1.5)
    return image, ndimage.map_coordinates(labels, grid, order=0, mode="nearest")


def write_dataset(kind: Kind, scan: sitk.Image, raw: Path) -> None:
    """Write the variants of the scan as an nnU-Net dataset."""
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    image = sitk.GetArrayFromImage(scan).astype(np.float32)
    labels = kind.label(image)
    for seed in range(VARIANTS + 1):
        varied, its_labels = warped(image, labels, seed, gains=kind.channel != "CT")
        for values, path in (
            (np.round(varied).astype(np.int16), raw / "imagesTr" / f"scan_{seed}_0000{kind.ending}"),
            (its_labels, raw / "labelsTr" / f"scan_{seed}{kind.ending}"),
        ):
            volume = sitk.GetImageFromArray(values)
            volume.CopyInformation(scan)
            sitk.WriteImage(volume, str(path), True)
    dataset = {
        "channel_names": {"0": kind.channel},
        "labels": kind.labels,
        "numTraining": VARIANTS + 1,
        "file_ending": kind.ending,
        "overwrite_image_reader_writer": kind.reader,
        "name": kind.name,
        "description": "For the parity tests only; its labels are thresholds. See NOTICE.txt.",
    }
    if kind.regions_class_order:
        dataset["regions_class_order"] = kind.regions_class_order
    (raw / "dataset.json").write_text(json.dumps(dataset, indent=4) + "\n")


def plan_and_preprocess(kind: Kind, preprocessed: Path) -> None:
    """Let nnunetv2 plan, shrink the network of its plan, and preprocess."""
    extract_fingerprint_dataset(kind.number, num_processes=1, check_dataset_integrity=True, verbose=False)
    plan_experiment_dataset(kind.number)
    path = preprocessed / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    configuration = plans["configurations"]["3d_fullres"]
    plans["configurations"] = {"3d_fullres": configuration}
    configuration |= {"patch_size": list(kind.patch), "spacing": list(kind.spacing), "batch_size": BATCH_SIZE}
    stages = len(FEATURES)
    configuration["architecture"]["arch_kwargs"].update(
        n_stages=stages,
        features_per_stage=FEATURES,
        kernel_sizes=[[1, 3, 3], *[[3, 3, 3]] * (stages - 1)],
        strides=kind.strides,
        n_conv_per_stage=[2] * stages,
        n_conv_per_stage_decoder=[1] * (stages - 1),
    )
    path.write_text(json.dumps(plans, indent=4) + "\n")
    preprocess_dataset(kind.number, configurations=("3d_fullres",), num_processes=(1,))
    names = [f"scan_{seed}" for seed in range(VARIANTS + 1)]
    (preprocessed / "splits_final.json").write_text(json.dumps([{"train": names[:-1], "val": names[-1:]}]) + "\n")


def train(preprocessed: Path, seed: int, threads: int) -> None:
    """Train fold 0. Not before all is planned: see train_sample_model.py."""
    os.environ.update(nnUNet_n_proc_DA="0", nnUNet_compile="f")
    torch.set_num_threads(threads)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - what batchgenerators draws from
    torch.manual_seed(seed)
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    dataset = json.loads((preprocessed / "dataset.json").read_text())
    plans = {**plans, "continue_training": False}
    trainer = nnUNetTrainer_10epochs(plans, "3d_fullres", 0, dataset, torch.device("cpu"))
    trainer.num_iterations_per_epoch = STEPS_PER_EPOCH
    trainer.run_training()


def measure(kind: Kind, model: Path, kept: Path) -> dict[str, float]:
    """Dice of the kept scan, by nnunetv2's own predictor, against its thresholds."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,))
    image, properties = predictor.plans_manager.image_reader_writer_class().read_images([str(kept)])
    prediction, truth = predictor.predict_single_npy_array(image, properties), kind.label(image[0])
    scores = {}
    for name, value in kind.labels.items():
        a, b = np.isin(prediction, value), np.isin(truth, value)
        scores[name] = round(float(2 * (a & b).sum() / (a.sum() + b.sum())), 4)
    return scores


def main() -> None:
    """Run all of it."""
    data = Path(__file__).resolve().parent.parent / "tests" / "parity" / "data"
    parser = argparse.ArgumentParser(description="Make the scans and train the models of the parity tests.")
    parser.add_argument("--archive", type=Path, required=True, help="pyradiomics-3.0.1.tar.gz")
    parser.add_argument("--work", type=Path, required=True, help="folder for data in between; emptied first")
    parser.add_argument("--out", type=Path, default=data, help="where the finished files go (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (%(default)s)")
    args = parser.parse_args()

    folders = {name: args.work.resolve() / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    shutil.rmtree(args.work, ignore_errors=True)
    for name, folder in folders.items():
        folder.mkdir(parents=True)
        os.environ[name] = str(folder)
    args.out.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        trained, kept = (
            read(args.archive, name, first, kind.shrink, args.work)
            for name, first in zip((kind.trained, kind.kept), kind.first, strict=True)
        )
        sitk.WriteImage(kept, str(args.out / f"{kind.name}{kind.ending}"), True)
        write_dataset(kind, trained, folders["nnUNet_raw"] / kind.dataset)
        plan_and_preprocess(kind, folders["nnUNet_preprocessed"] / kind.dataset)
    for kind in KINDS:
        train(folders["nnUNet_preprocessed"] / kind.dataset, kind.number, args.threads)
        model = args.out / kind.dataset / MODEL
        shutil.rmtree(model, ignore_errors=True)
        (model / "fold_0").mkdir(parents=True)
        for name in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth"):
            shutil.copyfile(folders["nnUNet_results"] / kind.dataset / MODEL / name, model / name)
        print(f"{kind.name}: Dice {measure(kind, model, args.out / f'{kind.name}{kind.ending}')}")


if __name__ == "__main__":
    main()
