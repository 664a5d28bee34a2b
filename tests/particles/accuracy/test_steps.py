"""What particles say of their steps: errors that are right, steps that are refused, and particles that never notice."""

from __future__ import annotations

import math
from dataclasses import replace

from mvpde.runtime import MPI, ArgumentError, InvariantError  # isort: skip

import numpy as np
import pytest

from at_hand.models import circle_network, desai_zwanzig
from mvpde.models.fokker_planck import fokker_planck
from mvpde.models.laws import Normal, Product
from mvpde.models.mean_field import MeanField
from mvpde.particles.accuracy.slope import rounded_down
from mvpde.particles.accuracy.student import student
from mvpde.particles.blocks import BLOCK
from mvpde.particles.characteristics import Characteristics
from mvpde.particles.ensemble import Ensemble

WORLD, SELF = MPI.COMM_WORLD, MPI.COMM_SELF
LINE = Product((Normal(0.3, 0.5),))


def well(stiffness: float = 1.0, temperature: float = 1.0) -> MeanField:
    model = fokker_planck(("x",), potential=f"{0.5 * stiffness}*x**2", temperature=temperature)
    return replace(model, observables={"square": lambda z: z[:, 0] ** 2})


# --- the error of the step ------------------------------------------------------------------------------------------------------


@pytest.mark.serial
@pytest.mark.parametrize(
    ("scheme", "a", "within"), [("heun", 0.1, 0.15), ("heun", 0.5, 0.15), ("heun", 1.5, 1.0), ("euler", 0.1, 0.15)]
)
def test_the_error_of_a_linear_step_is_known(scheme: str, a: float, within: float) -> None:
    """Z' = rZ + s√2 ΔB has the stationary variance 2s²a/(1 − r²), with r = 1 − a + ½a², s = 1 − ½a or r = 1 − a, s = 1, not 1.

    Where hλ is beyond 1, half the bound of stability, it is the larger one, by at most two.
    """
    r, s = (1.0 - a + 0.5 * a**2, 1.0 - 0.5 * a) if scheme == "heun" else (1.0 - a, 1.0)
    true = abs(2.0 * s**2 * a / (1.0 - r**2) - 1.0)
    e = Ensemble(well(), LINE, particles=20_000, step=a, scheme=scheme, comm=SELF)
    e.advance(20.0 * a * math.ceil(1.0 / a / 2.0))
    told = e.numbers()["square_step_error"]
    assert (1.0 - 0.15) * true < told < (1.0 + within) * true
    assert e.numbers()["slope"] == pytest.approx(1.0, rel=1e-6)


class Summed:
    """A stream that remembers the sum of what it has drawn, for steps that are longer."""

    def __init__(self, source: np.random.Generator) -> None:
        self.source, self.drawn = source, []

    def standard_normal(self, size):
        self.drawn.append(self.source.standard_normal(size))
        return self.drawn[-1]


class Taken:
    """The normal numbers of the long step that a `Summed` has drawn in short ones."""

    def __init__(self, summed: Summed) -> None:
        self.summed = summed

    def standard_normal(self, size):
        drawn, self.summed.drawn = self.summed.drawn, []
        return np.sum(drawn, axis=0) / math.sqrt(len(drawn))


def against_a_sixteenth(model, law, step: float, count: int, scheme: str) -> tuple[dict[str, float], dict[str, float]]:
    """Errors that are told of `count` steps, and the differences to steps of a sixteenth with the same noise."""
    sizes = {"particles": 4000, "seed": 5, "scheme": scheme, "comm": SELF}
    fine, coarse = Ensemble(model, law, step=step / 16, companion=False, **sizes), Ensemble(model, law, step=step, **sizes)
    fine._streams = [Summed(stream) for stream in fine._streams]
    coarse._streams = [Taken(stream) for stream in fine._streams]
    for k in range(count):
        fine.advance((k + 1) * step)
        coarse.advance((k + 1) * step)
    true = {"loss": float(coarse.losses()[0] - fine.losses()[0])}
    true |= {name: float(coarse.expectation(h)[0] - fine.expectation(h)[0]) for name, h in model.observables.items()}
    return {name: coarse.step_errors()[name] for name in true}, {name: abs(error) for name, error in true.items()}


