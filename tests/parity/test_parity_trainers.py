"""What trainers build: every one that comes with nnU-Net, and the transformers of some with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import original
import pytest
import torch
from random_model import RandomModel

from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.documents import parse
from napari_nnunet_cpu.models.network.networks import build_network
from napari_nnunet_cpu.models.network.patch_fit import check_patch
from napari_nnunet_cpu.models.network.primus import PRIMUS_TRAINERS, Primus
from napari_nnunet_cpu.models.plans import Configuration, Plans
from napari_nnunet_cpu.models.trainers import network_of, notice_of

SMALLEST = ["nnUNet_Primus_S_Trainer", "nnUNet_PrimusV2S_Trainer", "nnUNet_PrimusV3S_Trainer"]


def primus_model(trainer: str) -> RandomModel:
    """A transformer with two channels and a patch of three lengths."""
    return RandomModel(patch=(16, 24, 32), channels=("T1", "T2"), trainer=trainer)


def configuration_of(model: RandomModel) -> Configuration:
    return parse(Plans, model.plans(), "plans").configuration(model.configuration, "plans")


def test_every_trainer_is_known_for_what_it_builds() -> None:
    configuration = configuration_of(RandomModel())
    plans_network = original.trainers()["nnUNetTrainer"].build_network_architecture
    found = {}
    for name, trainer in original.trainers().items():
        try:
            network = network_of(name, configuration, "model")
        except ModelError:
            found[name] = "refused"
            continue
        assert notice_of(name) is None, name
        found[name] = (
            "transformer"
            if isinstance(network, Primus)
            else "plans"
            if network is configuration.architecture
            else "other"
        )
        assert (found[name] == "plans") == (trainer.build_network_architecture is plans_network), name
    assert len(found) > 70
    assert {name for name, kind in found.items() if kind == "refused"} == {"AbstractPrimus"}  # it builds nothing
    assert {name for name, kind in found.items() if kind == "other"} == {"nnUNetTrainerBN"}
    assert {name for name, kind in found.items() if kind == "transformer"} == PRIMUS_TRAINERS.keys()


@pytest.mark.parametrize("trainer", SMALLEST)
def test_logits_of_the_smallest_transformers(trainer: str, tmp_path: Path) -> None:
    model = primus_model(trainer)
    theirs = original.build(trainer, model.plans(), model.configuration, 2, 3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in theirs.parameters():  # also those that start as zeros and ones
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    folder = model.write(tmp_path)
    path = folder / "fold_0" / "checkpoint_final.pth"
    torch.save(model.checkpoint() | {"network_weights": theirs.state_dict()}, path)

    loaded = load_model(folder)
    assert loaded.describe()["network"] == trainer.removeprefix("nnUNet_").removesuffix("_Trainer").replace("s_S", "sS")
    ours = loaded.network(0)
    assert not any(tensor.is_meta for tensor in (*ours.parameters(), *ours.buffers()))
    patch = torch.randn((1, 2, *model.patch), generator=generator)
    with torch.inference_mode():
        a, b = ours(patch), theirs(patch)
    assert a.shape == b.shape == (1, 3, *model.patch)
    assert b.std() > 0.1
    assert (a - b).abs().max() <= 1e-5 * b.abs().max()


@pytest.mark.parametrize("trainer", PRIMUS_TRAINERS)
def test_layers_of_every_transformer(trainer: str) -> None:
    model = primus_model(trainer)
    with torch.device("meta"):
        theirs = original.build(trainer, model.plans(), model.configuration, 2, 3)
        ours = build_network(network_of(trainer, configuration_of(model), "model"), 2, 3)
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == {
        name: tensor.shape for name, tensor in theirs.state_dict().items()
    }
    assert layers(ours) == layers(theirs)


def layers(network: torch.nn.Module) -> dict[str, Any]:
    """Class and plain attributes of every layer in the network, but of those that do nothing at inference."""
    idle = ("drop_path1", "drop_path2")
    return {
        name: (type(layer).__name__, {k: v for k, v in vars(layer).items() if isinstance(v, int | float | str | tuple)})
        for name, layer in network.named_modules()
        if name and name.rpartition(".")[2] not in idle
    }


@pytest.mark.parametrize("patch", [(16, 16, 12), (16, 16), (8, 8, 8)])
@pytest.mark.parametrize("trainer", SMALLEST)
def test_a_patch_is_refused_where_nnunet_fails(trainer: str, patch: tuple[int, ...]) -> None:
    model = RandomModel(patch=patch, spacing=(1.0,) * len(patch), trainer=trainer)
    try:
        with torch.device("meta"), torch.inference_mode():
            network = original.build(trainer, model.plans(), model.configuration, 1, 3)
            runs = network(torch.zeros(1, 1, *patch)).shape[2:] == patch
    except (AssertionError, IndexError, ValueError):
        runs = False
    try:
        check_patch(network_of(trainer, configuration_of(model), "model"), patch, "plans")
        fits = True
    except ModelError:
        fits = False
    assert fits == runs == (patch == (8, 8, 8) and trainer == "nnUNet_Primus_S_Trainer")
