"""Engines compute the network: the `Engine` protocol, OpenVINO and torch, and the choice between them."""

from napari_nnunet_cpu.engines.choose import (
    EnginePlan,
    choose_engine,
    likely_engine,
    most_streams,
    plan_engine,
    threads_of,
)
from napari_nnunet_cpu.engines.devices import Device, available_devices, resolve_device
from napari_nnunet_cpu.engines.engine import Engine
from napari_nnunet_cpu.engines.speed import Speed, computer_speed
