"""How the measures of a case that are made of points are built; importing this loads the solver."""

from __future__ import annotations

from mvpde.cases.kinds import KINDS
from mvpde.cases.labels import characteristic_nodes
from mvpde.cases.measures import training
from mvpde.cases.problem import Problem
from mvpde.particles.characteristics import Characteristics
from mvpde.particles.ensemble import Ensemble
from mvpde.particles.one_pass import OnePassSgd
from mvpde.particles.sgd_runs import SgdRuns
from mvpde.runtime import MPI


def characteristics(problem: Problem, comm: MPI.Intracomm) -> Characteristics:
    """Quadrature nodes of the initial law. Collective."""
    s = problem.sections.characteristics
    assert s is not None
    nodes = characteristic_nodes(problem.sections, problem.model)
    return Characteristics(problem.model, problem.law, nodes=nodes, tolerance=s.tolerance, comm=comm)


def ensemble(problem: Problem, comm: MPI.Intracomm) -> Ensemble | OnePassSgd:
    """Interacting particles, or the networks whose limit the model is, where that is more than a limit. Collective."""
    s, section = problem.sections.ensemble, problem.sections.model
    assert s is not None
    network = KINDS[section.kind].network
    if network is None:
        return Ensemble(
            problem.model, problem.law, particles=s.particles, runs=s.runs, seed=s.seed, step=s.step, scheme=s.scheme, comm=comm
        )
    trained = network(section)
    return OnePassSgd(
        trained, problem.model, problem.law, particles=s.particles, runs=s.runs, seed=s.seed, step=s.step, comm=comm
    )


def sgd(problem: Problem, comm: MPI.Intracomm) -> SgdRuns:
    """Runs of the training of a small network. Collective."""
    s, order = problem.sections.sgd, getattr(problem.sections.model, "order", 1)
    assert s is not None
    trained = training(problem)
    return SgdRuns(trained, problem.law, runs=s.runs, seed=s.seed, dynamics=s.dynamics, order=order, step=s.step, comm=comm)
