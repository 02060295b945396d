"""Make the sample image and train the sample model that the package ships.

The image is the ICBM152 T1 template at 2 mm. The model is a small 3d_fullres U-Net for grey and white matter,
planned, preprocessed and trained by nnunetv2 itself on synthetic variants of that one template, on the CPU.
It is there to try the software with, and for no medical purpose.

Needs nnunetv2, nilearn (whose wheel carries the template), nibabel and scipy::

    python scripts/train_sample_model.py --work sample-model-work

Everything is seeded. The weights still depend on the processor, the number of threads and the versions of
torch and nnunetv2, so another machine gives an equally good model rather than the same bytes. On a machine
that others use too, OMP_WAIT_POLICY=PASSIVE in the environment keeps torch's threads from waiting in a spin.
"""

import argparse
import importlib.metadata
import json
import os
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import nilearn
import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprint_dataset,
    plan_experiment_dataset,
    preprocess_dataset,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.variants.training_length import nnUNetTrainer_Xepochs
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

DATASET_ID = 1
DATASET = "Dataset001_HeadTissues"
MODEL = "nnUNetTrainer_10epochs__nnUNetPlans__3d_fullres"
IMAGE = "icbm152_t1_2mm.nii.gz"
REPORT = "sample-model.json"
LABELS = {"background": 0, "grey matter": 1, "white matter": 2}

# Each variant has its own seed. Training never sees the last two groups: nnU-Net scores the monitor case
# between epochs, and the held-out cases lie outside the dataset, so not even the planner reads them.
TRAIN_SEEDS = range(1, 9)
MONITOR_SEEDS = range(101, 102)
HELD_OUT_SEEDS = range(201, 203)

SPACING = 2  # mm, and so voxels of the 1 mm template per voxel of ours
PATCH_SIZE = 64
BATCH_SIZE = 2
FEATURES = [12, 24, 48, 96]
STEPS_PER_EPOCH = 40
LEARNING_RATE = 3e-3

DESCRIPTION = (
    "Grey and white matter of the head. Trained on synthetic variants of one atlas head (ICBM 2009a "
    "nonlinear symmetric, T1), for trying the software only, not for medical use."
)
LICENCE = (
    "Derived from the ICBM 2009a nonlinear symmetric template, Copyright (C) 1993-2004 Louis Collins, "
    "McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill University. Free to use, copy, "
    "modify and distribute provided that this copyright notice appears in all copies; without warranty."
)


