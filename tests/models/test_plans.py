import copy
import json
import resource
import time

import pytest
import torch
from model_files import ARGUMENTS, CHECKPOINT, CONFIGURATION, edit_checkpoint, edit_json, places, put
from random_model import RandomModel

from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.errors import ModelError

pytestmark = pytest.mark.slow

UNET = "dynamic_network_architectures.architectures.unet"


@pytest.mark.parametrize(
    "options",
    [
        {"old_layout": True},
        {"old_layout": True, "family": "ResidualEncoderUNet"},
        {"old_layout": True, "patch": (16, 16), "spacing": (1.0, 1.0)},
        {"family": "ResidualEncoderUNet"},
        {"patch": (32, 16), "spacing": (0.5, 0.7)},
        {"trainer": "nnUNetTrainerBN"},
        {"trainer": "nnUNetTrainerBN", "family": "ResidualEncoderUNet"},
        {"trainer": "nnUNetTrainer_250epochs"},
        {"trainer": "nnUNetTrainerNoMirroring"},
        {"channels": ("T1", "T2", "FLAIR"), "mirror_axes": (0, 1, 2)},
        {"normalization": "CTNormalization"},
        {"resampling": "resample_torch_fornnunet"},
        {"resampling": "no_resampling_hack"},
        {"transpose": (2, 0, 1), "reader": "NibabelIOWithReorient"},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()).replace(" ", ""),
)
def test_every_kind_of_model_loads_with_its_weights(tmp_path, options):
    description = RandomModel(**options)
    model = load_model(description.write(tmp_path))
    assert model.configuration.architecture.family == description.family
    assert model.channel_names == tuple(description.channels)
    assert model.mirror_axes == tuple(description.mirror_axes or ())
    assert model.trainer == description.trainer
    assert model.configuration.patch_size == tuple(description.patch)
    weights, expected = model.network(0).state_dict(), description.checkpoint()["network_weights"]
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)


def test_old_plans_double_the_features_up_to_the_most(tmp_path):
    architecture = load_model(RandomModel(old_layout=True).write(tmp_path)).configuration.architecture
    assert architecture.features_per_stage == (4, 8, 8)
    assert (architecture.conv_bias, architecture.norm_op) == (True, "InstanceNorm3d")
    assert (architecture.norm_op_kwargs.eps, architecture.nonlin, architecture.nonlin_kwargs.negative_slope) == (
        1e-5, "LeakyReLU", 0.01,
    )  # fmt: skip


def test_batch_normalization_replaces_the_norm_of_the_plans(tmp_path):
    architecture = load_model(RandomModel(trainer="nnUNetTrainerBN").write(tmp_path)).architecture
    assert architecture.norm_op == "BatchNorm3d"


def inherit(folder, **parents):
    """Spread the configuration over parents; the one called 3d_fullres keeps its patch alone."""
    path = folder / "plans.json"
    document = json.loads(path.read_text())
    base = document["configurations"].pop("3d_fullres")
    document["configurations"] = {
        "3d_fullres": {"inherits_from": "middle", "patch_size": [32, 16, 16]},
        "middle": {"inherits_from": "base", "patch_size": [64, 64, 64], "spacing": [2.0, 1.0, 1.0]},
        "base": base,
    }
    for name, parent in parents.items():
        document["configurations"][name]["inherits_from"] = parent
    path.write_text(json.dumps(document))


def test_a_configuration_inherits_and_the_child_wins(folder):
    inherit(folder)
    configuration = load_model(folder).configuration
    assert configuration.patch_size == (32, 16, 16)
    assert configuration.spacing == (2.0, 1.0, 1.0)
    assert configuration.normalization_schemes == ("ZScoreNormalization",)


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ({"base": "middle"}, "inherit in a circle: 3d_fullres -> middle -> base -> middle$"),
        ({"middle": "middle"}, "inherit in a circle: 3d_fullres -> middle -> middle$"),
        ({"base": "grandparent"}, "has no configuration 'grandparent'; found 3d_fullres, middle, base"),
        ({"base": ["middle"]}, r"has no configuration \['middle'\]; found"),
    ],
    ids=["circle", "itself", "missing", "list"],
)
def test_inheritance_that_leads_nowhere_is_refused(folder, parents, message):
    inherit(folder, **parents)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_a_configuration_that_the_plans_lack(folder):
    edit_checkpoint(folder / CHECKPOINT, lambda content: put(content, "init_args.configuration", "3d_lowres"))
    with pytest.raises(ModelError, match=r"plans\.json has no configuration '3d_lowres'; found 3d_fullres"):
        load_model(folder)


