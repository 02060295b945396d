"""Every term of the memory estimate, as the exact difference of two plans, and of the peaks of two runs."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
from fake_engines import FakeEngine
from random_model import RandomModel

from napari_nnunet_cpu import Case, Run, Settings, TrainedModel, estimate, load_model
from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.export import LabelExport
from napari_nnunet_cpu.models.network.operations import layers
from napari_nnunet_cpu.predict.passes.accumulated_channels import accumulated_channels
from napari_nnunet_cpu.predict.planning import engine_memory, memory
from napari_nnunet_cpu.predict.planning.engine_memory import engine_bytes
from napari_nnunet_cpu.predict.planning.memory import MemoryPlan, plan_memory
from napari_nnunet_cpu.predict.planning.plan import export_of
from napari_nnunet_cpu.predict.tiles.grid import Grid
from napari_nnunet_cpu.predict.uncertainty import uncertainty_export
from napari_nnunet_cpu.prepare import plan_geometry

PLAIN = Settings.exact(mirror=False, threads=1)
PATCH = (8, 16, 16)
VOXELS = prod(PATCH)
HEADS = 10
LABELS = {"background": 0} | {f"label {value}": value for value in range(1, HEADS)}
WIDE = {"features_per_stage": [16, 20, 24]}  # more features than heads, so that logits are summed


def case_of(*shape: int, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), channels: int = 1) -> Case:
    return Case(np.broadcast_to(np.float32(1), (channels, *shape)), spacing)


CASE = case_of(40, 16, 16)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrainedModel]:
    made: dict[str, TrainedModel] = {}

    def make(**changes: Any) -> TrainedModel:
        options = {"patch": PATCH, "labels": LABELS, "architecture": WIDE, "mirror_axes": (0, 1, 2)} | changes
        if str(changes) not in made:
            made[str(changes)] = load_model(RandomModel(**options).write(tmp_path_factory.mktemp("model")))
        return made[str(changes)]

    return make


@pytest.fixture(scope="module")
def model(make: Callable[..., TrainedModel]) -> TrainedModel:
    return make()


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that needs no memory, whose own terms are tested apart."""
    monkeypatch.setattr(memory, "engine_bytes", lambda *_: 0)


def planned(
    model: TrainedModel,
    case: Case = CASE,
    settings: Settings = PLAIN,
    any_order: bool = False,
    budget: int = 10**12,
    nonzero: Box | None = None,
) -> tuple[MemoryPlan, LabelExport]:
    geometry = plan_geometry(case, model, nonzero)
    grid = Grid.for_image(geometry.shape, model.configuration.patch_size, settings.step)
    export, channels = export_of(model, settings, geometry), accumulated_channels(model, settings)
    plan = plan_memory(case, model, settings, geometry, grid, export, budget, any_order, channels, len(grid))
    return plan, export


def bytes_of(*arguments: Any, **options: Any) -> int:
    return planned(*arguments, **options)[0].bytes


@pytest.mark.usefixtures("no_engine")
def test_channels_of_the_image(model: TrainedModel, make: Callable[..., TrainedModel]) -> None:
    two = make(channels=("CT", "PET"))
    more = bytes_of(two, case_of(40, 16, 16, channels=2)) - bytes_of(model)
    assert more == 4 * (40 * 16 * 16 + 2 * VOXELS)  # prepared; and in a pass, mirrored or not


@pytest.mark.usefixtures("no_engine")
def test_labels_of_the_image_and_their_export(model: TrainedModel) -> None:
    """Twice as many voxels in the image, and as many in the prepared one."""
    coarse, fine = (
        planned(model, case, any_order=True) for case in (CASE, case_of(80, 16, 16, spacing=(0.5, 1.0, 1.0)))
    )
    working = fine[1].working_bytes - coarse[1].working_bytes
    assert working != 0
    assert fine[0].bytes - coarse[0].bytes == 2 * 40 * 16 * 16 + working