@dataclass(frozen=True)
class Atlas:
    """The 1 mm template, smoothed so that every second voxel may be taken.

    Attributes
    ----------
    t1, grey, white : NDArray
        Skull-stripped T1 and tissue probabilities, each XYZ, 0 to 1.
    affine : NDArray
        Voxel to world of the 1 mm grid, in mm.
    """

    t1: NDArray[np.float32]
    grey: NDArray[np.float32]
    white: NDArray[np.float32]
    affine: NDArray[np.float64]

    @classmethod
    def from_nilearn(cls) -> "Atlas":
        """Read the three maps that nilearn carries."""
        folder = Path(nilearn.__file__).parent / "datasets" / "data"
        maps = {}
        for name in ("t1", "gm", "wm"):
            stored = nib.load(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz")
            values = np.asarray(stored.dataobj, dtype=np.float32) / 255
            for axis in range(3):
                # The triangle of width 2 voxels: the weights of linear resampling to twice the spacing.
                values = convolve1d(values, [0.25, 0.5, 0.25], axis=axis, mode="constant")
            maps[name] = values
        return cls(maps["t1"], maps["gm"], maps["wm"], stored.affine)

    @property
    def sample_grid(self) -> NDArray[np.float64]:
        """Indices into the 1 mm grid of the centres of the 2 mm voxels, (3, X, Y, Z)."""
        axes = [np.arange(0, size, SPACING, dtype=np.float64) for size in self.t1.shape]
        return np.stack(np.meshgrid(*axes, indexing="ij"))

    @property
    def sample_affine(self) -> NDArray[np.float64]:
        """Voxel to world of the 2 mm grid. Its first voxel has the centre of the 1 mm grid's first voxel."""
        return self.affine @ np.diag([SPACING, SPACING, SPACING, 1])

    def sample(self, grid: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Take the image and its labels at positions of the 1 mm grid.

        Parameters
        ----------
        grid : NDArray
            Indices into the 1 mm grid, (3, X, Y, Z).

        Returns
        -------
        t1 : NDArray
            XYZ, 0 to 1, in whole steps of 1/255.
        labels : NDArray
            XYZ, the most probable of background (here: all that is neither tissue), grey and white matter.
        """
        t1, grey, white = (
            map_coordinates(values, grid, order=1, mode="constant") for values in (self.t1, self.grey, self.white)
        )
        labels = np.argmax([1 - grey - white, grey, white], axis=0).astype(np.uint8)
        return np.round(t1 * 255) / 255, labels


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> NDArray[np.float64]:
    """Gaussian noise of zero mean and unit variance, smoothed over `sigma` voxels."""
    noise = gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def make_variant(atlas: Atlas, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Warp the head, and change its intensities, at random.

    Parameters
    ----------
    atlas : Atlas
        The head.
    seed : int
        Decides everything that is random.

    Returns
    -------
    image, labels : NDArray
        XYZ, on the 2 mm grid. The image stays 0 outside the head, like the template.
    """
    rng = np.random.default_rng(seed)
    grid = atlas.sample_grid
    centre = (np.array(atlas.t1.shape) / 2).reshape(3, 1, 1, 1)

    rotation = Rotation.from_euler("xyz", rng.uniform(-8, 8, 3), degrees=True).as_matrix()
    matrix = rotation @ np.diag(rng.uniform(0.92, 1.08, 3))
    shift = rng.uniform(-4, 4, (3, 1, 1, 1))
    warped = np.einsum("ij,jxyz->ixyz", matrix, grid - centre) + centre + shift
    # Displacements of 2.5 mm (one standard deviation) that change over 12 mm: no folds.
    warped += 2.5 * np.stack([smooth_noise(rng, grid.shape[1:], 6) for _ in range(3)])

    t1, labels = atlas.sample(warped)
    inside = t1 > 0
    intensity = t1 ** rng.uniform(0.8, 1.25) * rng.uniform(0.6, 0.95)
    intensity *= np.exp(0.06 * smooth_noise(rng, t1.shape, 16))  # the bias field
    intensity += rng.uniform(0.005, 0.02) * rng.standard_normal(t1.shape)
    image = np.where(inside, np.clip(np.round(intensity * 255), 1, 255), 0)
    return image.astype(np.uint8), labels


def save_nifti(path: Path, values: NDArray[np.uint8], affine: NDArray[np.float64]) -> None:
    """Write XYZ values in mm, marked as MNI152 space."""
    image = nib.Nifti1Image(values, affine)
    image.set_sform(affine, code="mni")
    image.set_qform(affine, code="mni")
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def write_dataset(atlas: Atlas, raw: Path) -> None:
    """Write the variants as an nnU-Net dataset, the held-out ones in its test folders."""
    groups = [
        ("Tr", [*TRAIN_SEEDS, *MONITOR_SEEDS]),
        ("Ts", [*HELD_OUT_SEEDS]),
    ]
    for suffix, seeds in groups:
        images, labels = raw / f"images{suffix}", raw / f"labels{suffix}"
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for seed in seeds:
            image, segmentation = make_variant(atlas, seed)
            save_nifti(images / f"head_{seed:03}_0000.nii.gz", image, atlas.sample_affine)
            save_nifti(labels / f"head_{seed:03}.nii.gz", segmentation, atlas.sample_affine)
    dataset = {
        "channel_names": {"0": "T1"},
        "labels": LABELS,
        "numTraining": len(TRAIN_SEEDS) + len(MONITOR_SEEDS),
        "file_ending": ".nii.gz",
        "name": "HeadTissues",
        "description": DESCRIPTION,
        "licence": LICENCE,
    }
    (raw / "dataset.json").write_text(json.dumps(dataset, indent=4) + "\n")


def plan_and_preprocess(preprocessed: Path) -> None:
    """Let nnunetv2 plan, shrink the network of its plan to what a CPU trains in minutes, and preprocess."""
    extract_fingerprint_dataset(DATASET_ID, num_processes=1, check_dataset_integrity=True, verbose=False)
    plan_experiment_dataset(DATASET_ID)

    path = preprocessed / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    configuration = plans["configurations"]["3d_fullres"]
    plans["configurations"] = {"3d_fullres": configuration}
    configuration["patch_size"] = [PATCH_SIZE] * 3
    configuration["batch_size"] = BATCH_SIZE
    stages = len(FEATURES)
    configuration["architecture"]["arch_kwargs"].update(
        n_stages=stages,
        features_per_stage=FEATURES,
        kernel_sizes=[[3, 3, 3]] * stages,
        strides=[[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        n_conv_per_stage=[2] * stages,
        n_conv_per_stage_decoder=[1] * (stages - 1),
    )
    path.write_text(json.dumps(plans, indent=4) + "\n")

    preprocess_dataset(DATASET_ID, configurations=("3d_fullres",), num_processes=(1,))
    split = {
        "train": [f"head_{seed:03}" for seed in TRAIN_SEEDS],
        "val": [f"head_{seed:03}" for seed in MONITOR_SEEDS],
    }
    (preprocessed / "splits_final.json").write_text(json.dumps([split], indent=4) + "\n")


class nnUNetTrainer_10epochs(nnUNetTrainer_Xepochs.nnUNetTrainer_10epochs):  # noqa: N801
    """nnU-Net's ten-epoch trainer, made to converge in a few hundred steps on a CPU.

    It keeps the stock trainer's name, which goes into the checkpoint, so that any nnunetv2 loads the result.
    Network and loss are the stock trainer's. AdamW takes the place of SGD, whose momentum of 0.99 needs thousands
    of steps, and mirroring is all the augmentation: the cases are warped and changed in intensity already.
    """

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cpu"),  # noqa: B008 - as nnU-Net's trainers
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = STEPS_PER_EPOCH
        self.num_val_iterations_per_epoch = 4
        self.logger.plot_progress_png = lambda _folder: None

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """Choose AdamW, with nnU-Net's polynomial decay."""
        optimizer = torch.optim.AdamW(self.network.parameters(), LEARNING_RATE)
        return optimizer, PolyLRScheduler(optimizer, LEARNING_RATE, self.num_epochs)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple:  # noqa: N802
        """Load patches of the final size, as nothing rotates them."""
        rotation, dummy_2d, _, mirror_axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        return rotation, dummy_2d, self.configuration_manager.patch_size, mirror_axes

    @staticmethod
    def get_training_transforms(
        patch_size: tuple[int, ...],
        rotation_for_DA: tuple[float, float],  # noqa: N803
        deep_supervision_scales: list[list[float]],
        mirror_axes: tuple[int, ...],
        do_dummy_2d_data_aug: bool,
        use_mask_for_norm: list[bool] | None = None,
        **labels: object,
    ) -> BasicTransform:
        """Mirror, then do what nnU-Net does with validation patches."""
        finish = nnUNetTrainer_10epochs.get_validation_transforms(deep_supervision_scales, **labels)
        return ComposeTransforms([MirrorTransform(allowed_axes=mirror_axes), finish])

    def plot_network_architecture(self) -> None:
        """Draw nothing."""

    def _save_debug_information(self) -> None:
        """Keep the host's name out of the model folder."""

    def on_train_end(self) -> None:
        """Save with the stock trainer's optimizer, as new: the moments of AdamW would triple the checkpoint."""
        self.optimizer, self.lr_scheduler = super().configure_optimizers()
        super().on_train_end()


def train(preprocessed: Path, threads: int) -> int:
    """Train fold 0, and return the number of steps."""
    # Not before: the planner sets torch's threads to this number and refuses 0. Here 0 means to augment in this
    # process, which is seeded and leaves the cores to torch.
    os.environ.update(nnUNet_n_proc_DA="0", nnUNet_compile="f")
    torch.set_num_threads(threads)
    random.seed(DATASET_ID)
    np.random.seed(DATASET_ID)  # noqa: NPY002 - what batchgenerators draws from
    torch.manual_seed(DATASET_ID)
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    dataset = json.loads((preprocessed / "dataset.json").read_text())
    trainer = nnUNetTrainer_10epochs(
        {**plans, "continue_training": False}, "3d_fullres", 0, dataset, torch.device("cpu")
    )
    trainer.run_training()
    return trainer.num_epochs * trainer.num_iterations_per_epoch


def dice(prediction: NDArray, truth: NDArray) -> dict[str, float]:
    """Dice per foreground class, by its name."""
    scores = {}
    for name, label in LABELS.items():
        if label:
            a, b = prediction == label, truth == label
            scores[name] = round(float(2 * (a & b).sum() / (a.sum() + b.sum())), 4)
    return scores


def measure(model: Path, cases: dict[str, tuple[Path, Path]]) -> dict[str, dict[str, dict[str, float]]]:
    """Score the finished model with nnunetv2's own predictor, at nnU-Net's default step of 0.5.

    Parameters
    ----------
    model : Path
        The model folder.
    cases : dict
        Image and true labels by the name of the case.

    Returns
    -------
    dict
        Dice by case, then by "without mirroring" and "with mirroring", then by class.
    """
    predictor = nnUNetPredictor(tile_step_size=0.5, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,), "checkpoint_final.pth")
    mirror_axes = predictor.allowed_mirroring_axes
    io = predictor.plans_manager.image_reader_writer_class()
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for name, (image_path, labels_path) in cases.items():
        image, properties = io.read_images([str(image_path)])
        truth, _ = io.read_seg(str(labels_path))
        scores[name] = {}
        for mode, axes in (("without mirroring", None), ("with mirroring", mirror_axes)):
            predictor.allowed_mirroring_axes = axes
            predictor.use_mirroring = axes is not None
            prediction = predictor.predict_single_npy_array(image, properties)
            scores[name][mode] = dice(prediction, truth[0])
    return scores


def main() -> None:
    """Run all of it."""
    samples = Path(__file__).resolve().parent.parent / "src" / "napari_nnunet_cpu" / "samples"
    parser = argparse.ArgumentParser(description="Make the sample image and train the sample model.")
    parser.add_argument("--work", type=Path, required=True, help="folder for data in between; emptied first")
    parser.add_argument("--out", type=Path, default=samples, help="where the finished files go (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (%(default)s)")
    args = parser.parse_args()
    started = time.perf_counter()

    folders = {name: args.work.resolve() / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for name, folder in folders.items():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        os.environ[name] = str(folder)
    raw, preprocessed = folders["nnUNet_raw"] / DATASET, folders["nnUNet_preprocessed"] / DATASET

    atlas = Atlas.from_nilearn()
    args.out.mkdir(parents=True, exist_ok=True)
    t1, labels = atlas.sample(atlas.sample_grid)
    save_nifti(args.out / IMAGE, np.round(t1 * 255).astype(np.uint8), atlas.sample_affine)
    template_labels = args.work / "icbm152_labels.nii.gz"
    save_nifti(template_labels, labels, atlas.sample_affine)

    write_dataset(atlas, raw)
    plan_and_preprocess(preprocessed)
    training_started = time.perf_counter()
    steps = train(preprocessed, args.threads)
    training_seconds = time.perf_counter() - training_started

    trained, model = folders["nnUNet_results"] / DATASET / MODEL, args.out / DATASET / MODEL
    shutil.rmtree(model, ignore_errors=True)
    (model / "fold_0").mkdir(parents=True)
    for name in ("plans.json", "dataset.json", "dataset_fingerprint.json", "fold_0/checkpoint_final.pth"):
        shutil.copyfile(trained / name, model / name)

    cases = {
        f"held-out {seed}": (
            raw / "imagesTs" / f"head_{seed}_0000.nii.gz",
            raw / "labelsTs" / f"head_{seed}.nii.gz",
        )
        for seed in HELD_OUT_SEEDS
    }
    cases["shipped image"] = (args.out / IMAGE, template_labels)
    scores = measure(model, cases)
    report = {
        "dice": scores,
        "steps": steps,
        "training_seconds": round(training_seconds),
        "total_seconds": round(time.perf_counter() - started),
        "threads": args.threads,
        "versions": {name: importlib.metadata.version(name) for name in ("nnunetv2", "torch", "nilearn")},
    }
    (args.out / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    print(f"\n{'Dice':<34}" + "".join(f"{name:>14}" for name, label in LABELS.items() if label))
    for case, modes in scores.items():
        for mode, classes in modes.items():
            print(f"{case + ', ' + mode:<34}" + "".join(f"{value:>14.4f}" for value in classes.values()))


if __name__ == "__main__":
    main()
