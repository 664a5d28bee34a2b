"""From a problem to its measures: which ones a case asks for, and how each is built on its mesh.

Imports are inside the functions: `mvpde check` and wrong cases answer before the libraries of the solver are loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mvpde.cases.kinds import KINDS
from mvpde.cases.messages import listed, nearest
from mvpde.cases.problem import Problem, blaming, in_file
from mvpde.cases.schema import DomainSection
from mvpde.runtime import MPI, ArgumentError, CaseError

if TYPE_CHECKING:
    from mvpde.mesh.domain import Domain
    from mvpde.models.sgd_network import SgdNetwork


def domain(setting: Problem, comm: MPI.Intracomm) -> Domain:
    """The mesh of a case. Collective.

    Raises:
        CaseError: for a mesh that does not exist, cannot be read or has another dimension than the model.
    """
    section: Any = setting.case.sections.domain
    metric = setting.model.metric
    try:
        if section.shell is not None and metric is not None:
            from mvpde.mesh.shell import shell

            return shell(metric, **section.shell.model_dump(), comm=comm)
        if section.mesh is not None:
            return _from_gmsh(setting, setting.case.directory / section.mesh, section.periodic, comm)
        from mvpde.mesh.box import box

        return box(section.lower, section.upper, section.cells, section.periodic, comm=comm)
    except ArgumentError as error:
        key = {"path": "mesh"}.get(error.argument, error.argument)
        raise CaseError(f"[domain] {key}: {error.text}") from None


def _from_gmsh(setting: Problem, path: Path, periodic: Sequence[bool], comm: MPI.Intracomm) -> Domain:
    from mvpde.mesh.assembly import from_mesh
    from mvpde.mesh.gmsh import read

    grid, dimension = read(path, comm), setting.model.dimension
    if grid.geometry.dim != dimension:
        raise CaseError(
            f"[domain] mesh: '{path}' has dimension {grid.geometry.dim}, but the model has {dimension} coordinates; "
            "give a mesh of that dimension"
        )
    return from_mesh(grid, periodic, setting.model.metric)


def _density(setting: Problem, comm: MPI.Intracomm) -> Any:
    from mvpde.density.density import Density

    s: Any = setting.case.sections.density
    return Density(
        setting.model, domain(setting, comm), setting.law, scheme=s.scheme, cfl=s.cfl, tolerance=s.tolerance, step=s.step
    )


def _characteristics(setting: Problem, comm: MPI.Intracomm) -> Any:
    from mvpde.particles.characteristics import Characteristics

    s: Any = setting.case.sections.characteristics
    return Characteristics(setting.model, setting.law, nodes=s.nodes, tolerance=s.tolerance, comm=comm)


def _ensemble(setting: Problem, comm: MPI.Intracomm) -> Any:
    from mvpde.particles.ensemble import Ensemble

    s: Any = setting.case.sections.ensemble
    model: Any = setting.case.sections.model
    network = KINDS[model.kind].network
    if network is not None:
        from mvpde.particles.one_pass import OnePassSgd

        trained = network(model)
        sizes = {"particles": s.particles, "runs": s.runs, "seed": s.seed, "step": s.step}
        return OnePassSgd(trained, setting.model, setting.law, comm=comm, **sizes)
    return Ensemble(
        setting.model, setting.law, particles=s.particles, runs=s.runs, seed=s.seed, step=s.step, scheme=s.scheme, comm=comm
    )


def training(problem: Problem) -> SgdNetwork:
    """The network of a case that [sgd] may run, and how it is trained.

    Raises:
        CaseError: for a model that is not a limit of one.
    """
    section = problem.sections.model
    made = KINDS[section.kind].training
    if made is None:
        raise CaseError('[sgd]: runs of SGD need kind = "sgd_network" in [model]; remove the section')
    return made(section, problem.data)


def _sgd(setting: Problem, comm: MPI.Intracomm) -> Any:
    from mvpde.particles.sgd_runs import SgdRuns

    s: Any = setting.case.sections.sgd
    order = getattr(setting.case.sections.model, "order", 1)
    return SgdRuns(
        training(setting), setting.law, runs=s.runs, seed=s.seed, dynamics=s.dynamics, order=order, step=s.step, comm=comm
    )


MEASURES: dict[str, Callable[[Problem, MPI.Intracomm], Any]] = {
    "density": _density,
    "characteristics": _characteristics,
    "ensemble": _ensemble,
    "sgd": _sgd,
}


def chosen_measures(setting: Problem, without: Collection[str] = ()) -> list[str]:
    """Names of the measures that a run of the case computes.

    Raises:
        CaseError: if none is left, or `without` names what is no measure.
    """
    for name in without:
        if name not in MEASURES:
            raise CaseError(f"--without {name}: there is no such measure{nearest(name, MEASURES)}; measures: {listed(MEASURES)}")
    hot, model = setting.model.ever_hot, setting.case.sections.model
    names = [name for name in MEASURES if getattr(setting.case.sections, name) is not None and name not in without]
    names = [name for name in names if not (hot and name == "characteristics")]
    names = [name for name in names if not (name == "ensemble" and getattr(model, "dimension", 0.0) == math.inf)]
    if not names:
        raise CaseError(
            f"{setting.case.path}: no measure is left to compute; add one of the sections [density], [ensemble], "
            "[characteristics] (temperature 0 only), or leave out less by --without"
        )
    return names


def measures(setting: Problem, names: Sequence[str], comm: MPI.Intracomm) -> dict[str, Any]:
    """The measures of a case at t = 0, by name. Collective.

    Raises:
        CaseError: for parameters that make no measure, on all ranks alike.
    """
    built = {}
    for name in names:
        with in_file(setting.case), blaming(f"[{name}]"):
            built[name] = MEASURES[name](setting, comm)
    return built


def sizes(setting: Problem, comm: MPI.Intracomm) -> dict[str, int | str]:
    """The sizes of a case's discretisation. Nothing is computed; only a mesh file is read. Collective."""
    s, model = setting.case.sections, setting.model
    answer: dict[str, int | str] = {"coordinates": ", ".join(model.coordinates)}
    if model.data is not None:
        answer["data points"] = len(model.data.weights)
    answer["features"] = model.profile(np.zeros((1, model.profile_dimension))).shape[1]
    if s.density is not None and s.domain is not None:
        nodes, cells = _mesh_sizes(setting, s.domain, comm)
        memory = f"about {nodes * (3000 if model.dimension == 3 else 1000) / 1e6:.0f} MB"
        answer |= {"density nodes": nodes, "cells": cells, "density memory": memory}
    if s.ensemble is not None:
        answer["particles"] = s.ensemble.particles * s.ensemble.runs
    if s.characteristics is not None:
        answer["characteristics"] = math.prod(s.characteristics.nodes)
    return {**answer, "output times": len(s.time.outputs)}


def _mesh_sizes(setting: Problem, section: DomainSection, comm: MPI.Intracomm) -> tuple[int, int]:
    """Numbers of nodes, identified ones counted once, and of simplices."""
    if section.shell is not None:
        directions, layers = 10 * section.shell.frequency**2, section.shell.layers
        return (directions + 2) * (layers + 1), 3 * 2 * directions * layers  # a prism is three tetrahedra
    if section.mesh is not None:
        mesh = domain(setting, comm)
        return mesh.nodes, mesh.space.mesh.topology.index_map(setting.model.dimension).size_global
    cells, periodic = section.cells or [], section.periodic or []
    nodes = math.prod(n + (not p) for n, p in zip(cells, periodic, strict=True))
    return nodes, math.prod(cells) * math.factorial(len(cells))