def test_intensities_under_their_old_name(folder):
    path = folder / "plans.json"
    document = json.loads(path.read_text())
    document["foreground_intensity_properties_by_modality"] = document.pop(
        "foreground_intensity_properties_per_channel"
    )
    path.write_text(json.dumps(document))
    edit_json(path, {f"{CONFIGURATION}.normalization_schemes": ["CTNormalization"]})
    assert load_model(folder).plans.foreground_intensity_properties_per_channel["0"].percentile_99_5 == 180.0


def test_channels_are_in_the_order_of_their_numbers(folder):
    names = {str(i): f"channel {i}" for i in reversed(range(11))}
    edit_json(folder / "dataset.json", {"channel_names": names})
    edit_json(
        folder / "plans.json",
        {
            f"{CONFIGURATION}.normalization_schemes": ["NoNormalization"] * 11,
            f"{CONFIGURATION}.use_mask_for_norm": [False] * 11,
        },
    )
    with pytest.raises(ModelError, match=r"is float \(4, 1, 3, 3, 3\), not float \(4, 11, 3, 3, 3\)"):
        load_model(folder)
    weight = torch.zeros(4, 11, 3, 3, 3)

    def widen(content):
        weights = content["network_weights"]
        weights |= {name: weight for name, tensor in weights.items() if tensor.shape == (4, 1, 3, 3, 3)}

    edit_checkpoint(folder / CHECKPOINT, widen)
    assert load_model(folder).channel_names == tuple(f"channel {i}" for i in range(11))


@pytest.mark.parametrize("name", ["dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet"])
def test_the_place_where_older_versions_had_the_network(tmp_path, name):
    folder = RandomModel(family="ResidualEncoderUNet").write(tmp_path)
    edit_json(folder / "plans.json", {f"{CONFIGURATION}.architecture.network_class_name": name})
    assert load_model(folder).configuration.architecture.family == "ResidualEncoderUNet"


def test_one_number_may_stand_for_every_stage(folder):
    edit_json(
        folder / "plans.json",
        {
            f"{ARGUMENTS}.kernel_sizes": 3,
            f"{ARGUMENTS}.n_conv_per_stage_decoder": 1,
            f"{ARGUMENTS}.deep_supervision": True,  # as nnunetv2 2.4 left it there
        },
    )
    architecture = load_model(folder).configuration.architecture
    assert (architecture.kernel_sizes, architecture.n_conv_per_stage_decoder) == ((3, 3, 3), (1, 1))
    load_model(folder).network(0)


# What a stranger could write instead of what nnU-Net writes.
FOREIGN_NAMES = {
    f"{CONFIGURATION}.architecture.network_class_name": r"architecture 'os\.system' is not supported",
    f"{ARGUMENTS}.conv_op": r"conv_op 'os\.system' is not supported; supported are Conv2d, Conv3d",
    f"{ARGUMENTS}.norm_op": r"norm_op 'os\.system' is not supported",
    f"{ARGUMENTS}.dropout_op": r"dropout_op 'os\.system' is not supported",
    f"{ARGUMENTS}.nonlin": r"nonlin 'os\.system' is not supported; supported are LeakyReLU, ReLU",
    f"{ARGUMENTS}.block": "arch_kwargs holds block, which PlainConvUNet does not take",
    f"{CONFIGURATION}.resampling_fn_data": "resampling_fn_data: Input should be 'resample_data_or_seg_to_shape'",
    f"{CONFIGURATION}.resampling_fn_probabilities": "resampling_fn_probabilities: Input should be 'resample_data",
    f"{CONFIGURATION}.normalization_schemes.0": "normalization_schemes.0: Input should be 'ZScoreNormalization'",
    f"{CONFIGURATION}.preprocessor_name": "preprocessor_name: Input should be 'DefaultPreprocessor'",
    f"{CONFIGURATION}.normalization_schemes": "normalization_schemes: Input should be a valid tuple, found 'os.system'",
    "label_manager": "label_manager: Input should be 'LabelManager'",
    "image_reader_writer": r"image reader os\.system is not known",
}


@pytest.mark.parametrize("place", FOREIGN_NAMES)
def test_a_foreign_name_is_refused_and_not_imported(folder, place):
    edit_json(folder / "plans.json", {place: "os.system"})
    with pytest.raises(ModelError, match=FOREIGN_NAMES[place]):
        load_model(folder)


