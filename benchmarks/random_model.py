"""Write model folders in nnU-Net's layout with random networks, for the tests and the benchmarks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_nnunet_cpu.models.documents import parse
from napari_nnunet_cpu.models.labels import Labels, labels_from_dataset
from napari_nnunet_cpu.models.network.architecture import Architecture
from napari_nnunet_cpu.models.network.networks import build_network
from napari_nnunet_cpu.models.plans import Plans

DATASET = "Dataset999_Random"
ONE_LABEL_EACH = {"background": 0, "liver": 1, "kidney": 2}


@dataclass
class RandomModel:
    """The description of a model folder; `write` makes the folder.

    `normalization` and `use_mask` are one value for all channels or one per channel; `architecture` replaces
    entries of the plans' arch_kwargs. `resampling_options` adds arguments to the function that resamples "data",
    "seg" or "probabilities". `spread` is the standard deviation of the logits.

    With a `first_stage` it is a cascade: both model folders are written, with the same plans, and the second stage
    inherits from "3d_fullres". `ancestors` names further configurations that this one inherits from, nearest first.
    `postprocessing` holds, for every component that nnU-Net would remove, its labels_or_regions.
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
    resampling_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    first_stage: RandomModel | None = None
    called: str | None = None
    ancestors: Sequence[str] = ()
    plans_name: str = "nnUNetPlans"
    checkpoint_name: str = "checkpoint_final.pth"
    postprocessing: Sequence[Any] | None = None
    spread: float = 3.0
    seed: int = 0

    @property
    def configuration(self) -> str:
        by_shape = "2d" if len(self.patch) == 2 else "3d_fullres"
        return self.called or ("3d_cascade_fullres" if self.first_stage else by_shape)

    @property
    def folder_name(self) -> str:
        return f"{self.trainer}__{self.plans_name}__{self.configuration}"

    def folder(self, root: Path) -> Path:
        """The model folder under `root`."""
        return root / DATASET / self.folder_name

    @property
    def input_channels(self) -> int:
        """Input channels of the network: the image's and, in a cascade, one per label of the first stage."""
        return len(self.channels) + (len(self._labels.foreground) if self.first_stage else 0)

    @property
    def heads(self) -> int:
        """Output channels of the network."""
        return self._labels.heads

    @property
    def network_architecture(self) -> Architecture:
        """The architecture of the network in the plans."""
        architecture = parse(Plans, self.plans(), "plans").configuration(self.configuration, "plans").architecture
        return architecture.with_batch_norm() if self.trainer == "nnUNetTrainerBN" else architecture

    @property
    def _labels(self) -> Labels:
        return labels_from_dataset(self.labels, self.regions_class_order, "dataset")

    def configurations(self) -> dict[str, Any]:
        """The plans' configurations: this one, its ancestors, and the configurations of its first stage."""
        ancestors = [*self.ancestors, *["3d_fullres"] * (self.first_stage is not None)]
        block, own = self._block(), {"patch_size": list(self.patch), "spacing": list(self.spacing)}
        found: dict[str, Any] = {}
        if self.first_stage is not None:
            found = self.first_stage.configurations()
            found[self.first_stage.configuration]["next_stage"] = self.configuration
            own["previous_stage"] = self.first_stage.configuration
        if not ancestors:
            return found | {self.configuration: block | own}
        names = [self.configuration, *ancestors]
        for number, name in enumerate(ancestors):
            # Wrong on purpose, because the entries of the child must override them.
            wrong = {key: [9] * len(self.patch) for key in ("patch_size", "spacing")}
            share = {key: block[key] for key in list(block)[number :: len(ancestors)]}
            found[name] = share | wrong | ({"inherits_from": names[number + 2]} if number + 2 < len(names) else {})
        return found | {self.configuration: own | {"inherits_from": ancestors[0]}}

    def _block(self) -> dict[str, Any]:
        dims = len(self.patch)
        options = {"is_seg": False, "order_z": 0, "force_separate_z": self.force_separate_z}
        configuration: dict[str, Any] = {
            "data_identifier": f"nnUNetPlans_{self.configuration}",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "median_image_size_in_voxels": list(self.patch),
            "normalization_schemes": self._per_channel(self.normalization),
            "use_mask_for_norm": self._per_channel(self.use_mask),
            "batch_dice": False,
        }
        for kind, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
            configuration[f"resampling_fn_{kind}"] = self.resampling
            by_function: dict[str, dict[str, Any]] = {
                "resample_data_or_seg_to_shape": options | {"order": order, "is_seg": kind == "seg"},
                "resample_torch_fornnunet": {"is_seg": kind == "seg", "force_separate_z": self.force_separate_z},
                "no_resampling_hack": {},
            }
            extra = self.resampling_options.get(kind, {})
            configuration[f"resampling_fn_{kind}_kwargs"] = by_function[self.resampling] | extra
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
        return configuration

    def plans(self) -> dict[str, Any]:
        """plans.json."""
        return {
            "dataset_name": DATASET,
            "plans_name": self.plans_name,
            "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
            "original_median_shape_after_transp": [32, 32, 32],
            "image_reader_writer": self.reader,
            "transpose_forward": list(self.transpose),
            "transpose_backward": [int(i) for i in np.argsort(self.transpose)],
            "configurations": self.configurations(),
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

    def write(self, root: Path, plans: dict[str, Any] | None = None, weights: Weights | None = None) -> Path:
        """Make the folder under `root` and return it.

        A cascade passes its `plans` to its first stage. The default `weights` are `even_weights`.
        """
        plans = plans or self.plans()
        if self.first_stage is not None:
            self.first_stage.write(root, plans)
        folder = self.folder(root)
        folder.mkdir(parents=True)
        (folder / "plans.json").write_text(json.dumps(plans))
        (folder / "dataset.json").write_text(json.dumps(self.dataset()))
        for number, fold in enumerate(self.folds):
            path = folder / f"fold_{fold}" / self.checkpoint_name
            path.parent.mkdir()
            torch.save(self.checkpoint(number, weights), path)
        if self.postprocessing is not None:
            path = folder / f"crossval_results_folds_{'_'.join(self.folds)}" / "postprocessing.json"
            path.parent.mkdir()
            path.write_text(json.dumps(postprocessing_document(self.postprocessing)))
        return folder

    def checkpoint(self, number: int = 0, weights: Weights | None = None) -> dict[str, Any]:
        """A checkpoint with the entries that nnU-Net's trainer saves, numpy scalars included."""
        return {
            "network_weights": (weights or even_weights)(self, self.seed + number),
            "optimizer_state": {},
            "grad_scaler_state": None,
            "logging": {"train_losses": [np.float32(-0.5)], "ema_fg_dice": [np.float64(0.5)]},
            "_best_ema": np.float64(0.5),
            "current_epoch": 1,
            "init_args": {"configuration": self.configuration, "fold": number, "device": torch.device("cpu")},
            "trainer_name": self.trainer,
            "inference_allowed_mirroring_axes": None if self.mirror_axes is None else tuple(self.mirror_axes),
        }


Weights = Callable[[RandomModel, int], dict[str, torch.Tensor]]  # the state dict of a model, for a seed


def even_weights(model: RandomModel, seed: int) -> dict[str, torch.Tensor]:
    """Random weights whose heads have equal mean and spread, because one class would win everywhere otherwise."""
    generator = torch.Generator().manual_seed(seed)
    network = build_network(model.network_architecture, model.input_channels, model.heads)
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
        flat = network(_example(model, generator))[0].flatten(1)
        last = [module for name, module in network.named_modules() if name.startswith("decoder.seg_layers.")][-1]
        scale = model.spread / flat.std(1)
        weight, bias = last.get_parameter("weight"), last.get_parameter("bias")
        weight.mul_(scale.view(-1, *[1] * (weight.ndim - 1)))
        bias.sub_(flat.mean(1)).mul_(scale)
    return network.state_dict()


def _example(model: RandomModel, generator: torch.Generator) -> torch.Tensor:
    """An input as the network will see it: a smooth image and, in a cascade, the labels of a first stage."""
    coarse = [max(n // 4, 1) for n in model.patch]
    mode = "trilinear" if len(model.patch) == 3 else "bilinear"
    image = torch.randn((1, len(model.channels), *coarse), generator=generator)
    image = torch.nn.functional.interpolate(image, size=tuple(model.patch), mode=mode)
    labels = model.input_channels - len(model.channels)
    if not labels:
        return image
    blocks = torch.randint(labels + 1, (1, *coarse), generator=generator)
    one_hot = torch.stack([(blocks == label + 1).float() for label in range(labels)], dim=1)
    return torch.cat([image, torch.nn.functional.interpolate(one_hot, size=tuple(model.patch))], dim=1)


def postprocessing_document(removed: Sequence[Any]) -> dict[str, Any]:
    """postprocessing.json: for every entry of `removed`, a label or a list, only the largest component is kept."""
    return {
        "postprocessing_fns": ["remove_all_but_largest_component_from_segmentation"] * len(removed),
        "postprocessing_kwargs": [{"labels_or_regions": labels} for labels in removed],
    }


def smooth_image(shape: Sequence[int], seed: int = 0, channels: int = 1) -> npt.NDArray[np.float32]:
    """An image (C, Z, Y, X) like a scan: smooth structures, some noise, a zero margin; float32."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    image = np.stack([gaussian_filter(rng.normal(size=shape), 2.5) for _ in range(channels)])
    image = 300 * image / image.std() + 40 + rng.normal(size=image.shape)
    margin = [slice(1, max(2, n - 2)) if n > 4 else slice(None) for n in shape]
    result = np.zeros_like(image, dtype=np.float32)
    result[:, *margin] = image[:, *margin]
    return result
