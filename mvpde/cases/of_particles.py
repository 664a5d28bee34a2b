"""How the measures of a case that are made of points are built; importing this loads the solver."""

from __future__ import annotations

import math

from mvpde.cases.kinds import KINDS
from mvpde.cases.measures import training
from mvpde.cases.problem import Problem
from mvpde.cases.schema import EnsembleSection
from mvpde.cases.starts.labels import characteristic_nodes
from mvpde.particles.accuracy.slope import require_stable
from mvpde.particles.characteristics import Characteristics
from mvpde.particles.ensemble import Ensemble
from mvpde.particles.one_pass import OnePassSgd
from mvpde.particles.schemes import PARTICLE_SCHEMES
from mvpde.particles.sgd_runs import SgdRuns
from mvpde.runtime import MPI, ArgumentError

RATE = 1e-5  # a learning rate that networks of one pass bear


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
        return _particles(problem, s, comm)
    if isinstance(s.step, str):
        raise ArgumentError("step", f'is "auto", but it is the learning rate of these networks; give a number, such as {RATE:g}')
    trained = network(section)
    made = OnePassSgd(
        trained,
        problem.model,
        problem.law,
        particles=s.particles,
        runs=s.runs,
        seed=s.seed,
        step=s.step,
        companion=s.companion,
        comm=comm,
    )
    made.require_stable()
    return made


def _particles(problem: Problem, s: EnsembleSection, comm: MPI.Intracomm) -> Ensemble:
    """Interacting particles, refused where the first step that the output times leave is unstable. Collective."""
    made = Ensemble(
        problem.model,
        problem.law,
        particles=s.particles,
        runs=s.runs,
        seed=s.seed,
        step=s.step,
        scheme=s.scheme,
        companion=s.companion,
        comm=comm,
    )
    require_stable(min(made.step, first_output(problem)), made.slope(), PARTICLE_SCHEMES[made.scheme].order)
    return made


def first_output(problem: Problem) -> float:
    """The first output time after the start."""
    return next((t for t in problem.sections.time.outputs if t > 0.0), math.inf)


def sgd(problem: Problem, comm: MPI.Intracomm) -> SgdRuns:
    """Runs of the training of a small network. Collective."""
    s, order = problem.sections.sgd, getattr(problem.sections.model, "order", 1)
    assert s is not None
    trained = training(problem)
    made = SgdRuns(trained, problem.law, runs=s.runs, seed=s.seed, dynamics=s.dynamics, order=order, step=s.step, comm=comm)
    if made.approximate:
        require_stable(min(made.step, first_output(problem)), made.slope(), 1, otherwise="")
    return made