@pytest.mark.parametrize(
    "name", ["torch.nn.Sequential", "torch.hub.load", "torch.nn.Conv1d", "__import__", "Conv3d", "torch.nn.Conv3d "]
)
def test_no_other_name_of_torchs_is_a_convolution(folder, name):
    edit_json(folder / "plans.json", {f"{ARGUMENTS}.conv_op": name})
    with pytest.raises(ModelError, match="conv_op .* is not supported"):
        load_model(folder)


def test_an_architecture_in_our_own_words_is_refused(folder):
    fields = {"family": "PlainConvUNet", "n_stages": 2, "norm_op": "Sequential3d"}
    edit_json(folder / "plans.json", {f"{CONFIGURATION}.architecture": fields})
    with pytest.raises(ModelError, match="architecture None is not supported; supported are PlainConvUNet, Residual"):
        load_model(folder)


def test_an_argument_that_we_do_not_follow_is_refused_by_name(folder):
    edit_json(folder / "plans.json", {f"{ARGUMENTS}.squeeze_excitation": True})
    with pytest.raises(ModelError, match="arch_kwargs holds squeeze_excitation, which PlainConvUNet does not take"):
        load_model(folder)


OUT_OF_BOUNDS = [
    (f"{CONFIGURATION}.patch_size", [16, 16, 10**9]),
    (f"{CONFIGURATION}.patch_size", [16, 16, 0]),
    (f"{CONFIGURATION}.patch_size", [16, 16, -16]),
    (f"{CONFIGURATION}.patch_size", [16, 16]),
    (f"{CONFIGURATION}.patch_size", [16] * 4),
    (f"{CONFIGURATION}.patch_size", "16"),
    (f"{CONFIGURATION}.patch_size", {"0": 16}),
    (f"{CONFIGURATION}.patch_size", [[16], [16], [16]]),
    (f"{CONFIGURATION}.spacing", [1, 1, 0]),
    (f"{CONFIGURATION}.spacing", [1, 1, -1]),
    (f"{CONFIGURATION}.spacing", [1, 1, 10**400]),
    (f"{CONFIGURATION}.spacing", [1, 1, None]),
    (f"{CONFIGURATION}.normalization_schemes", []),
    (f"{CONFIGURATION}.normalization_schemes", ["NoNormalization"] * 2),
    (f"{CONFIGURATION}.use_mask_for_norm", []),
    (f"{CONFIGURATION}.resampling_fn_data_kwargs", {"order": 10**6}),
    (f"{CONFIGURATION}.resampling_fn_data_kwargs", []),
    (f"{CONFIGURATION}.architecture", "PlainConvUNet"),
    (f"{CONFIGURATION}.architecture.arch_kwargs", None),
    (f"{ARGUMENTS}.n_stages", 10**6),
    (f"{ARGUMENTS}.n_stages", 0),
    (f"{ARGUMENTS}.n_stages", -3),
    (f"{ARGUMENTS}.n_stages", True),
    (f"{ARGUMENTS}.n_stages", "3"),
    (f"{ARGUMENTS}.features_per_stage", [4, 8, 10**9]),
    (f"{ARGUMENTS}.features_per_stage", 10**9),
    (f"{ARGUMENTS}.features_per_stage", [4, 8, 0]),
    (f"{ARGUMENTS}.features_per_stage", [4, 8, -8]),
    (f"{ARGUMENTS}.features_per_stage", [4, 8]),
    (f"{ARGUMENTS}.n_conv_per_stage", 10**9),
    (f"{ARGUMENTS}.n_conv_per_stage", None),
    (f"{ARGUMENTS}.n_conv_per_stage_decoder", [1, 10**9]),
    (f"{ARGUMENTS}.kernel_sizes", [3, 3, 10**9]),
    (f"{ARGUMENTS}.kernel_sizes", [3, 3, 0]),
    (f"{ARGUMENTS}.kernel_sizes", [3, 3, [3, 3]]),
    (f"{ARGUMENTS}.strides", [1, 2, -2]),
    (f"{ARGUMENTS}.strides", [1, 2, 10**9]),
    (f"{ARGUMENTS}.norm_op", "torch.nn.InstanceNorm2d"),
    (f"{ARGUMENTS}.norm_op_kwargs", {"eps": 0}),
    (f"{ARGUMENTS}.norm_op_kwargs", {"eps": "small"}),
    (f"{ARGUMENTS}.nonlin_kwargs", {"negative_slope": 1e400}),
    ("transpose_forward", [0, 0, 1]),
    ("transpose_forward", [0, 1, 3]),
    ("transpose_forward", [2, 0, 1]),
    ("transpose_backward", [0, 1]),
    ("configurations", []),
    ("configurations", {}),
    ("configurations.3d_fullres", None),
]