def squares(model: MeanField, *axes: int) -> MeanField:
    return replace(model, observables={f"square{a}": lambda z, a=a: z[:, a] ** 2 for a in axes})


def tries():
    plane = Product((Normal(1.0, 0.4), Normal(0.0, 0.4)))
    wells = fokker_planck(("x",), potential="0.25*(x**2-1)**2", temperature=0.25)
    stiff = fokker_planck(("x", "y"), drift=["-x + 3*y", "-9*y - 3*x"], diffusion=[["0.5", "0"], ["0", "0.1"]])
    square = fokker_planck(("x",), drift=["-x"], diffusion=[["0.2 + 0.3*x**2"]])
    network, start = circle_network()
    return [
        (squares(wells, 0), LINE, "heun", (0.1, 0.2, 0.4)),
        (squares(wells, 0), LINE, "euler", (0.05, 0.1, 0.2)),
        (squares(stiff, 0, 1), plane, "heun", (0.04, 0.08, 0.12)),
        (squares(square, 0), LINE, "euler", (0.1, 0.2)),
        (squares(desai_zwanzig(2.0, 1.5), 0), LINE, "heun", (0.1, 0.2, 0.3)),
        (network, start, "heun", (0.5, 1.0, 2.0)),
    ]


@pytest.mark.serial
def test_the_error_is_within_a_factor_of_two_in_nine_of_ten_cases() -> None:
    """Wells, rotations with stiff and degenerate noise, multiplicative noise, interaction, a network without noise."""
    ratios = []
    for model, law, scheme, steps in tries():
        for step in steps:
            told, true = against_a_sixteenth(model, law, step, math.ceil(3.0 / step), scheme)
            ratios += [told[name] / true[name] for name in true if true[name] > 0.0]
    good = np.mean([0.5 <= ratio <= 2.0 for ratio in ratios])
    assert len(ratios) >= 20
    assert good >= 0.9, sorted(ratios)


@pytest.mark.ranks
def test_copies_change_no_particle_and_know_no_ranks() -> None:
    def ensemble(comm: MPI.Intracomm, companion: bool) -> Ensemble:
        model, law = circle_network(temperature=0.05)
        return Ensemble(model, law, particles=BLOCK + 900, runs=2, step=0.25, companion=companion, comm=comm)

    measures = [ensemble(WORLD, True), ensemble(SELF, True), ensemble(SELF, False)]
    for e in measures:
        e.advance(1.0)
    moments = [e.moments().tobytes() for e in measures]
    assert moments[0] == moments[1] == moments[2]
    assert measures[0].numbers() == measures[1].numbers()
    assert measures[0].step_errors()["loss"] > 0.0 and measures[2].step_errors() == {}
    state = measures[0].state()
    again = ensemble(WORLD, True)
    again.restore(state)
    for e in (measures[0], again):
        e.advance(1.5)
    assert again.numbers() == measures[0].numbers()


# --- steps that are refused, chosen, and too long on the way --------------------------------------------------------------------


@pytest.mark.serial
def test_a_step_that_is_unstable_at_the_start_is_refused() -> None:
    """V = 50x²: steps of .05 multiply by −4 or 8.5, and variances by 10⁷⁰."""
    for scheme, better in (("heun", "0.002"), ("euler", "0.0002")):
        e = Ensemble(well(100.0), LINE, particles=500, scheme=scheme, comm=SELF)
        with pytest.raises(
            ArgumentError, match=rf'is 0\.05, .* rate 100 .* longer than 0\.02 .* better {better}, or step = "auto"'
        ):
            e.advance(1.0)
        assert e.time == 0.0
    Ensemble(well(100.0), LINE, particles=500, comm=SELF).advance(0.01)  # a step that the output time shortens is stable


