import pytest
import torch
from hypothesis import given, settings
from model_files import ARGUMENTS, CONFIGURATION, edit_json
from random_architecture import architectures
from random_model import RandomModel

from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.documents import parse
from napari_nnunet_cpu.models.network.architecture import Architecture
from napari_nnunet_cpu.models.network.networks import build_network
from napari_nnunet_cpu.models.network.patch_fit import check_patch

pytestmark = pytest.mark.slow


def test_a_residual_decoder_has_blocks_where_others_have_convolutions(tmp_path):
    weights = load_model(RandomModel(family="ResidualUNet").write(tmp_path)).network(0).state_dict()
    stage = "decoder.stages.1.blocks.0"
    found = {name: tuple(tensor.shape) for name, tensor in weights.items() if name.startswith(stage)}
    expected = {}
    for convolution, shape in (("conv1", (4, 8, 3, 3, 3)), ("conv2", (4, 4, 3, 3, 3)), ("skip.0", (4, 8, 1, 1, 1))):
        for name in ("conv", "all_modules.0"):
            expected[f"{stage}.{convolution}.{name}.weight"] = shape
            if convolution != "skip.0":
                expected[f"{stage}.{convolution}.{name}.bias"] = (4,)
        for name in ("norm", "all_modules.1"):
            expected |= {f"{stage}.{convolution}.{name}.{what}": (4,) for what in ("weight", "bias")}
    assert found == expected


def test_a_residual_decoder_has_basic_blocks_whatever_the_encoder_has(tmp_path):
    block = "dynamic_network_architectures.building_blocks.residual.BottleneckD"
    arguments = {"block": block, "bottleneck_channels": [2, 4, 6]}
    folder = RandomModel(family="ResidualUNet", architecture=arguments).write(tmp_path)
    weights = load_model(folder).network(0).state_dict()
    assert "encoder.stages.0.blocks.0.conv3.conv.weight" in weights
    assert "decoder.stages.0.blocks.0.conv3.conv.weight" not in weights


@pytest.mark.parametrize(
    "name",
    [
        "dynamic_network_architectures.architectures.unet.ConvNextEncoderUNet",
        "dynamic_network_architectures.architectures.primus.PrimusM",
        "dynamic_network_architectures.architectures.resnet.ResNet18",
        "dynamic_network_architectures.architectures.vgg.VGG16",
        "dynamic_network_architectures.architectures.dinov2_eva.Dinov2PrimusEncL",
        "dynamic_network_architectures.architectures.unet.plainconvunet",
        "unet.PlainConvUNet",
    ],
)
def test_other_networks_are_refused_by_name(folder, name):
    edit_json(folder / "plans.json", {f"{CONFIGURATION}.architecture.network_class_name": name})
    known = "supported are PlainConvUNet, ResidualEncoderUNet, ResidualUNet"
    with pytest.raises(ModelError, match=f"architecture '{name}' is not supported; {known}$"):
        load_model(folder)


@pytest.mark.parametrize(
    ("family", "argument"),
    [
        ("PlainConvUNet", "stem_channels"),
        ("PlainConvUNet", "bottleneck_channels"),
        ("PlainConvUNet", "n_blocks_per_stage"),
        ("ResidualEncoderUNet", "nonlin_first"),
        ("ResidualUNet", "n_conv_per_stage"),
    ],
)
def test_an_argument_of_another_family_is_refused(tmp_path, family, argument):
    folder = RandomModel(family=family).write(tmp_path)
    edit_json(folder / "plans.json", {f"{ARGUMENTS}.{argument}": 1})
    with pytest.raises(ModelError, match=f"arch_kwargs holds {argument}, which {family} does not take$"):
        load_model(folder)


def test_a_foreign_block_is_refused_and_not_imported(tmp_path):
    folder = RandomModel(family="ResidualEncoderUNet").write(tmp_path)
    edit_json(folder / "plans.json", {f"{ARGUMENTS}.block": "os.system"})
    with pytest.raises(ModelError, match=r"block 'os\.system' is not supported; supported are BasicBlockD, Bottlen"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": [16, 16, 14]}, r"plans\.json: patch_size \(16, 16, 14\) .* along axis 2: its strides are \["),
        ({"patch_size": [4, 16, 16]}, None),
        ({"patch_size": [4, 4, 4]}, r"\(4, 4, 4\) does not fit the network: it leaves one voxel to normalize$"),
        ({"architecture.arch_kwargs.strides": [2, 2, 2]}, r"along axis 0: its strides are \[2, 2, 2\] and its kernel"),
        ({"architecture.arch_kwargs.kernel_sizes": [[3, 4, 3], 3, 3]}, r"axis 1: .* sizes \[\(3, 4, 3\), 3, 3\]$"),
    ],
    ids=["strides", "flat", "one-voxel", "half", "even-kernel"],
)
def test_a_patch_must_come_out_of_the_network_as_it_went_in(folder, changes, message):
    edit_json(folder / "plans.json", {f"{CONFIGURATION}.{place}": value for place, value in changes.items()})
    if message is None:
        load_model(folder)
        return
    with pytest.raises(ModelError, match=message):
        load_model(folder)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(drawn=architectures())
def test_a_patch_fits_if_and_only_if_the_network_runs(drawn):
    block, patch = drawn
    architecture = parse(Architecture, block, "plans")
    network = build_network(architecture, channels=1, heads=1)
    try:
        with torch.inference_mode():
            runs = network(torch.zeros(1, 1, *patch)).shape[2:] == patch
    except (RuntimeError, ValueError):
        runs = False
    try:
        check_patch(architecture, patch, "plans")
        fits = True
    except ModelError:
        fits = False
    assert fits == runs
