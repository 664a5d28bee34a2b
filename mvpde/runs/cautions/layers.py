"""Layers of deep networks that a run computes and does not show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from mvpde.cases.kinds.deep_network import DeepNetworkModel
from mvpde.runs.cautions.caution import Caution, Findings


def judge(found: Findings) -> Iterator[Caution]:
    """Those that train fewer weights than others: a file and a picture have one mesh."""
    sections = found.problem.sections
    if sections.model.kind != "deep_network" or "density" not in found.statistics:
        return
    model = cast("DeepNetworkModel", sections.model)
    short = [k + 1 for k, section in enumerate(model.each) if section.layer.trained != model.coordinates]
    if short and sections.output.fields:
        numbers = ", ".join(map(str, short))
        text = (
            f"density: layers that do not train all of {', '.join(model.coordinates)} are not in density.xdmf and density.png "
            f"({numbers} of {len(model.each)}); layer_mean and layer_variance have them, and DeepDensity.on_mesh in a script"
        )
        yield Caution("density.layers", text, float(len(short)), 0.0)