@pytest.mark.serial
@pytest.mark.parametrize("scheme", ["heun", "euler"])
def test_a_chosen_step_is_right_for_any_stiffness(scheme: str) -> None:
    """The stationary variance τ/k within four standard errors, the error of the step below one."""
    for k in (1.0, 100.0):
        n = 4000
        e = Ensemble(well(k), LINE, particles=n, step="auto", scheme=scheme, comm=SELF)
        e.advance(4.0 / k)
        error = math.sqrt(2.0 / n) / k
        exact = 1.0 / k + (0.25 - 1.0 / k) * math.exp(-8.0)
        second = e.expectation(lambda z: z[:, 0] ** 2)[0]
        assert abs(second - (0.3 * math.exp(-4.0)) ** 2 - exact) < 4.0 * error
        assert e.numbers()["square_step_error"] < error


@pytest.mark.serial
def test_particles_that_grow_a_thousandfold_stop_the_run() -> None:
    """ẋ = x from .3 ± .5 is beyond 10³ × its start at about t = 7.5, long before it is infinite."""
    model = fokker_planck(("x",), drift=["x"], temperature=0.0)
    e = Ensemble(model, LINE, particles=100, comm=SELF)
    with pytest.raises(InvariantError, match=r"have grown to .* 1000 times what start .*ensemble\.step smaller than 0\.05"):
        e.advance(20.0)
    assert 5.0 < e.time < 10.0


@pytest.mark.serial
@pytest.mark.parametrize("nodes", [(4, 2), (8, 4), (16, 8)])
def test_characteristics_know_the_error_of_their_nodes(nodes: tuple[int, int]) -> None:
    """Against 48 × 16 nodes: told at least, and by no more than the difference to half the nodes."""
    model, law = circle_network()
    few, many = (Characteristics(model, law, nodes=n, tolerance=1e-9, comm=SELF) for n in (nodes, (48, 16)))
    for measure in (few, many):
        measure.advance(2.0)
    assert abs(few.losses()[0] - many.losses()[0]) < few.numbers()["loss_error"] < 0.1
    again = Characteristics(model, law, nodes=nodes, tolerance=1e-9, comm=SELF)
    again.restore(few.state())
    assert again.numbers() == few.numbers()


@pytest.mark.serial
def test_steps_are_told_in_one_digit() -> None:
    assert [rounded_down(x) for x in (0.0137, 0.002, 7.9, 30.0)] == [0.01, 0.002, 7.0, 30.0]


@pytest.mark.serial
def test_student_knows_how_little_few_runs_say() -> None:
    assert student(4) == pytest.approx(3.182, abs=1e-3) and student(2) == pytest.approx(12.706, abs=1e-3)
    assert student(math.inf) == pytest.approx(1.960, abs=1e-3) and math.isnan(student(1))


@pytest.mark.serial
def test_runs_of_one_particle_know_the_scatter_of_their_errors() -> None:
    """One copy in a run has no scatter within it; the 24 copied runs of 1000 have."""
    model, law = replace(well(), observables={"first": lambda z: z[:, 0]}), LINE
    e = Ensemble(model, law, particles=1, runs=1000, step=0.2, comm=SELF)
    e.advance(1.0)
    assert e._halved is not None and e._halved.runs.sum() == 24
    d, spread = e._halved.changes(lambda z: z, e._z)
    assert spread[0] == pytest.approx(np.std(d, ddof=1) / math.sqrt(24.0), rel=0.03) and spread[0] > 0.0
    assert e.numbers()["first_step_error"] > spread[0]


@pytest.mark.serial
def test_one_copy_alone_says_nothing_of_its_scatter() -> None:
    one = Ensemble(well(), LINE, particles=1, step=0.1, comm=SELF)
    one.advance(0.5)
    assert math.isnan(one.numbers()["square_step_error"]) and math.isnan(one.numbers()["loss_standard_error"])