@pytest.mark.parametrize(
    ("place", "value"), OUT_OF_BOUNDS, ids=[f"{p.rpartition('.')[2]}={str(v)[:30]}" for p, v in OUT_OF_BOUNDS]
)
def test_values_out_of_bounds_are_refused(folder, place, value):
    edit_json(folder / "plans.json", {place: value})
    with pytest.raises(ModelError, match=r"plans\.json") as caught:
        load_model(folder)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel_names": {}}, "channel_names"),
        ({"channel_names": "CT"}, "channel_names"),
        ({"channel_names": {"0": ["CT"]}}, "channel_names.0"),
        ({"labels.liver": [1, 2], "regions_class_order": "1"}, "regions_class_order"),
        ({"labels": [0, 1]}, "labels: Input should be a valid dictionary"),
        ({"labels": {"background": 0, "liver": {"a": 1}}}, "labels.liver"),
        ({"labels": {"background": 0, "liver": 1.5}}, "labels.liver"),
        ({"labels.liver": [1, 2], "regions_class_order": {"a": 1}}, "regions_class_order"),
        ({"labels.liver": [1, 2], "regions_class_order": [1, float("nan")]}, "regions_class_order.1"),
    ],
    ids=lambda value: str(value).replace(" ", "") if isinstance(value, dict) else "",
)
def test_a_dataset_of_wrong_types_is_refused(folder, changes, message):
    edit_json(folder / "dataset.json", changes)
    with pytest.raises(ModelError, match=rf"dataset\.json: {message}"):
        load_model(folder)


def test_statistics_are_needed_where_they_are_used(folder):
    edit_json(folder / "plans.json", {"foreground_intensity_properties_per_channel": {}})
    load_model(folder)
    edit_json(folder / "plans.json", {f"{CONFIGURATION}.normalization_schemes": ["CTNormalization"]})
    with pytest.raises(ModelError, match="CTNormalization of channel 0 needs its intensity statistics"):
        load_model(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), None, "bright", [1]], ids=str)
@pytest.mark.parametrize("place", ["mean", "std", "percentile_00_5", "percentile_99_5", "median"])
def test_statistics_are_judged_where_they_are_used(folder, place, value):
    path, before = folder / "plans.json", load_model(folder).describe()
    edit_json(path, {f"foreground_intensity_properties_per_channel.0.{place}": value})
    assert load_model(folder).describe() == before
    edit_json(path, {f"{CONFIGURATION}.normalization_schemes": ["CTNormalization"]})
    if place == "median":
        load_model(folder)
        return
    with pytest.raises(ModelError, match=rf"plans\.json: foreground_intensity_properties_per_channel\.0: {place}: "):
        load_model(folder)


# What nnU-Net writes and inference has no use for: of the plans, of the configuration, of its network, of the dataset.
UNREAD = {
    "plans.json": {
        "original_median_spacing_after_transp", "original_median_shape_after_transp", "experiment_planner_used",
        "foreground_intensity_properties_per_channel", "data_identifier", "batch_size", "median_image_size_in_voxels",
        "batch_dice", "resampling_fn_seg", "resampling_fn_seg_kwargs", "_kw_requires_import", "dropout_op_kwargs", "2d",
    },
    "dataset.json": {"numTraining", "file_ending", "regions_class_order", "license", "name"},
}  # fmt: skip
SHOWN = {("dataset_name",), ("plans_name",), ("channel_names", "0")}  # names of any kind


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None], ids=str)
@pytest.mark.parametrize("name", UNREAD)
def test_what_is_never_read_may_be_anything(folder, name, value):
    path, before = folder / name, load_model(folder).describe()
    document = json.loads(path.read_text())
    if name == "plans.json":
        document["configurations"]["2d"] = {"spacing": [1.0], "architecture": {"arch_kwargs": {"n_stages": 2}}}
    else:
        document |= {"regions_class_order": [1], "license": "none", "name": "liver"}
    for place in places(document):
        changed = copy.deepcopy(document)
        put(changed, place, value)
        path.write_text(json.dumps(changed))
        try:
            after, message = load_model(folder).describe(), ""
        except ModelError as error:
            after, message = before, str(error)
        if place in SHOWN or UNREAD[name] & set(place):
            assert not message
        elif value is not None:  # some options may be null, and without others it is the weights that do not fit
            assert str(path) in message
        assert place in SHOWN or after == before


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"0": 7}, ("7",)),
        ({"0": 1.5}, ("1.5",)),
        ({"0": True}, ("True",)),
        ({"0": None}, ("channel 0",)),
        (["CT"], ("CT",)),
        ([None], ("channel 0",)),
    ],
    ids=str,
)
@pytest.mark.parametrize("key", ["channel_names", "modality"])
def test_channels_may_be_called_anything(folder, key, names, expected):
    edit_json(folder / "dataset.json", {key: names}, without=None if key == "channel_names" else "channel_names")
    assert load_model(folder).channel_names == expected


