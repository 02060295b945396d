import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from unittest.mock import ANY

import nibabel as nib
import numpy as np
import pytest
import tifffile
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu import Settings, estimate, load_model, read_case, segment
from napari_nnunet_cpu.engines.torch_engine import TorchEngine
from napari_nnunet_cpu.events import duration
from napari_nnunet_cpu.prepare import nonzero_box

pytestmark = pytest.mark.slow

MODEL = "model: Dataset999_Random 3d_fullres, folds 0, 1 (checkpoint_final.pth)"
PLAN = re.compile(r"\d+ tiles, \d+ passes, .*, about .* of memory \((dense|rows|disk)\)")


@pytest.fixture
def tiff(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, smooth_image((16, 20, 18))[0])
    return path


def labels_of(path):
    return nib.load(path).get_fdata().transpose(2, 1, 0)


def complaint(done):
    """What is on stderr, without the lines that say what will run and what it will cost."""
    lines = done.stderr.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("model: ") and not PLAN.fullmatch(line.rstrip()))


def test_the_cost_is_said_before_the_run(nnunet, image, model, monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", str(tmp_path / "cache"))
    arguments = ["segment", image, "-m", model, "-o", "o.nii.gz", "--report", "r.json", "--threads", 1]
    for _ in range(2):  # with the conversion of the network, and without
        case = read_case(image)
        cost = estimate(case, load_model(model), Settings.exact(threads=1), nonzero=nonzero_box(case))
        what, line = nnunet(*arguments).stderr.splitlines()
        assert what == MODEL
        assert line == f"2 tiles, 16 passes, about {duration(cost.seconds)}, about {said(cost)}"
        report = json.loads(Path("r.json").read_text())
        assert report["estimate"] == asdict(cost)
        assert report["runs"][0]["estimate"] == asdict(cost) | {"budget_bytes": ANY}
        assert report["measured"]["tiles"] == 2
        assert report["measured"]["passes"] == 16
        assert report["measured"]["seconds"] == pytest.approx(sum(report["seconds"].values()))
        before = report["runs"][0]["bytes_before"]
        assert report["measured"]["bytes"] == pytest.approx(report["peak_memory_mb"] * 2**20 - before, abs=2**17)
        assert report["runs"][0]["memory"] == {"plan": "dense", "rows": 16, "probabilities_on_disk": False}


def test_only_the_tiles_of_the_cropped_image_are_counted(nnunet, model, tmp_path):
    voxels = np.zeros((16, 24, 40), np.float32)
    voxels[:, :, 30:] = 1
    path = tmp_path / "padded.nii.gz"
    nib.save(nib.Nifti1Image(voxels.T, np.eye(4)), path)
    nnunet("segment", path, "-m", model, "-o", "o.nii.gz", "--report", "r.json", "--threads", 1)
    report = json.loads(Path("r.json").read_text())
    whole = estimate(read_case(path), load_model(model), Settings.exact(threads=1))
    assert report["estimate"]["tiles"] == report["measured"]["tiles"] < whole.tiles


def said(cost):
    return f"{cost.bytes / 1e6:.0f} MB of memory (dense)"


def test_memory_that_is_allowed(nnunet, image, model):
    done = nnunet("segment", image, "-m", model, "-o", "o.nii.gz", "--memory", "2GB", "--json", "--preset", "draft")
    document = json.loads(done.stdout)
    assert document["settings"]["memory"] == 2 * 10**9
    assert document["runs"][0]["estimate"]["budget_bytes"] == 2 * 10**9
    done = nnunet("segment", image, "-m", model, "-o", "o.nii.gz", "--memory", "1MB", "--preset", "draft")
    assert done.exit_code == 1
    needed = re.search(
        r"error: patient_0000 needs about (\d+) MB of memory with this model, but 1 MB are allowed", done.stderr
    )
    assert int(needed[1]) > 1


def test_labels_are_those_of_python(nnunet, image, model, tmp_path):
    out = tmp_path / "labels.nii.gz"
    done = nnunet("segment", image, "-m", model, "-o", out, "--threads", 1)
    assert (done.exit_code, complaint(done)) == (0, "")
    expected = segment(read_case(image), load_model(model), Settings.exact(threads=1))
    assert len(np.unique(expected.labels)) == 3
    np.testing.assert_array_equal(labels_of(out), expected.labels)
    np.testing.assert_allclose(nib.load(out).affine, nib.load(image).affine)


def test_what_people_read(nnunet, image, model, tmp_path):
    out = tmp_path / "labels.nii.gz"
    lines = nnunet("segment", image, "-m", model, "-o", out, "--preset", "fast", "--threads", 1).stdout.splitlines()
    volumes = segment(read_case(image), load_model(model), Settings.fast(threads=1)).volumes()
    for name, volume in volumes.items():
        row = next(line for line in lines if name in line)
        assert f"{volume['voxels']:,}" in row
        assert f"{volume['ml']:,.2f}" in row
    assert lines[-4] == MODEL
    assert lines[-3].startswith("engine: ")
    assert lines[-3].endswith("; f32, not int8: this CPU has no VNNI, the instructions for it")
    assert "fast: 2 tiles, 4 passes" in lines[-2]
    assert lines[-1] == f"labels: {out}"


def test_json_is_the_report_and_nothing_else(nnunet, image, model, tmp_path):
    out, report = tmp_path / "labels.nii.gz", tmp_path / "report.json"
    arguments = ["-m", model, "-o", out, "--report", report, "--preset", "fast", "--threads", 1, "--json"]
    done = nnunet("segment", image, *arguments)
    document = json.loads(done.stdout)
    assert done.stderr == ""
    assert json.loads(report.read_text(encoding="utf-8")) == document
    expected = segment(read_case(image), load_model(model), Settings.fast(threads=1))
    for provenance in (document, expected.provenance):
        for measured in (provenance, *provenance["runs"]):
            del measured["seconds"]
        for run in provenance["runs"]:
            del run["estimate"], run["first_final_seconds"], run["bytes_before"]
        del provenance["time"]
    assert {key: document[key] for key in expected.provenance} == expected.provenance
    assert document["volumes"] == expected.volumes()
    assert document["images"] == [str(image)]
    assert document["outputs"] == {"labels": str(out)}
    assert 50 < document["peak_memory_mb"] < 50_000
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "labels.nii.gz", "patient_0000.nii.gz", "report.json", "working"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], Settings.exact(threads=1)),
        (["--preset", "draft"], Settings.draft(threads=1)),
        (["--preset", "fast", "--mirror"], Settings.fast(mirror=True, threads=1)),
        (["--no-mirror", "--step", "1"], Settings.exact(mirror=False, step=1.0, threads=1)),
        (["--engine", "torch", "--device", "cpu"], Settings.exact(engine="torch", device="cpu", threads=1)),
        (["--engine", "openvino"], Settings.exact(engine="openvino", threads=1)),
        (["--streams", "2"], Settings.exact(threads=1, streams=2)),
        (["--preset", "fast", "--precision", "f32"], Settings.fast(precision="f32", threads=1)),
        (["--precision", "int8", "--agreement", "0.9"], Settings.exact(precision="int8", agreement=0.9, threads=1)),
    ],
)
def test_options_become_settings(nnunet, image, model, options, expected):
    done = nnunet("segment", image, "-m", model, "-o", "o.nii", "--threads", 1, "--json", *options)
    assert json.loads(done.stdout)["settings"] == expected.as_dict()


