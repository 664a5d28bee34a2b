"""Exact derivatives of expressions, and the Fokker–Planck models made of matrices and expressions."""

from __future__ import annotations

import numpy as np
import pytest

from at_hand.expressions import evaluated, random_expression
from mvpde.models.expressions.derivatives import RULES, differentiate
from mvpde.models.expressions.parse import FUNCTIONS, OPERATORS, ExpressionError, compile_expression
from mvpde.models.fokker_planck import fokker_planck
from mvpde.particles.sgd_runs import euler_maruyama

ROTATION = [[1.0, 2.0], [-2.0, 1.0]]
EYE = [[1.0, 0.0], [0.0, 1.0]]
NO_MOMENTS = np.zeros(1)


# --- derivatives ----------------------------------------------------------------------------------------------------------------


def test_a_derivative_is_the_limit_of_difference_quotients():
    """|D_h f − f'| is the truncation error, known from D_{2h} − D_h ≈ 3(f' − D_h), plus the rounding of f over h."""
    rng = np.random.default_rng(1)
    compared, h = 0, 1e-4
    for _ in range(400):
        text = random_expression(rng, int(rng.integers(1, 5)))
        expression = compile_expression(text, ("x", "y"))
        x, y = rng.uniform(0.3, 1.7, (2, 50))
        exact = evaluated(differentiate(expression, "x"), x, y)
        values = {k: evaluated(expression, x + k * h, y) for k in (-2, -1, 1, 2)}
        one, two = (values[1] - values[-1]) / (2 * h), (values[2] - values[-2]) / (4 * h)
        size = np.max(np.abs(list(values.values())), axis=0)
        smooth = np.isfinite(size) & (np.abs(two - one) < 1e-3 * (1.0 + np.abs(one))) & (size < 1e6)
        bound = np.abs(two - one) + 1e-14 * size / h * 30 + 1e-9
        assert np.all(np.abs(exact - one)[smooth] <= bound[smooth]), text
        compared += int(smooth.sum())
    assert compared > 10_000  # most points count


def test_every_operation_of_the_vocabulary_has_a_rule():
    assert RULES.keys() == FUNCTIONS.keys() - {"where"} | OPERATORS.keys()  # it is a sum of what is kept and what is dropped


