"""Model folders as nnU-Net writes them, with a random network: what the cases are measured with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import zoom

from napari_nnunet_cpu.bench.networks import balanced_weights
from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.models.documents import parse
from napari_nnunet_cpu.models.folder import CHECKPOINT
from napari_nnunet_cpu.models.plans import Plans

_DATASET = "Dataset900_Bench"


@dataclass(frozen=True)
class RandomModel:
    """A PlainConvUNet with nnU-Net's default plans and one channel.

    Attributes
    ----------
    patch : tuple of int
        Z, Y, X, or Y, X for a 2d configuration.
    spacing_mm : tuple of float
        Along the same axes.
    features : tuple of int
        Per stage; every stage but the first halves all axes.
    classes : int
        Background included.
    seed : int
        Of the weights.
    """

    patch: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    features: tuple[int, ...]
    classes: int
    seed: int = 0

    @property
    def configuration(self) -> str:
        """As nnU-Net calls it."""
        return "2d" if len(self.patch) == 2 else "3d_fullres"

    def folder(self, root: Path) -> Path:
        """The model folder under `root`."""
        return root / _DATASET / f"nnUNetTrainer__nnUNetPlans__{self.configuration}"

    def write(self, root: Path, case: Case) -> Path:
        """Make the model folder under `root`, its classes balanced on the image it is for, and return it."""
        folder = self.folder(root)
        fold = folder / "fold_0"
        fold.mkdir(parents=True, exist_ok=True)
        (folder / "plans.json").write_text(json.dumps(self.plans()), encoding="utf-8")
        (folder / "dataset.json").write_text(json.dumps(self.dataset()), encoding="utf-8")
        plans = parse(Plans, self.plans(), "plans")
        architecture = plans.configuration(self.configuration, "plans").architecture
        checkpoint = {
            "network_weights": balanced_weights(architecture, self.classes, self._seen(case), self.patch, self.seed),
            "init_args": {"configuration": self.configuration, "fold": 0},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": tuple(range(len(self.patch))),
        }
        torch.save(checkpoint, fold / CHECKPOINT)
        return folder

    def dataset(self) -> dict[str, Any]:
        """dataset.json."""
        names = ["background", *[f"class {number}" for number in range(1, self.classes)]]
        return {
            "channel_names": {"0": "MR"},
            "labels": {name: number for number, name in enumerate(names)},
            "numTraining": 1,
            "file_ending": ".nii.gz",
        }

    def plans(self) -> dict[str, Any]:
        """plans.json."""
        return {
            "dataset_name": _DATASET,
            "plans_name": "nnUNetPlans",
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "configurations": {self.configuration: self._configuration()},
            "foreground_intensity_properties_per_channel": {
                "0": {"mean": 0.0, "std": 1.0, "percentile_00_5": -3.0, "percentile_99_5": 3.0}
            },
        }

    def _configuration(self) -> dict[str, Any]:
        dimensions, stages = len(self.patch), len(self.features)
        block: dict[str, Any] = {
            "data_identifier": f"nnUNetPlans_{self.configuration}",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": list(self.patch),
            "spacing": list(self.spacing_mm),
            "normalization_schemes": ["ZScoreNormalization"],
            "use_mask_for_norm": [False],
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {
                    "n_stages": stages,
                    "features_per_stage": list(self.features),
                    "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
                    "kernel_sizes": [[3] * dimensions] * stages,
                    "strides": [[1] * dimensions, *[[2] * dimensions] * (stages - 1)],
                    "n_conv_per_stage": [2] * stages,
                    "n_conv_per_stage_decoder": [2] * (stages - 1),
                    "conv_bias": True,
                    "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
                    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                    "dropout_op": None,
                    "dropout_op_kwargs": None,
                    "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": True},
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        }
        for kind, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
            block[f"resampling_fn_{kind}"] = "resample_data_or_seg_to_shape"
            block[f"resampling_fn_{kind}_kwargs"] = {
                "is_seg": kind == "seg", "order": order, "order_z": 0, "force_separate_z": None,
            }  # fmt: skip
        return block

    def _seen(self, case: Case) -> npt.NDArray[np.float32]:
        """The image nearly as the network will see it: normalized, and at the model's spacing, (Z, Y, X)."""
        spacing_mm = (*case.spacing_mm[: 3 - len(self.patch)], *self.spacing_mm)
        image = case.channels[0].astype(np.float32)
        image = (image - image.mean()) / image.std()
        seen: npt.NDArray[np.float32] = zoom(
            image, [old / new for old, new in zip(case.spacing_mm, spacing_mm, strict=True)], order=1
        )
        return seen
