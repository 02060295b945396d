import pytest
import torch
from random_model import RandomModel

from napari_nnunet_cpu.models.documents import parse
from napari_nnunet_cpu.models.network.architecture import Architecture
from napari_nnunet_cpu.models.network.networks import build_network

# What dynamic-network-architectures 0.4.4 calls its parameters, for two channels in, five heads out, stages of
# 4, 8 and 12 features with 1, 2 and 1 convolutions or blocks, and 1 and 2 convolutions in the decoder.
PLAIN_ENCODER = {
    "stages.0.0.convs.0": (4, 2, 1, 3, 3),
    "stages.1.0.convs.0": (8, 4, 3, 3, 3),
    "stages.1.0.convs.1": (8, 8, 3, 3, 3),
    "stages.2.0.convs.0": (12, 8, 3, 3, 3),
}
RESIDUAL_ENCODER = {
    "stem.convs.0": (4, 2, 1, 3, 3),
    "stages.0.blocks.0.conv1": (4, 4, 1, 3, 3),
    "stages.0.blocks.0.conv2": (4, 4, 1, 3, 3),
    "stages.1.blocks.0.conv1": (8, 4, 3, 3, 3),
    "stages.1.blocks.0.conv2": (8, 8, 3, 3, 3),
    "stages.1.blocks.0.skip.1": (8, 4, 1, 1, 1),  # skip.0 is the pooling
    "stages.1.blocks.1.conv1": (8, 8, 3, 3, 3),
    "stages.1.blocks.1.conv2": (8, 8, 3, 3, 3),
    "stages.2.blocks.0.conv1": (12, 8, 3, 3, 3),
    "stages.2.blocks.0.conv2": (12, 12, 3, 3, 3),
    "stages.2.blocks.0.skip.1": (12, 8, 1, 1, 1),
}
BOTTLENECK_ENCODER = {
    "stem.convs.0": (6, 2, 1, 3, 3),
    "stages.0.blocks.0.conv1": (2, 6, 1, 1, 1),
    "stages.0.blocks.0.conv2": (2, 2, 1, 3, 3),
    "stages.0.blocks.0.conv3": (4, 2, 1, 1, 1),
    "stages.0.blocks.0.skip.0": (4, 6, 1, 1, 1),  # no stride: no pooling
    "stages.1.blocks.0.conv1": (2, 4, 1, 1, 1),
    "stages.1.blocks.0.conv2": (2, 2, 3, 3, 3),
    "stages.1.blocks.0.conv3": (8, 2, 1, 1, 1),
    "stages.1.blocks.0.skip.1": (8, 4, 1, 1, 1),
    "stages.1.blocks.1.conv1": (2, 8, 1, 1, 1),
    "stages.1.blocks.1.conv2": (2, 2, 3, 3, 3),
    "stages.1.blocks.1.conv3": (8, 2, 1, 1, 1),
    "stages.2.blocks.0.conv1": (2, 8, 1, 1, 1),
    "stages.2.blocks.0.conv2": (2, 2, 3, 3, 3),
    "stages.2.blocks.0.conv3": (12, 2, 1, 1, 1),
    "stages.2.blocks.0.skip.1": (12, 8, 1, 1, 1),
}
DECODER = {
    "stages.0.convs.0": (8, 16, 3, 3, 3),
    "stages.1.convs.0": (4, 8, 1, 3, 3),
    "stages.1.convs.1": (4, 4, 1, 3, 3),
}
HEADS = {
    "decoder.transpconvs.0.weight": (12, 8, 2, 2, 2),
    "decoder.transpconvs.0.bias": (8,),
    "decoder.transpconvs.1.weight": (8, 4, 1, 2, 2),
    "decoder.transpconvs.1.bias": (4,),
    "decoder.seg_layers.0.weight": (5, 8, 1, 1, 1),
    "decoder.seg_layers.0.bias": (5,),
    "decoder.seg_layers.1.weight": (5, 4, 1, 1, 1),
    "decoder.seg_layers.1.bias": (5,),
}
ENCODERS = {
    "PlainConvUNet": PLAIN_ENCODER,
    "ResidualEncoderUNet": RESIDUAL_ENCODER,
    "bottleneck": BOTTLENECK_ENCODER,
}
BOTTLENECK = {
    "block": "dynamic_network_architectures.building_blocks.residual.BottleneckD",
    "bottleneck_channels": 2,
    "stem_channels": 6,
}