def test_names_that_are_null_are_those_of_nnunet(folder):
    edit_json(folder / "plans.json", {"dataset_name": None, "plans_name": None})
    model = load_model(folder)
    assert (model.name, model.plans_name) == ("dataset", "nnUNetPlans")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_a_document_may_begin_with_a_mark_of_its_encoding(folder, encoding):
    before = load_model(folder).describe()
    for name in ("plans.json", "dataset.json"):
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(text, encoding=encoding)
    assert load_model(folder).describe() == before


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "can't be read as JSON"),
        (b"{", "can't be read as JSON"),
        (b"[]", "must hold a JSON object, found list"),
        (b"3", "must hold a JSON object, found int"),
        (b"null", "must hold a JSON object, found NoneType"),
        (b"{}", "Field required"),
        (b"\xff\xfe\x00\x01", "can't be read as JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "can't be read as JSON"),
        (b"[" * 200_000, "can't be read as JSON"),
        (b'{"labels": ' * 100_000, "can't be read as JSON"),
        (b"<!DOCTYPE html><html></html>", "can't be read as JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "can't be read as JSON"),
    ],
    ids=["empty", "cut-off", "list", "number", "null", "no-keys", "binary", "long-number", "deep-list", "deep-object",
         "web-page", "lfs-pointer"],
)  # fmt: skip
def test_a_document_that_is_none_is_refused(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name}\b.*{message}") as caught:
        load_model(folder)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
def test_a_document_of_100_mb_is_not_read(folder, name):
    with (folder / name).open("r+b") as file:
        file.truncate(100 * 10**6)
    with pytest.raises(ModelError, match="has 100000000 bytes; a file of a model has at most"):
        load_model(folder)


@pytest.mark.parametrize("depth", [50, 300, 900])
def test_a_deep_value_is_refused_and_not_spelled_out(folder, depth):
    value = []
    for _ in range(depth):
        value = [value]
    edit_json(folder / "plans.json", {f"{CONFIGURATION}.patch_size": value})
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert len(str(caught.value)) < 600


def test_a_wide_network_is_refused_before_it_takes_memory(folder):
    sizes = {"features_per_stage": 8192, "kernel_sizes": 31}
    edit_json(folder / "plans.json", {f"{ARGUMENTS}.{name}": value for name, value in sizes.items()})
    with pytest.raises(ModelError, match=r"is float \(.*\), not float \(8192, .*and \d+ more"):
        load_model(folder)


@pytest.mark.parametrize("family", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_an_absurd_network_is_refused_before_it_takes_memory(tmp_path, family):
    """Within every bound, and a thousand times larger than any computer."""
    folder = RandomModel(family=family).write(tmp_path)
    per_stage = "n_conv_per_stage" if family == "PlainConvUNet" else "n_blocks_per_stage"
    sizes = {"n_stages": 16, "features_per_stage": 8192, "kernel_sizes": 31, "strides": 1}
    arguments = sizes | {per_stage: 64, "n_conv_per_stage_decoder": 64}
    edit_json(folder / "plans.json", {f"{ARGUMENTS}.{name}": value for name, value in arguments.items()})
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ModelError, match="does not fit the network of its plans: it has .* weights for 1984 convolut"):
        load_model(folder)
    assert time.process_time() - started < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024  # kilobytes


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("dataset.json", "labels", {f"label {number}": "wrong" for number in range(70_000)}),
        ("dataset.json", "labels.liver", ["wrong"] * 70_000),
        ("dataset.json", "channel_names", {str(number): 0 for number in range(2000)}),
        ("plans.json", "configurations", {str(number): {"inherits_from": str(number + 1)} for number in range(2000)}),
    ],
    ids=["labels", "values", "channels", "configurations"],
)
def test_more_entries_than_make_sense_are_counted_and_not_read(folder, name, place, value):
    edit_json(folder / name, {place: value})
    with pytest.raises(ModelError, match=r"it has \d+ entries, at most \d+ make sense|Input should be a valid integer"):
        load_model(folder)
