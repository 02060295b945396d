"""Side by side with nnU-Net: both programs on one model and image, in fresh processes, their cost and their labels."""

from napari_nnunet_cpu.bench.case import BenchCase, own_case
from napari_nnunet_cpu.bench.document import measure_live, measure_pairs
from napari_nnunet_cpu.bench.table import HEADER, cells, reference_line, title
from napari_nnunet_cpu.bench.theirs import Theirs