@pytest.mark.usefixtures("no_engine")
def test_labels_of_two_bytes(make: Callable[..., TrainedModel]) -> None:
    labels = [{"background": 0} | {f"label {value}": value for value in range(1, heads)} for heads in (255, 256)]
    byte, word = (planned(make(labels=some, architecture={}), any_order=True) for some in labels)
    # One head more is not accumulated, because features are; export works with one more.
    assert word[0].bytes - byte[0].bytes == 2 * (2 - 1) * 40 * 16 * 16 + word[1].working_bytes - byte[1].working_bytes


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize("spacing", [0.25, 1.0])
def test_preparing_may_need_most(spacing: float, make: Callable[..., TrainedModel]) -> None:
    """The image, prepared; a channel as float32; and twice while it is resampled, on the larger of both grids."""
    model = make(labels={"background": 0, "one": 1}, patch=(2, 2, 2), architecture={"strides": [[1, 1, 1]] * 3})
    plans = [bytes_of(model, case_of(rows, 64, 64, spacing=(spacing, 1.0, 1.0))) for rows in (160, 200)]
    cropped = [bytes_of(model, case_of(400, 64, 64), nonzero=Box((0, rows), (0, 64), (0, 64))) for rows in (160, 200)]
    more, prepared = 40 * 64 * 64, int(40 * spacing) * 64 * 64
    assert plans[1] - plans[0] == 4 * prepared + 4 * more + 2 * 4 * more
    assert cropped[1] - cropped[0] == 4 * more + 2 * 4 * more


@pytest.mark.usefixtures("no_engine")
def test_passes_of_a_tile_are_summed(model: TrainedModel, make: Callable[..., TrainedModel]) -> None:
    one = bytes_of(model)
    assert bytes_of(model, settings=replace(PLAIN, mirror=True)) - one == 4 * VOXELS * HEADS
    assert bytes_of(make(folds=("0", "1"))) - one == 4 * VOXELS * HEADS
    assert bytes_of(make(mirror_axes=()), settings=replace(PLAIN, mirror=True)) == one


@pytest.mark.usefixtures("no_engine")
def test_uncertainty(model: TrainedModel) -> None:
    plain, margin, disagreement = (
        planned(model, settings=replace(PLAIN, mirror=True, uncertainty=kind))
        for kind in (None, "margin", "disagreement")
    )
    measuring = uncertainty_export(model, replace(PLAIN, uncertainty="margin"), plan_geometry(CASE, model))
    assert measuring is not None
    # Measured after the labels are made, and held twice.
    assert margin[0].bytes - plain[0].bytes == (
        2 * 4 * 40 * 16 * 16 + max(measuring.working_bytes - plain[1].working_bytes, 0)
    )
    # One channel more in the rows; and of a tile the probabilities of a pass, their sum, and entropies.
    rows = disagreement[0].depth * 16 * 16
    assert disagreement[0].bytes - margin[0].bytes == 4 * (rows + VOXELS * (2 * HEADS + 4))


