"""Writes model folders as nnU-Net does, with tiny random networks: what the tests run on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_nnunet_cpu.models.documents import parse
from napari_nnunet_cpu.models.labels import labels_from_dataset
from napari_nnunet_cpu.models.networks import build_network
from napari_nnunet_cpu.models.plans import Plans

ONE_LABEL_EACH = {"background": 0, "liver": 1, "kidney": 2}


@dataclass
class RandomModel:
    """Description of a model folder; `write` makes it.

    `normalization` and `use_mask` are one value for all channels or one per channel; `architecture` replaces
    entries of the plans' arch_kwargs.
    """

    patch: Sequence[int] = (16, 16, 16)
    spacing: Sequence[float] = (1.0, 1.0, 1.0)
    family: str = "PlainConvUNet"
    channels: Sequence[str] = ("CT",)
    labels: dict[str, Any] = field(default_factory=lambda: dict(ONE_LABEL_EACH))
    regions_class_order: list[int] | None = None
    normalization: str | Sequence[str] = "ZScoreNormalization"
    use_mask: bool | Sequence[bool] = False
    transpose: Sequence[int] = (0, 1, 2)
    folds: Sequence[str] = ("0",)
    mirror_axes: Sequence[int] | None = None
    trainer: str = "nnUNetTrainer"
    old_layout: bool = False
    reader: str = "SimpleITKIO"
    force_separate_z: bool | None = None
    resampling: str = "resample_data_or_seg_to_shape"
    architecture: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def configuration(self) -> str:
        return "2d" if len(self.patch) == 2 else "3d_fullres"

    def plans(self) -> dict[str, Any]:
        """plans.json."""
        dims = len(self.patch)
        options = {"is_seg": False, "order_z": 0, "force_separate_z": self.force_separate_z}
        configuration: dict[str, Any] = {
            "data_identifier": f"nnUNetPlans_{self.configuration}",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": list(self.patch),
            "median_image_size_in_voxels": list(self.patch),
            "spacing": list(self.spacing),
            "normalization_schemes": self._per_channel(self.normalization),
            "use_mask_for_norm": self._per_channel(self.use_mask),
            "batch_dice": False,
        }
        for kind, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
            configuration[f"resampling_fn_{kind}"] = self.resampling
            configuration[f"resampling_fn_{kind}_kwargs"] = {
                "resample_data_or_seg_to_shape": options | {"order": order, "is_seg": kind == "seg"},
                "resample_torch_fornnunet": {"is_seg": kind == "seg", "force_separate_z": self.force_separate_z},
                "no_resampling_hack": {},
            }[self.resampling]
        per_stage = "n_conv_per_stage" if self.family == "PlainConvUNet" else "n_blocks_per_stage"
        if self.old_layout:
            configuration |= {
                "UNet_class_name": self.family,
                "UNet_base_num_features": 4,
                "unet_max_num_features": 8,
                "n_conv_per_stage_encoder": [1, 1, 2],
                "n_conv_per_stage_decoder": [1, 1],
                "num_pool_per_axis": [2] * dims,
                "pool_op_kernel_sizes": [[1] * dims, [2] * dims, [2] * dims],
                "conv_kernel_sizes": [[3] * dims] * 3,
            }
        else:
            configuration["architecture"] = {
                "network_class_name": f"dynamic_network_architectures.architectures.unet.{self.family}",
                "arch_kwargs": {
                    "n_stages": 3,
                    "features_per_stage": [4, 8, 12],
                    "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
                    "kernel_sizes": [[3] * dims] * 3,
                    "strides": [[1] * dims, [2] * dims, [2] * dims],
                    per_stage: [1, 2, 1],
                    "n_conv_per_stage_decoder": [1, 1],
                    "conv_bias": True,
                    "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
                    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                    "dropout_op": None,
                    "dropout_op_kwargs": None,
                    "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": True},
                }
                | self.architecture,
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"]
                + ["block"] * ("block" in self.architecture),
            }
        return {
            "dataset_name": "Dataset999_Random",
            "plans_name": "nnUNetPlans",
            "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
            "original_median_shape_after_transp": [32, 32, 32],
            "image_reader_writer": self.reader,
            "transpose_forward": list(self.transpose),
            "transpose_backward": [int(i) for i in np.argsort(self.transpose)],
            "configurations": {self.configuration: configuration},
            "experiment_planner_used": "ExperimentPlanner",
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": {
                str(i): {"mean": 40.0, "std": 90.0, "percentile_00_5": -120.0, "percentile_99_5": 180.0,
                         "median": 40.0, "min": -1000.0, "max": 1000.0}
                for i in range(len(self.channels))
            },
        }  # fmt: skip

    def _per_channel(self, value: Any) -> list[Any]:
        return [value] * len(self.channels) if isinstance(value, str | bool) else list(value)

    def dataset(self) -> dict[str, Any]:
        """dataset.json."""
        names = {str(i): name for i, name in enumerate(self.channels)}
        document: dict[str, Any] = {
            "modality" if self.old_layout else "channel_names": names,
            "labels": self.labels,
            "numTraining": 1,
            "file_ending": ".nii.gz",
        }
        if self.regions_class_order is not None:
            document["regions_class_order"] = self.regions_class_order
        return document

    def write(self, root: Path) -> Path:
        """Make the folder under `root` and return it."""
        folder = root / "Dataset999_Random" / f"{self.trainer}__nnUNetPlans__{self.configuration}"
        folder.mkdir(parents=True)
        (folder / "plans.json").write_text(json.dumps(self.plans()))
        (folder / "dataset.json").write_text(json.dumps(self.dataset()))
        for number, fold in enumerate(self.folds):
            path = folder / f"fold_{fold}" / "checkpoint_final.pth"
            path.parent.mkdir()
            torch.save(self.checkpoint(number), path)
        return folder

    def checkpoint(self, number: int = 0) -> dict[str, Any]:
        """What nnU-Net's trainer saves, its numpy scalars included."""
        return {
            "network_weights": self._balanced_weights(self.seed + number),
            "optimizer_state": {},
            "grad_scaler_state": None,
            "logging": {"train_losses": [np.float32(-0.5)], "ema_fg_dice": [np.float64(0.5)]},
            "_best_ema": np.float64(0.5),
            "current_epoch": 1,
            "init_args": {"configuration": self.configuration, "fold": number, "device": torch.device("cpu")},
            "trainer_name": self.trainer,
            "inference_allowed_mirroring_axes": None if self.mirror_axes is None else tuple(self.mirror_axes),
        }

    def _balanced_weights(self, seed: int) -> dict[str, torch.Tensor]:
        """Random weights whose heads have equal mean and spread, or one class would win everywhere."""
        plans = parse(Plans, self.plans(), "plans")
        architecture = plans.configuration(self.configuration, "plans").architecture
        if self.trainer == "nnUNetTrainerBN":
            architecture = architecture.with_batch_norm()
        heads = labels_from_dataset(self.labels, self.regions_class_order, "dataset").heads
        generator = torch.Generator().manual_seed(seed)
        network = build_network(architecture, len(self.channels), heads)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if parameter.ndim > 1:
                    center, spread = 0.0, (2 / parameter[0].numel()) ** 0.5
                else:
                    center, spread = 1.0 if name.endswith("weight") else 0.0, 0.1  # a norm's factor, or a bias
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread + center)
            for name, buffer in network.named_buffers():  # batch normalization's statistics
                if name.endswith("running_mean"):
                    buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
                elif name.endswith("running_var"):
                    buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
            coarse = torch.randn((1, len(self.channels), *[max(n // 4, 1) for n in self.patch]), generator=generator)
            mode = "trilinear" if len(self.patch) == 3 else "bilinear"
            logits = network(torch.nn.functional.interpolate(coarse, size=tuple(self.patch), mode=mode))[0]
            flat = logits.flatten(1)
            last = network.get_submodule("decoder.seg_layers")[-1]
            scale = 3 / flat.std(1)
            last.weight.mul_(scale.view(-1, *[1] * (last.weight.ndim - 1)))
            last.bias.sub_(flat.mean(1)).mul_(scale)
        return network.state_dict()


def smooth_image(shape: Sequence[int], seed: int = 0, channels: int = 1) -> np.ndarray:
    """An image (C, Z, Y, X) like a scan: smooth structures, some noise, a zero margin; float32."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    image = np.stack([gaussian_filter(rng.normal(size=shape), 2.5) for _ in range(channels)])
    image = 300 * image / image.std() + 40 + rng.normal(size=image.shape)
    margin = [slice(1, max(2, n - 2)) if n > 4 else slice(None) for n in shape]
    result = np.zeros_like(image, dtype=np.float32)
    result[:, *margin] = image[:, *margin]
    return result