@pytest.mark.parametrize(
    ("text", "derivative"),
    [
        ("(x**2 - 1)**2/4", lambda x: x**3 - x),
        ("abs(x)", np.sign),
        ("maximum(x, 2*x)", lambda x: np.where(x > 0, 2.0, np.where(x < 0, 1.0, 1.5))),
        ("minimum(x, 2*x)", lambda x: np.where(x > 0, 1.0, np.where(x < 0, 2.0, 1.5))),
        ("sign(3)*x + heaviside(2)", np.ones_like),
        ("2**x", lambda x: 2.0**x * np.log(2.0)),
        ("7", np.zeros_like),
    ],
)
def test_known_derivatives(text, derivative):
    """Also at negative numbers under a power, where x^n must not pass through a logarithm, and at kinks, where it is the mean."""
    x = np.array([-1.5, -0.2, 0.0, 0.4, 2.0])
    found = evaluated(differentiate(compile_expression(text, ("x",)), "x"), x)
    np.testing.assert_allclose(found, derivative(x), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("text", ["sign(x)", "x*heaviside(x - 1)"])
def test_a_jump_has_no_derivative(text):
    with pytest.raises(ExpressionError, match="jumps"):
        differentiate(compile_expression(text, ("x",)), "x")


def test_derivatives_of_deeply_nested_expressions_stay_small():
    """A chain of 40 functions and a product of 100 factors: without shared work these would take exponential time."""
    chain, product = "x", "x"
    for _ in range(40):
        chain = f"sin({chain})"
    product = "*".join(["x"] * 100)
    x = np.array([0.9])
    assert np.isfinite(evaluated(differentiate(compile_expression(chain, ("x",)), "x"), x))[0]
    second = differentiate(differentiate(compile_expression(product, ("x",)), "x"), "x")
    np.testing.assert_allclose(evaluated(second, x), 9900 * x**98, rtol=1e-12)


def test_only_a_variable_of_the_expression():
    with pytest.raises(ValueError, match="not one in 'y'"):
        differentiate(compile_expression("x", ("x",)), "y")


# --- models ---------------------------------------------------------------------------------------------------------------------


def test_potential_and_temperature_make_a_gradient_flow():
    model = fokker_planck(("x", "y"), potential="(x**2 - 1)**2/4 + a*x*y + y**2", temperature=0.1, parameters={"a": 0.3})
    z = np.random.default_rng(0).normal(size=(20, 2))
    x, y = z.T
    assert model.gradient_flow and model.temperature == 0.1
    np.testing.assert_allclose(model.external_potential(z), (x**2 - 1) ** 2 / 4 + 0.3 * x * y + y**2, rtol=1e-13)
    exact = np.column_stack([x**3 - x + 0.3 * y, 0.3 * x + 2 * y])
    np.testing.assert_allclose(model.potential_gradient(z, NO_MOMENTS), exact, rtol=1e-13, atol=1e-14)


def test_matrices_make_a_linear_drift_and_a_constant_tensor():
    model = fokker_planck(("x", "y"), drift_matrix=ROTATION, diffusion_matrix=[[1, 0], [0, 0.25]])
    z = np.array([[1.0, 0.0], [0.5, -2.0]])
    assert not model.gradient_flow
    np.testing.assert_array_equal(model.drift(z, NO_MOMENTS), [[-1.0, 2.0], [-0.5 + 4.0, 1.0 + 2.0]])
    np.testing.assert_array_equal(model.diffusion(z, NO_MOMENTS), [np.diag([1, 0.25])] * 2)


def test_a_symmetric_linear_drift_with_isotropic_diffusion_has_a_potential():
    m = np.array([[2.0, 0.5], [0.5, 1.0]])
    z = np.random.default_rng(0).normal(size=(5, 2))
    for diffusion in ({"diffusion_matrix": [[0.3, 0], [0, 0.3]]}, {"temperature": 0.3}):
        model = fokker_planck(("x", "y"), drift_matrix=m, **diffusion)
        assert model.gradient_flow and model.temperature == 0.3
        np.testing.assert_allclose(model.external_potential(z), 0.5 * np.sum(z * (z @ m), axis=1), rtol=1e-13)
        np.testing.assert_allclose(model.external_gradient(z), z @ m, rtol=1e-13)


def test_a_potential_with_a_full_tensor_is_no_gradient_flow_and_keeps_its_energy():
    model = fokker_planck(("x", "y"), potential="x**2 + y**2/2", diffusion_matrix=[[1, 0.5], [0.5, 1]])
    z = np.array([[1.0, 3.0]])
    assert not model.gradient_flow
    np.testing.assert_allclose(model.drift(z, NO_MOMENTS), [[-2.0, -3.0]])
    np.testing.assert_allclose(model.external_potential(z), [5.5])


def test_drift_and_diffusion_as_expressions():
    model = fokker_planck(("x", "y"), drift=["-y", "k*x"], diffusion=[["1 + x**2", "x"], ["x", "1"]], parameters={"k": 2.0})
    z = np.array([[3.0, 4.0]])
    np.testing.assert_allclose(model.drift(z, NO_MOMENTS), [[-4.0, 6.0]])
    np.testing.assert_allclose(model.diffusion(z, NO_MOMENTS), [[[10.0, 3.0], [3.0, 1.0]]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"drift_matrix": ROTATION, "diffusion_matrix": [[1, 0, 0], [0, 1, 0]]}, "diffusion_matrix: must be a square matrix"),
        ({"drift_matrix": ROTATION, "diffusion_matrix": [[1, 0.2], [0.1, 1]]}, "diffusion_matrix: must be symmetric"),
        ({"drift_matrix": ROTATION, "diffusion_matrix": [[1, 2], [2, 1]]}, "diffusion_matrix: .*eigenvalue -1"),
        ({"drift_matrix": ROTATION, "diffusion_matrix": [[1, 0], [0]]}, "diffusion_matrix: is not a matrix"),
        ({"drift_matrix": ROTATION, "diffusion_matrix": [[1]]}, "diffusion_matrix: is 1 × 1, but the number of coordinates is 2"),
        ({"drift_matrix": [[1, 2]], "diffusion_matrix": EYE}, "drift_matrix: must be a square matrix"),
        ({"drift_matrix": [[1, np.nan], [0, 1]], "diffusion_matrix": EYE}, "drift_matrix: has an entry"),
        ({"drift_matrix": ROTATION}, "a diffusion is given by exactly one of .* and there is none"),
        ({"drift_matrix": ROTATION, "potential": "x", "temperature": 1}, "exactly one of .* drift_matrix and potential"),
        ({"potential": "x**2", "temperature": -1.0}, "temperature is -1"),
        ({"potential": "x**2 +", "temperature": 1.0}, "not an expression"),
        ({"potential": "x**2 + u", "temperature": 1.0}, "u"),
        ({"potential": "sign(x)", "temperature": 1.0}, "jumps"),
        ({"drift": ["x"], "temperature": 1.0}, "1 expressions for the coordinates x, y"),
        ({"drift": ["x", "y"], "diffusion": [["1"]]}, "2 rows of 2"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        fokker_planck(("x", "y"), **arguments)


@pytest.mark.parametrize(
    ("m", "a"),
    [
        (ROTATION, [[1.0, 0.0], [0.0, 0.25]]),
        ([[1.0, 0.0], [0.0, 4.0]], [[1.0, 0.9], [0.9, 1.0]]),
        ([[1.0, -1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]]),
        ([[1.0, 0.5, 0.0], [-0.5, 1.0, 0.3], [0.0, 0.0, 2.0]], [[1.0, 0.5, 0.2], [0.5, 1.0, 0.0], [0.2, 0.0, 0.3]]),
    ],
)
def test_paths_of_a_linear_model_have_the_covariance_of_the_recursion(m, a):
    """Euler–Maruyama on dz = −Mz dt + √(2A) dB has exactly Σ' = (I − hM)Σ(I − hM)ᵀ + 2hA; the sample covariance of R normal
    vectors has the variance (Σ_aaΣ_bb + Σ_ab²)/R.
    """
    m, a = np.array(m), np.array(a)
    d, h, runs = len(m), 0.05, 40_000
    model = fokker_planck(("x", "y", "z")[:d], drift_matrix=m, diffusion_matrix=a)
    rng, move = np.random.default_rng(3), euler_maruyama(model)
    z, covariance = np.zeros((runs, d)), np.zeros((d, d))
    for _ in range(30):
        z = move(z, rng, h)
        covariance = (np.eye(d) - h * m) @ covariance @ (np.eye(d) - h * m).T + 2.0 * h * a
    diagonal = np.diag(covariance)
    error = np.sqrt((np.outer(diagonal, diagonal) + covariance**2) / runs)
    assert np.all(np.abs(z.T @ z / runs - covariance) <= 4.5 * error)


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ({"potential": "x + q"}, "potential: unknown name 'q'"),
        ({"potential": "sign(x)"}, "potential: 'sign' jumps"),
        ({"drift": ["q"]}, "drift, entry 0: unknown name 'q'"),
        ({"drift": ["x"], "diffusion": [["t*q"]], "temperature": None}, "diffusion, row 0, entry 0: unknown name 'q'"),
    ],
)
def test_what_is_no_expression_is_named_with_its_key(written: dict, key: str) -> None:
    with pytest.raises(ValueError, match=key):
        fokker_planck(("x",), **{"temperature": 1.0, **written})
