import pytest

from napari_nnunet_cpu import Settings
from napari_nnunet_cpu.errors import NNUNetCPUError, SettingsError
from napari_nnunet_cpu.settings import parse_box, parse_folds, parse_memory, parse_spacing

EXACT = {
    "preset": "exact", "engine": "auto", "device": "auto", "precision": "f32", "agreement": 0.97, "step": 0.5,
    "mirror": True, "cover": False, "box": None, "threads": None, "streams": None, "memory": None,
    "probabilities": False, "uncertainty": None, "postprocess": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("preset", "differences"),
    [
        ("exact", {}),
        ("fast", {"preset": "fast", "mirror": False, "precision": "int8"}),
        ("draft", {"preset": "draft", "mirror": False, "cover": True, "precision": "int8"}),
    ],
)
def test_presets(preset, differences):
    settings = getattr(Settings, preset)()
    assert settings.as_dict() == EXACT | differences
    assert Settings.from_preset(preset) == settings


def test_settings_start_from_exact():
    assert Settings() == Settings.exact()


@pytest.mark.parametrize("preset", ["exact", "fast", "draft"])
def test_options_go_on_top_of_a_preset(preset):
    options = {"engine": "torch", "device": "cuda:1", "precision": "f32", "agreement": 0.9, "step": 1}
    options |= {"mirror": True, "cover": False, "threads": 3}
    expected = EXACT | options | {"preset": preset}
    assert getattr(Settings, preset)(**options).as_dict() == expected
    assert Settings.from_preset(preset, **options).as_dict() == expected


def test_options_that_are_none_leave_the_preset_alone():
    assert Settings.from_preset("fast", mirror=None, step=None, threads=None) == Settings.fast()
    assert Settings.from_preset("exact", mirror=False).mirror is False


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12"])
def test_devices(device):
    assert Settings(device=device).device == device


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "best"}, "unknown preset 'best': choose one of exact, fast, draft"),
        ({"engine": "tensorflow"}, "unknown engine 'tensorflow': choose one of auto, "),
        (
            {"uncertainty": "variance"},
            "unknown uncertainty 'variance': choose one of margin, entropy, disagreement, or None",
        ),
        ({"device": "gpu"}, "unknown device 'gpu': choose auto, cpu, cuda, cuda:N or mps"),
        ({"device": "cuda:"}, "unknown device 'cuda:'"),
        ({"device": "cpu\n"}, "unknown device"),
        ({"device": ""}, "unknown device ''"),
        (
            {"engine": "openvino", "device": "cuda:1"},
            "engine openvino computes on the CPU, not on cuda:1: choose torch or auto",
        ),
        ({"engine": "openvino", "device": "mps"}, "openvino computes on the CPU, not on mps"),
        ({"precision": "f16"}, "unknown precision 'f16': choose one of f32, int8"),
        ({"agreement": -0.1}, "agreement is -0.1: it must be at least 0 and at most 1, as 0.97"),
        ({"agreement": 1.01}, "agreement is 1.01"),
        ({"agreement": float("nan")}, "agreement is nan"),
        ({"step": 0}, "step is 0: it must be above 0 and at most 1"),
        ({"step": -0.5}, "step is -0.5"),
        ({"step": 1.01}, "step is 1.01"),
        ({"step": float("nan")}, "step is nan"),
        ({"threads": 0}, "threads is 0: it must be at least 1, or None for all cores"),
        ({"threads": -1}, "threads is -1"),
        ({"streams": 0}, "streams is 0: it must be at least 1, or None to fit the threads"),
        ({"memory": 0}, "memory is 0 bytes: it must be at least 1, or None for most of the free memory"),
    ],
    ids=lambda value: "-".join(f"{k}={v!r}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_settings_without_sense_are_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        Settings(**options)


def test_a_preset_that_does_not_exist():
    with pytest.raises(SettingsError, match="unknown preset 'as_dict': choose one of exact, fast, draft"):
        Settings.from_preset("as_dict")


def test_settings_errors_are_value_errors_of_the_family():
    with pytest.raises(ValueError, match="step") as caught:
        Settings(step=2)
    assert isinstance(caught.value, NNUNetCPUError)


def test_settings_do_not_change():
    with pytest.raises(AttributeError):
        Settings().step = 1


@pytest.mark.parametrize(
    "text", ["", "0", "nan", ",", "1, 2", "a, b, c", "1, 0, 1", "1, -1, 1", "1, nan, 1", "1, inf, 1"]
)
def test_a_spacing_that_is_none_is_refused(text):
    with pytest.raises(SettingsError, match="spacing is"):
        parse_spacing(text)


def test_spacing_and_folds_as_typed():
    assert parse_spacing("2.5, 0.8,0.75") == (2.5, 0.8, 0.75)
    assert parse_folds("auto") == parse_folds(" auto ") == "auto"
    assert parse_folds("all") == ("all",)
    assert parse_spacing(" 0.5 ") == (0.5, 0.5, 0.5)
    assert parse_folds(" 0, 2 ") == ("0", "2")
    with pytest.raises(SettingsError, match="folds are 'first'; write auto, all, or numbers"):
        parse_folds("first")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9), ("4 GB", 4 * 10**9), ("4gb", 4 * 10**9), (" 500MB ", 500 * 10**6), ("4GiB", 4 * 2**30),
        ("1.5 TiB", 3 * 2**39), ("2.5kB", 2500), ("1000000", 10**6), ("1000000B", 10**6), ("1", 1),
    ],
)  # fmt: skip
def test_memory_as_typed(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "much", "-4GB", "4G", "4 XB", "4iB", "0", "0.5", "1e9", "nan", "4GB 2", "٤GB"]
)
def test_memory_that_is_none_is_refused(text):
    with pytest.raises(SettingsError, match="write a size with its unit, as 4GB, 500MB or 4GiB"):
        parse_memory(text)


@pytest.mark.parametrize("text", ["40:80,60:160,0:1", " 40:80, 60:160 ,0 : 1"])
def test_boxes_are_typed(text: str) -> None:
    assert parse_box(text) == ((40, 80), (60, 160), (0, 1))


@pytest.mark.parametrize(
    "text", ["", "40:80", "40:80,60:160", "1:2,3:4,5:5", "2:1,0:1,0:1", "-1:2,0:1,0:1", "a:b,c:d,e:f"]
)
def test_boxes_that_are_none(text: str) -> None:
    with pytest.raises(SettingsError, match=r"write start:stop along Z, Y and X"):
        parse_box(text)


@pytest.mark.parametrize("box", [((0, 0), (0, 1), (0, 1)), ((-1, 1), (0, 1), (0, 1)), ((0, 1), (0, 1))])
def test_settings_take_boxes_only(box: object) -> None:
    with pytest.raises(SettingsError, match="it must be a start and a larger stop"):
        Settings(box=box)
