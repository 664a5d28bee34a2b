"""The phase diagram of random networks: fixed points and depth scales over a grid of variances, with the critical line."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from mvpde.cases.file import Case, changed
from mvpde.cases.kinds.random_network import PhaseDiagramSection, RandomNetworkModel, Range
from mvpde.cases.values import Section
from mvpde.models.deep.fixed_points import critical_line
from mvpde.runs.deep.random_network import said
from mvpde.runtime import MPI, CaseError
from mvpde.studies.task import Summary, Task


class PhaseDiagramOptions(Section):
    """[options] of this task; what is not given is that of the case's [phase_diagram]."""

    weight_variance: Range | None = Field(
        None, description="σ_w²: [lowest, highest, number of points]", examples=[[0.5, 4.0, 200]]
    )
    bias_variance: Range | None = Field(None, description="σ_b²: [lowest, highest, number of points]", examples=[[0.0, 0.5, 200]])


def _compute(case: Case, options: PhaseDiagramOptions, folder: Path, comm: MPI.Intracomm) -> Summary:
    """The run of a random network with its diagram, and the critical line in the summary."""
    model = case.sections.model
    if not isinstance(model, RandomNetworkModel):
        raise CaseError(f'{case.path}: [model] kind: the task "phase_diagram" is for kind = "random_network"; choose such a case')
    given = {key: value for key, value in options.model_dump().items() if value is not None}
    case = changed(case, {f"phase_diagram.{key}": value for key, value in given.items()})
    section = getattr(case.sections, "phase_diagram", None)
    if not isinstance(section, PhaseDiagramSection):
        raise CaseError(f"{case.path}: [phase_diagram]: the section is missing, and this task needs it; add it to the base case")
    from mvpde.runs.run import run  # what it needs is long to load, and a study's list of points needs none of it

    summary = run(case, out=folder, comm=comm).summary
    _, biases = section.grid()
    line = [said(float(w)) for w in critical_line(model.activation, biases)]
    return {**summary, "critical_line": {"bias_variance": biases.tolist(), "weight_variance": line}}


PHASE_DIAGRAM = Task(PhaseDiagramOptions, _compute)