@pytest.mark.parametrize(
    ("folds", "expected"), [("auto", ["0", "1"]), ("all", ["0", "1"]), ("1", ["1"]), ("1, 0", ["1", "0"])]
)
def test_folds(nnunet, image, model, folds, expected):
    done = nnunet("segment", image, "-m", model, "-o", "o.nii", "-f", folds, "--preset", "draft", "--json")
    assert json.loads(done.stdout)["runs"][0]["model"]["folds"] == expected


def test_the_folds_are_said_before_and_after_and_in_the_report(nnunet, image, tmp_path):
    folder = RandomModel(folds=("0", "1", "all")).write(tmp_path)
    for folds, expected in ((["-f", "all"], "all"), ([], "0, 1"), (["-f", "1"], "1")):
        options = ["-o", "o.nii", "--preset", "draft", "--report", "r.json", *folds]
        done = nnunet("segment", image, "-m", folder, *options)
        line = f"model: Dataset999_Random 3d_fullres, folds {expected} (checkpoint_final.pth)"
        assert line in done.stderr.splitlines()
        assert line in done.stdout.splitlines()
        assert json.loads(Path("r.json").read_text())["runs"][0]["model"]["folds"] == expected.split(", ")


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["for-people", "for-machines"])
def test_an_unknown_trainer_is_told_of(nnunet, image, tmp_path, options):
    folder = RandomModel(trainer="MyTrainer").write(tmp_path)
    done = nnunet("segment", image, "-m", folder, "-o", "o.nii", "--preset", "draft", "--report", "r.json", *options)
    notice = load_model(folder).notice
    assert notice.startswith("trained by MyTrainer, which is not known here")
    assert (done.exit_code, complaint(done)) == (0, f"notice: {notice}\n")
    assert json.loads(Path("r.json").read_text())["runs"][0]["model"]["notice"] == notice


