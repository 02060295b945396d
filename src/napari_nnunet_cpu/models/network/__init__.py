"""The networks in nnU-Net's plans, built without nnU-Net's packages."""

from napari_nnunet_cpu.models.network.architecture import Architecture, architecture_of_old_plans
from napari_nnunet_cpu.models.network.head_layer import HeadLayer
from napari_nnunet_cpu.models.network.operations import layers
from napari_nnunet_cpu.models.network.patch_fit import check_patch
from napari_nnunet_cpu.models.network.primus import PRIMUS_TRAINERS, Primus
