"""How the mesh of a case and the measure on it are built; importing this loads the solver."""

from __future__ import annotations

from mvpde.cases.problem import Problem
from mvpde.cases.schema import DensitySection, DomainSection, ShellSection
from mvpde.cases.starts.labels import label_nodes
from mvpde.density.density import Density
from mvpde.mesh.assembly import from_mesh
from mvpde.mesh.box import box
from mvpde.mesh.domain import Domain
from mvpde.mesh.gmsh import read
from mvpde.mesh.refinement import refined
from mvpde.mesh.shell import shell
from mvpde.mesh.union import union
from mvpde.models.laws import restricted
from mvpde.runtime import MPI, ArgumentError, CaseError


def domain(problem: Problem, comm: MPI.Intracomm) -> Domain:
    """The mesh of a case. Collective.

    Raises:
        CaseError: for a mesh that does not exist, cannot be read or has another dimension than the model.
    """
    section, metric = problem.sections.domain, problem.model.metric
    assert section is not None  # `problem` has checked it
    try:
        if section.shell is not None and metric is not None:
            return shell(metric, **_finer(section.shell, problem.sections.refinements).model_dump(), comm=comm)
        if section.mesh is not None:
            return _from_gmsh(problem, section, section.mesh, comm)
        return box(section.lower or [], section.upper or [], section.cells or [], section.periodic, comm=comm)
    except ArgumentError as error:
        key = {"path": "mesh"}.get(error.argument, error.argument)
        raise CaseError(f"[domain] {key}: {error.text}") from None


def _finer(section: ShellSection, times: int) -> ShellSection:
    """A shell of half as wide cells, so many times."""
    factor = 2**times
    return section.model_copy(update={"frequency": factor * section.frequency, "layers": factor * section.layers})


def _from_gmsh(problem: Problem, section: DomainSection, name: str, comm: MPI.Intracomm) -> Domain:
    path, dimension = problem.case.directory / name, len(problem.model.directions)
    grid = read(path, comm)
    if grid.geometry.dim != dimension:
        raise CaseError(
            f"[domain] mesh: '{path}' has dimension {grid.geometry.dim}, but the model has {dimension} coordinates; "
            "give a mesh of that dimension"
        )
    grid = refined(grid, problem.sections.refinements)
    return from_mesh(grid, section.periodic or [False] * dimension, problem.model.metric)


def labelled(problem: Problem, comm: MPI.Intracomm) -> Domain:
    """The mesh of a case, or one copy of it for each label of its frozen coordinates. Collective."""
    mesh, model, law = domain(problem, comm), problem.model, problem.law
    if model.frozen == 0:
        return mesh
    labels, weights = restricted(law, len(model.directions), model.dimension).quadrature(label_nodes(problem.sections, model))
    return union([mesh] * len(weights), weights, labels)


def density(problem: Problem, comm: MPI.Intracomm) -> Density:
    """ρ_0 on the mesh of the case. Collective."""
    s = problem.sections.density or DensitySection()
    mesh = labelled(problem, comm)
    return Density(
        problem.model,
        mesh,
        problem.law,
        scheme=s.scheme,
        cfl=s.cfl,
        tolerance=s.tolerance,
        step=s.step,
        solver=s.solver,
        order_in_time=s.order_in_time,
    )