def the_network(family, **arguments):
    kwargs = {
        "n_stages": 3,
        "features_per_stage": [4, 8, 12],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[1, 3, 3], 3, [3, 3, 3]],
        "strides": [1, [1, 2, 2], 2],
        "n_conv_per_stage" if family == "PlainConvUNet" else "n_blocks_per_stage": [1, 2, 1],
        "n_conv_per_stage_decoder": [1, 2],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    if family == "bottleneck":
        family, kwargs = "ResidualEncoderUNet", kwargs | BOTTLENECK
    document = {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{family}",
        "arch_kwargs": kwargs | arguments,
    }
    return parse(Architecture, document, "plans")


def layout(architecture):
    network = build_network(architecture, channels=2, heads=5)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def expected(encoder, norm_place=1, batch_norm=False, bias=True):
    """The table above, each layer under its role and its place, the encoder again in the decoder."""
    result = {name: shape for name, shape in HEADS.items() if bias or "transpconvs" not in name or "weight" in name}
    blocks = {f"decoder.{name}": shape for name, shape in DECODER.items()}
    for where in ("encoder", "decoder.encoder"):
        blocks |= {f"{where}.{name}": shape for name, shape in encoder.items()}
    for name, shape in blocks.items():
        for conv in ("conv", "all_modules.0"):
            result[f"{name}.{conv}.weight"] = shape
            if bias and ".skip." not in name:
                result[f"{name}.{conv}.bias"] = shape[:1]
        place = 1 if ".skip." in name or name.endswith((".conv2", ".conv3")) else norm_place
        for norm in ("norm", f"all_modules.{place}"):
            result |= {f"{name}.{norm}.weight": shape[:1], f"{name}.{norm}.bias": shape[:1]}
            if batch_norm:
                result |= {f"{name}.{norm}.running_{what}": shape[:1] for what in ("mean", "var")}
                result[f"{name}.{norm}.num_batches_tracked"] = ()
    return result


@pytest.mark.parametrize("family", ENCODERS)
def test_names_and_shapes_equal_the_library(family):
    assert layout(the_network(family)) == expected(ENCODERS[family])


@pytest.mark.parametrize(("family", "count"), [("PlainConvUNet", 96), ("ResidualEncoderUNet", 200)])
def test_the_number_of_weights_equals_the_library(family, count):
    assert len(layout(the_network(family))) == count


@pytest.mark.parametrize("family", ENCODERS)
def test_batch_normalization_has_running_statistics(family):
    assert layout(the_network(family).with_batch_norm()) == expected(ENCODERS[family], batch_norm=True)


def test_dropout_takes_a_place_and_has_no_weights():
    architecture = the_network("PlainConvUNet", dropout_op="torch.nn.Dropout3d", dropout_op_kwargs={"p": 0.5})
    assert layout(architecture) == expected(PLAIN_ENCODER, norm_place=2)


def test_dropout_in_residual_blocks_is_in_the_first_convolution_only():
    architecture = the_network("ResidualEncoderUNet", dropout_op="torch.nn.Dropout3d")
    assert layout(architecture) == expected(RESIDUAL_ENCODER, norm_place=2)


def test_the_nonlinearity_may_come_first():
    assert layout(the_network("PlainConvUNet", nonlin_first=True)) == expected(PLAIN_ENCODER, norm_place=2)


def test_convolutions_may_have_no_bias():
    assert layout(the_network("PlainConvUNet", conv_bias=False)) == expected(PLAIN_ENCODER, bias=False)


@pytest.mark.parametrize("family", ENCODERS)
def test_a_layer_is_the_same_under_all_its_names(family):
    network = build_network(the_network(family), channels=2, heads=5)
    weights = network.state_dict()
    block = "encoder.stages.1.0.convs.1" if family == "PlainConvUNet" else "encoder.stages.1.blocks.1.conv1"
    names = [f"{where}{block}.{role}.weight" for where in ("", "decoder.") for role in ("conv", "all_modules.0")]
    assert len({weights[name].data_ptr() for name in names}) == 1


@pytest.mark.parametrize("family", ["PlainConvUNet", "ResidualEncoderUNet"])
@pytest.mark.parametrize("patch", [(16, 16, 16), (16, 16)], ids=["3D", "2D"])
def test_logits_have_the_shape_of_the_patch(family, patch):
    plans = RandomModel(patch=patch, spacing=(1.0,) * len(patch), family=family)
    configuration = plans.plans()["configurations"][plans.configuration]
    architecture = parse(Architecture, configuration["architecture"], "plans")
    network = build_network(architecture, channels=2, heads=5)
    assert not network.training
    with torch.no_grad():
        assert network(torch.zeros(1, 2, *patch)).shape == (1, 5, *patch)
