"""Several models as one: which may be averaged."""

from __future__ import annotations

from collections.abc import Sequence

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.model import TrainedModel

Model = TrainedModel | Sequence[TrainedModel]


def members_of(model: Model) -> tuple[TrainedModel, ...]:
    """The members of an ensemble; one model is an ensemble of its own.

    Raises
    ------
    ModelError
        When there is none, or when labels or channels differ: their averages would mean nothing.
    """
    members = (model,) if isinstance(model, TrainedModel) else tuple(model)
    if not members:
        raise ModelError("no model given: an ensemble has at least one")
    first = members[0]
    for other in members[1:]:
        for what, one, another in (
            ("labels", first.labels, other.labels),
            ("channels", first.channel_names, other.channel_names),
        ):
            if one != another:
                raise ModelError(f"{first.source} and {other.source} have different {what}; they can't be an ensemble")
    return members