def test_configuration_and_checkpoint(nnunet, image, tmp_path):
    wanted = RandomModel(seed=3).write(tmp_path)
    (wanted / "fold_0" / "checkpoint_final.pth").rename(wanted / "fold_0" / "checkpoint_best.pth")
    RandomModel(patch=(16, 16), spacing=(1.0, 1.0)).write(tmp_path)
    options = ["-m", wanted.parent, "-c", "3d_fullres", "--checkpoint", "checkpoint_best.pth", "--preset", "draft"]
    document = json.loads(nnunet("segment", image, "-o", "o.nii", *options, "--json").stdout)
    model = document["runs"][0]["model"]
    assert (model["configuration"], model["checkpoint"]) == ("3d_fullres", "checkpoint_best.pth")


def test_several_images_are_channels_in_order(nnunet, image, tmp_path):
    two = RandomModel(channels=("T1", "T2")).write(tmp_path)
    other = image.with_name("patient_0001.nii.gz")
    nib.save(nib.Nifti1Image(smooth_image((16, 20, 18), seed=1)[0].T, nib.load(image).affine), other)
    for order in ([image, other], [other, image]):
        nnunet("segment", *order, "-m", two, "-o", "o.nii.gz", "--preset", "fast", "--threads", 1)
        expected = segment(read_case(*order), load_model(two), Settings.fast(threads=1))
        np.testing.assert_array_equal(labels_of("o.nii.gz"), expected.labels)


def test_unknown_spacing_is_said_in_one_line(nnunet, tiff, model):
    done = nnunet("segment", tiff, "-m", model, "-o", "o.tif", "--preset", "draft", "--json")
    assert done.stderr == f"{tiff} states no spacing; 1 mm is assumed, as in nnU-Net: use --spacing\n"
    assert [volume["ml"] for volume in json.loads(done.stdout)["volumes"].values()] == [None, None]
    assert "not known" in nnunet("segment", tiff, "-m", model, "-o", "o.tif", "--preset", "draft").stdout


def test_spacing_given(nnunet, tiff, model):
    options = ["-m", model, "-o", "o.tif", "--preset", "draft", "--threads", 1, "--spacing", "1,1.5,0.8"]
    done = nnunet("segment", tiff, *options, "--json")
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document["image"]["spacing_mm"] == [1, 1.5, 0.8]
    expected = segment(read_case(tiff, spacing_mm=(1, 1.5, 0.8)), load_model(model), Settings.draft(threads=1))
    assert document["volumes"] == expected.volumes()
    np.testing.assert_array_equal(tifffile.imread("o.tif"), expected.labels)
    for volume in document["volumes"].values():
        assert math.isclose(volume["ml"], volume["voxels"] * 1.2e-3)


