"""Several models as an ensemble, whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Sequence

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.model import TrainedModel

Model = TrainedModel | Sequence[TrainedModel]


def members_of(model: Model) -> tuple[TrainedModel, ...]:
    """The members of an ensemble; a single model is an ensemble of one.

    Raises `ModelError` without members, and if labels or channels differ, because averages would be meaningless.
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