@pytest.mark.usefixtures("no_engine")
def test_sums_on_disk_are_read_in_slabs(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    row = 4 * 16 * 16 * (HEADS + 1)
    dense = planned(model, any_order=True)[0]
    for slab, rows in ((2**26, 8), (3 * row // 4, 3 + 2), (1, 2)):
        monkeypatch.setattr(memory, "SLAB_LOGITS", slab)
        disk = planned(model, any_order=True, budget=dense.bytes - 1)[0]
        assert disk.kind == "disk"
        assert dense.bytes - disk.bytes == row * (40 - rows)


@pytest.mark.usefixtures("no_engine")
def test_an_ensemble_holds_the_sum_of_its_members(model: TrainedModel) -> None:
    settings = replace(PLAIN, memory=10**12)
    one = estimate(CASE, model, replace(settings, probabilities=True))
    two = estimate(CASE, [model, model], settings)
    assert two.bytes - one.bytes == 4 * HEADS * 40 * 16 * 16
    on_disk = replace(settings, memory=one.bytes - 1)  # too little for probabilities in memory
    alone = estimate(CASE, model, replace(on_disk, probabilities=True))
    assert estimate(CASE, [model, model], on_disk).bytes == alone.bytes < one.bytes - 4 * HEADS * 40 * 16 * 16 + 1


@pytest.mark.parametrize("kind", ["openvino", "int8", "torch"])
@pytest.mark.parametrize("family", ["PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet"])
def test_the_engine(kind: str, family: str, make: Callable[..., TrainedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_memory, "likely_engine", lambda _: kind)
    library, copies, maps, first_library, first_copies = engine_memory._ENGINES[kind]
    one, three = (make(family=family, folds=folds) for folds in (("0",), ("0", "1", "2")))
    weights = 4 * sum(layer.weights for layer in layers(one.architecture, 1, HEADS, PATCH))

    def held(model: TrainedModel, channels: int = 0, streams: int = 1, first: bool = False, x86: bool = False) -> int:
        monkeypatch.setattr(engine_memory, "is_first_load", lambda *_: first)
        monkeypatch.setattr(engine_memory, "is_x86", lambda: x86)
        return engine_bytes(model, PLAIN, channels, streams)

    features = 4 * VOXELS * 16
    assert held(one) == int(library + copies * weights + maps * features)
    assert held(one, first=True) - held(one) == pytest.approx(first_library + first_copies * weights, abs=1)
    assert held(three, first=True) - held(one, first=True) == pytest.approx(
        2 * (copies + first_copies) * weights, abs=2
    )
    assert held(one, channels=7) - held(one) == 4 * VOXELS * 7
    # Folds run one after the other, unless there are streams, which hold them all.
    assert held(one, 7, streams=3) - held(one, 7) == pytest.approx(2 * (maps * features + 4 * VOXELS * 7), abs=1)
    assert held(three, 7, streams=2) - held(three, 7) == pytest.approx(5 * (maps * features + 4 * VOXELS * 7), abs=1)
    without_copy = kind == "openvino" and family != "ResidualUNet"
    assert held(one) - held(one, x86=True) == pytest.approx(features if without_copy else 0, abs=1)


def test_a_transformer_has_the_weights_of_its_file(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_memory, "is_first_load", lambda *_: False)
    monkeypatch.setattr(engine_memory, "is_x86", lambda: False)
    monkeypatch.setattr(engine_memory, "Architecture", str)  # so that this network is none
    monkeypatch.setattr(engine_memory, "likely_engine", lambda _: "torch")
    size = model.checkpoints[0].stat().st_size
    assert engine_bytes(model, PLAIN, 0, 1) == int(25e6 + 1.4 * size + 8.0 * 4 * VOXELS)


def test_the_peak_grows_by_what_is_planned(model: TrainedModel) -> None:
    """Sums of all rows, against sums of the rows that tiles overlap in."""
    case = Case(np.random.default_rng(0).normal(size=(1, 96, 16, 16)).astype(np.float32), (1.0, 1.0, 1.0))
    settings = replace(PLAIN, memory=10**12)
    peaks, plans = [], []
    for any_order in (False, False, True):  # first once for what stays from a first run
        engine = FakeEngine(lambda patch, _: patch.repeat(HEADS, 0))
        gc.collect()
        tracemalloc.start()
        try:
            run = Run(case, model, settings, engine, any_order=any_order)
            for _ in run.compute():
                engine.calls.clear()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        plans.append(run.estimate)
    peaks, plans = peaks[1:], plans[1:]
    assert [plan.plan for plan in plans] == ["rows", "dense"]
    sums = 4 * (96 - 8) * 16 * 16 * (HEADS + 1)
    assert plans[1].bytes - plans[0].bytes == sums
    assert peaks[1] - peaks[0] == pytest.approx(sums, rel=0.05)