def test_axes_given(nnunet, tiff, model, tmp_path):
    array = tifffile.imread(tiff)
    tifffile.imwrite(tmp_path / "film.tif", array, imagej=True, metadata={"axes": "TYX"})
    options = ["-m", model, "-o", "o.tif", "--preset", "draft", "--threads", 1]
    refused = nnunet("segment", tmp_path / "film.tif", *options)
    assert refused.exit_code == 1
    assert "name the axes: Z,Y,X" in complaint(refused)
    assert nnunet("segment", tmp_path / "film.tif", *options, "--axes", "Z,Y,X").exit_code == 0
    expected = segment(read_case(tiff, axes="Z,Y,X"), load_model(model), Settings.draft(threads=1))
    np.testing.assert_array_equal(tifffile.imread("o.tif"), expected.labels)


def test_folders_of_outputs_are_made(nnunet, image, model):
    outputs = {
        "-o": "a/b/o.nii.gz",
        "--report": "c/r.json",
        "--probabilities": "d/e/p.npz",
        "--uncertainty": "a/f/d.nii.gz",
    }
    given = [part for pair in outputs.items() for part in pair]
    done = nnunet("segment", image, "-m", model, "--preset", "draft", "--threads", 1, *given)
    assert done.exit_code == 0, done.stderr
    assert all(Path(path).is_file() for path in outputs.values())


def test_a_damaged_image_is_named_in_one_line(nnunet, image, model):
    content = bytearray(image.read_bytes())
    content[-6] ^= 1
    image.write_bytes(content)
    done = nnunet("segment", image, "-m", model, "-o", "o.nii.gz")
    assert done.exit_code == 1
    assert complaint(done).startswith(f"error: {image} is damaged: ")
    assert complaint(done).count("\n") == 1


@pytest.fixture(scope="module")
def cascade(tmp_path_factory):
    low = RandomModel(spacing=(2.0, 2.0, 2.0), called="3d_lowres", seed=5)
    return RandomModel(first_stage=low).write(tmp_path_factory.mktemp("cascade"))


def test_a_cascade_is_one_command(nnunet, image, cascade):
    options = ["-m", cascade, "--preset", "fast", "--threads", 1]
    done = nnunet("segment", image, *options, "-o", "o.nii.gz", "--save-first-stage", "low.nii.gz")
    assert done.exit_code == 0
    for said in (done.stderr, done.stdout):
        models = [line.split(",")[0] for line in said.splitlines() if line.startswith("model: ")]
        assert models == [f"model: Dataset999_Random {stage}" for stage in ("3d_lowres", "3d_cascade_fullres")]
    expected = segment(read_case(image), load_model(cascade), Settings.fast(threads=1))
    np.testing.assert_array_equal(labels_of("o.nii.gz"), expected.labels)
    np.testing.assert_array_equal(labels_of("low.nii.gz"), expected.first_stage.labels)
    assert len(np.unique(expected.labels)) == 3
    given = ["--first-stage", "low.nii.gz", "--report", "r.json"]
    done = nnunet("segment", image, *options, "-o", "again.nii.gz", *given)
    np.testing.assert_array_equal(labels_of("again.nii.gz"), expected.labels)
    runs = json.loads(Path("r.json").read_text())["runs"]
    assert [run["model"]["configuration"] for run in runs] == ["3d_cascade_fullres"]
    assert "3d_lowres" not in done.stderr  # it does not run


def test_an_ensemble_is_one_command(nnunet, image, model, tmp_path):
    flat = RandomModel(patch=(16, 16), spacing=(1.0, 1.0)).write(tmp_path)
    options = ["--preset", "draft", "--threads", 1, "-o", "o.nii.gz", "--probabilities", "p.npz"]
    done = nnunet("segment", image, "-m", model, "-m", flat, *options, "--json")
    settings = Settings.draft(threads=1, probabilities=True)
    expected = segment(read_case(image), [load_model(model), load_model(flat)], settings)
    np.testing.assert_array_equal(labels_of("o.nii.gz"), expected.labels)
    np.testing.assert_array_equal(np.load("p.npz")["probabilities"], expected.probabilities)
    assert json.loads(done.stdout)["outputs"] == {"labels": "o.nii.gz", "probabilities": "p.npz"}


