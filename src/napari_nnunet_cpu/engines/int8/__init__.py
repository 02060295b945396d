"""Networks in 8-bit integers, calibrated with crops of the image and checked against float32 on other crops."""

from napari_nnunet_cpu.engines.int8.int8 import Crops, int8_obstacle, int8_or_f32
from napari_nnunet_cpu.engines.int8.known_agreement import AGREEMENTS
