"""Any change to plans.json or dataset.json gives a model or a ModelError, and nothing else."""

import copy
import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_files import places, put
from random_model import RandomModel

from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.errors import ModelError

pytestmark = pytest.mark.slow


def small(blocks: str = "n_conv_per_stage", **options) -> RandomModel:
    """A model of two stages, so that its weights are read in no time."""
    architecture = {
        "n_stages": 2,
        "features_per_stage": [3, 5],
        "kernel_sizes": [[3, 3, 3]] * 2,
        "strides": [[1, 1, 1], [2, 2, 2]],
        blocks: [1, 2],
        "n_conv_per_stage_decoder": [1],
    }
    return RandomModel(architecture=architecture, **options)


RESIDUAL = "n_blocks_per_stage"
MODELS = {
    "3d": small(),
    "residual": small(
        blocks=RESIDUAL, family="ResidualEncoderUNet", channels=("T1", "T2"), normalization="CTNormalization"
    ),
    "regions": small(labels={"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2]),
    "residual-both-ways": small(blocks=RESIDUAL, family="ResidualUNet"),
    "transformer": RandomModel(trainer="nnUNet_Primus_S_Trainer"),  # its plans are read, its weights do not fit
    "old-2d": RandomModel(patch=(16, 16), spacing=(1.0, 1.0), old_layout=True),
}

strange = st.sampled_from(
    [0, -1, 1, 2, 3, 2**31, 10**9, 10**30, 0.5, 1e-300, 1e308, -0.0, True, False, None, [], {}, [[]], [None], [0],
     [1, 1, 1], [-1, -1, -1], {"": ""}, "", "3", "os.system", "torch.nn.Sequential", "3d_fullres", "2d", "\ud800",
     "a\nb", "\0"]
)  # fmt: skip
values = st.recursive(
    strange | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def changed(draw, original):
    """The document with one to three values replaced, taken out, or put where another one was."""
    document = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        everywhere = list(places(document))
        if not everywhere:
            break
        place = draw(st.sampled_from(everywhere))
        outer = document
        for key in place[:-1]:
            outer = outer[key]
        match draw(st.sampled_from(["value", "value", "remove", "move"])):
            case "value":
                put(document, place, copy.deepcopy(draw(values)))
            case "remove":
                del outer[place[-1]]
            case "move":
                source = document
                for key in draw(st.sampled_from(everywhere)):
                    source = source[key]
                put(document, place, copy.deepcopy(source))
    return document


@pytest.fixture(scope="module", params=MODELS)
def valid(request, tmp_path_factory):
    """A model folder and its description."""
    return MODELS[request.param].write(tmp_path_factory.mktemp(request.param)), MODELS[request.param]


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
@settings(max_examples=120, derandomize=True, deadline=None)
@given(data=st.data())
def test_a_changed_document_loads_or_is_refused(valid, name, data):
    folder, description = valid
    original = description.plans() if name == "plans.json" else description.dataset()
    path, kept = folder / name, folder / f"{name}.kept"
    shutil.copy(path, kept)
    try:
        path.write_text(json.dumps(data.draw(changed(original))))
        try:
            model = load_model(folder)
        except ModelError as error:
            message = str(error)
        else:
            message = ""
            json.dumps(model.describe(), allow_nan=False)
            model.network(0)
        assert "\n" not in message
        message.encode()  # it can be printed
    finally:
        kept.replace(path)