def test_postprocessing_is_applied_when_asked_for(nnunet, image, tmp_path):
    model = RandomModel(postprocessing=[[1, 2]]).write(tmp_path)
    for flag in ([], ["--postprocess"]):
        nnunet("segment", image, "-m", model, "-o", "o.nii.gz", "--preset", "fast", "--threads", 1, *flag)
        settings = Settings.fast(threads=1, postprocess=bool(flag))
        expected = segment(read_case(image), load_model(model), settings).labels
        np.testing.assert_array_equal(labels_of("o.nii.gz"), expected)


def test_labels_that_are_read_are_not_overwritten(nnunet, image, cascade):
    nnunet("segment", image, "-m", cascade, "-o", "o.nii.gz", "--save-first-stage", "low.nii.gz", "--preset", "draft")
    before = Path("low.nii.gz").read_bytes()
    done = nnunet("segment", image, "-m", cascade, "-o", "low.nii.gz", "--first-stage", "low.nii.gz")
    assert (done.exit_code, done.stderr) == (
        2, "error: low.nii.gz is also an input: choose another output file\n"
    )  # fmt: skip
    assert Path("low.nii.gz").read_bytes() == before


def test_names_of_strangers_do_not_command_the_terminal(nnunet, image, tmp_path, monkeypatch):
    labels = {"background": 0, "a\x1b[2Jb": 1, "[/red]": 2, "c\x9bd": 3}
    folder = RandomModel(labels=labels, called="[red]x[/y]").write(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")  # a bar is drawn
    monkeypatch.setenv("NO_COLOR", "1")
    done = nnunet("segment", image, "-m", folder, "-m", folder, "-o", "o.nii.gz", "--preset", "draft")
    assert done.exit_code == 0
    assert "[red]x[/y]: " in done.stderr
    for text in (done.stdout, nnunet("inspect", folder).stdout):
        assert "a\\x1b[2Jb" in text
        assert "c\\x9bd" in text
        assert "[/red]" in text
        assert "\x1b[2J" not in text
        assert "\x9b" not in text


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"IMAGE": ["missing.nii.gz"]}, 1, "missing.nii.gz is not a file"),
        ({"IMAGE": ["{image}", "{image}"]}, 1, "channel"),
        ({"IMAGE": ["."]}, 1, "is a folder; name the files of one case, a file per channel"),
        ({"-m": "nowhere"}, 1, "nowhere does not exist"),
        ({"-m": "."}, 1, "not an nnU-Net v2 model"),
        ({"-f": "7"}, 1, "no fold_7"),
        ({"--checkpoint": "checkpoint_best.pth"}, 1, "checkpoint_best.pth"),
        ({"--device": "cuda:99"}, 1, "cuda:99 is not available"),
        ({"-o": "{image}/new/o.nii.gz"}, 1, "patient_0000.nii.gz is not a folder"),
        ({"-o": "o.xyz"}, 1, "unknown ending"),
        ({"-o": "o.png"}, 1, "is a volume"),
        ({"--report": "{image}/r.json"}, 1, "patient_0000.nii.gz is not a folder"),
        ({"-o": "{image}"}, 2, "is also an input"),
        ({"--report": "{image}"}, 2, "is also an input"),
        ({"--report": "o.nii.gz"}, 2, "both labels and report"),
        ({"--probabilities": "p.npy"}, 1, "written as .npz"),
        ({"--probabilities": "{image}/p.npz"}, 1, "patient_0000.nii.gz is not a folder"),
        ({"--save-first-stage": "o.nii.gz"}, 2, "both labels and first_stage"),
        ({"--save-first-stage": "low.nii.gz"}, 2, "is not a cascade"),
        ({"--first-stage": "{image}"}, 1, "must hold labels: one channel of whole numbers"),
        ({"--postprocess": None}, 1, "no postprocessing.json"),
        ({"--preset": "quick"}, 2, "unknown preset 'quick'"),
        ({"--engine": "magic"}, 2, "unknown engine 'magic'"),
        ({"--device": "tpu"}, 2, "unknown device 'tpu'"),
        ({"--engine": "openvino", "--device": "cuda"}, 2, "openvino computes on the CPU, not on cuda"),
        ({"--precision": "f16"}, 2, "unknown precision 'f16'"),
        ({"--agreement": "97"}, 2, "agreement is 97"),
        ({"--step": "0"}, 2, "step is 0"),
        ({"--threads": "0"}, 2, "threads is 0"),
        ({"--memory": "0"}, 2, "memory is '0'; write a size with its unit, as 4GB"),
        ({"--memory": "much"}, 2, "memory is 'much'"),
        ({"--axes": "Z,Y,X"}, 2, "axes can be stated for TIFF files alone"),
        ({"--spacing": "1,1"}, 2, "three positive numbers"),
        ({"--spacing": "1,1,-1"}, 2, "three positive numbers"),
        ({"--spacing": "1,1,nan"}, 2, "three positive numbers"),
        ({"-f": "0,,1"}, 2, "folds are '0,,1'"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_errors_are_one_line(nnunet, image, model, changes, code, reason, as_json):
    before = image.read_bytes()
    given = {"IMAGE": ["{image}"], "-m": str(model), "-o": "o.nii.gz"} | changes
    images = given.pop("IMAGE")
    options = [part for pair in given.items() for part in pair if part is not None] + ["--json"] * as_json
    done = nnunet("segment", *[str(part).format(image=image) for part in [*images, *options]])
    assert done.exit_code == code
    said = complaint(done)
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert reason in said
    message = said.removeprefix("error: ").strip()
    assert (json.loads(done.stdout) if as_json else done.stdout) == ({"error": message} if as_json else "")
    assert not list(Path().iterdir())
    assert image.read_bytes() == before


@pytest.mark.parametrize("arguments", [["IMAGE"], ["IMAGE", "-m", "x"], ["IMAGE", "-m", "x", "-o", "y", "--step", "a"]])
def test_usage(nnunet, arguments):
    done = nnunet("segment", *arguments)
    assert done.exit_code == 2
    assert "Usage" in done.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_interrupted(nnunet, image, model, tmp_path, monkeypatch, as_json):
    out = tmp_path / "labels.nii.gz"
    out.write_bytes(b"painted by hand")
    passes = []
    one_pass = TorchEngine.forward

    def interrupted(self, patch, fold):
        passes.append(fold)
        if len(passes) == 3:
            raise KeyboardInterrupt
        return one_pass(self, patch, fold)

    monkeypatch.setattr(TorchEngine, "forward", interrupted)
    options = ["--engine", "torch", "--report", "r.json", *["--json"] * as_json]
    done = nnunet("segment", image, "-m", model, "-o", out, *options)
    assert (done.exit_code, complaint(done)) == (1, "cancelled\n")
    assert done.stdout == ("" if not as_json else json.dumps({"error": "cancelled"}, indent=2) + "\n")
    assert out.read_bytes() == b"painted by hand"
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "weights"), "error: weights: Permission denied\n"),
        (OSError("the disk\nis gone"), "error: the disk is gone\n"),
        (MemoryError(), "error: out of memory; free some and try again\n"),
    ],
)
def test_errors_of_the_system_are_one_line(nnunet, image, model, monkeypatch, error, line):
    def fail(*_):
        raise error

    monkeypatch.setattr(TorchEngine, "forward", fail)
    done = nnunet("segment", image, "-m", model, "-o", "o.nii.gz", "--engine", "torch")
    assert (done.exit_code, complaint(done)) == (1, line)
