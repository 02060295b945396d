"""Read checkpoints without running any code in them."""

from napari_nnunet_cpu.models.checkpoint.summary import CheckpointSummary, keep_summary, read_summary, summary_key
