"""A run of a random network: its layers, kernels and fixed point, networks of finite width beside them, its phase diagram."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mvpde.cases.file import Case
from mvpde.cases.kinds.random_network import companion_of, diagram_of, inputs_of, model_of
from mvpde.files import replace_whole, write_csv
from mvpde.measure import nothing
from mvpde.models.deep.activations import ACTIVATIONS, Array
from mvpde.models.deep.fixed_points import FixedPoint, critical_line, fixed_point
from mvpde.models.deep.kernels import correlations, covariances, first_covariance, isometry, tangent_kernel
from mvpde.models.deep.signal_maps import slope_power
from mvpde.models.deep.widths import finite_width
from mvpde.particles.accuracy.student import student
from mvpde.particles.deep.random_networks import NetworkSamples, RandomNetworks, sample
from mvpde.runs.deep.phase_diagram import FACTOR, diagram, draw_diagram, write_diagram, write_line
from mvpde.runs.stopping import StopRequest
from mvpde.runtime import MPI, ArgumentError, CaseError, on_first_rank

Entries = Mapping[str, object]

ALIKE = 1e-9  # 1 − c below which ReLU's map has no derivatives of use
CURVES = 12  # pairs of inputs in a picture


def compute(case: Case, folder: Path, comm: MPI.Intracomm, request: StopRequest) -> Entries:
    """Entries of summary.json; layers.csv, and pictures and fields where the case asks for them. Collective."""
    model = model_of(case)
    inputs = on_first_rank(comm, lambda: inputs_of(case))
    with _about_the_model():
        variances = model.weight_variance, model.bias_variance
        fixed = fixed_point(model.activation, *variances)
        k = covariances(model.activation, first_covariance(inputs, *variances), *variances, model.depth, request.check)
        critical = float(critical_line(model.activation, [model.bias_variance])[0])
        found: dict[str, object] = {
            "fixed_point": {key: said(getattr(fixed, key)) for key in ("q", "c", "chi", "xi_c", "xi_grad")},
            "xi_q": said(fixed.xi_q),
            "trainable_depth": said(None if fixed.xi_c is None else FACTOR * fixed.xi_c),
            "critical_weight_variance": said(critical),
            "layers": _layers(k),
            "kernel": k[-1].tolist(),
            "tangent_kernel": tangent_kernel(model.activation, k, model.weight_variance).tolist(),
            "isometry": _isometry(model.activation, fixed, model.weight_variance, model.depth),
        }
        networks = companion_of(case)
        samples = None if networks is None else sample(networks, inputs, comm, request.check)
        if networks is not None and samples is not None:
            found["network"] = on_first_rank(comm, lambda: companion(networks, k, samples, fixed, request.here))
    request.check()
    return {**found, **on_first_rank(comm, lambda: _write(case, folder, k, samples))}


@contextmanager
def _about_the_model() -> Iterator[None]:
    """Errors about arguments are about keys of the same names."""
    try:
        yield
    except ArgumentError as error:
        raise CaseError(f"[model] {error.argument}: {error.text}") from None


def said(number: float | None) -> float | str | None:
    """A number as summary.json has it: "infinity", null for what there is not."""
    if number is None or math.isnan(number):
        return None
    return number if math.isfinite(number) else "infinity"


def _layers(k: Array) -> Entries:
    """Of the first input and the first two under `q` and `c`; of all inputs and pairs beside."""
    c, (row, column) = correlations(k), np.triu_indices(k.shape[1], 1)
    return {
        "q": k[:, 0, 0].tolist(),
        "c": c[:, 0, 1].tolist() if k.shape[1] > 1 else None,
        "variances": np.einsum("laa->la", k).tolist(),
        "correlations": c[:, row, column].tolist(),
    }


def _isometry(activation: str, fixed: FixedPoint, weight_variance: float, depth: int) -> Entries | None:
    """Squared singular values of ``depth`` layers at q*."""
    homogeneous = ACTIVATIONS[activation].homogeneous
    if fixed.q is None and not homogeneous:
        return None
    q = np.full(depth, 1.0 if fixed.q is None else fixed.q)
    mean, gaussian = isometry(activation, q, weight_variance)
    return {
        "mean": mean,
        "gaussian_variance": gaussian,
        "orthogonal_variance": isometry(activation, q, weight_variance, orthogonal=True)[1],
    }


# --- networks of finite width ---------------------------------------------------------------------------------------------------


def companion(
    networks: RandomNetworks,
    k: Array,
    samples: NetworkSamples,
    fixed: FixedPoint,
    between_layers: Callable[[], None] = nothing,
) -> dict[str, object]:
    """What the networks show, beside what is predicted of them."""
    n, pairs = networks.width, np.triu_indices(k.shape[1])
    off = n * (samples.covariances - k[:, *pairs])
    entries: dict[str, object] = {
        "width": n,
        "runs": networks.runs,
        "weights": "orthogonal" if networks.orthogonal else "gaussian",
        "pairs": [[int(a), int(b)] for a, b in zip(*pairs, strict=True)],
        "bias": off.mean(axis=0).tolist(),
        "bias_standard_error": _error_of_mean(off).tolist(),
        "variance": (off.var(axis=0, ddof=1) / n).tolist(),
        "variance_standard_error": (_error_of_variance(off) / n).tolist(),
    }
    if not networks.orthogonal:
        bias, variance = predicted(networks, k, between_layers)
        entries |= {"predicted_bias": bias.tolist(), "predicted_variance": variance.tolist()}
        entries |= {"predicted_shift": bias[-1, 0] / n, "predicted_deviation": variance[-1, 0] / n + (bias[-1, 0] / n) ** 2}
    entries |= _of_one_number(off[:, -1, 0] / n)
    if samples.gradients is not None:
        entries |= _gradients(networks, k, samples.gradients, fixed)
    if samples.squares is not None:
        entries["singular_values"] = _singular_values(networks, k, samples.squares)
    return entries


def _of_one_number(off: Array) -> dict[str, object]:
    """Mean and mean square over networks of K̂ − K of the first input in the last layer, as single numbers for studies."""
    return {
        "shift": float(off.mean()),
        "shift_standard_error": float(_error_of_mean(off)),
        "deviation": float((off**2).mean()),
        "deviation_standard_error": float(_error_of_mean(off**2)),
    }


def _error_of_mean(values: Array) -> Array:
    """Standard error of the mean over the first axis."""
    return np.asarray(values.std(axis=0, ddof=1) / math.sqrt(len(values)))


def _error_of_variance(values: Array) -> Array:
    """Standard error of the variance over the first axis, from the fourth moment."""
    runs, centred = len(values), values - values.mean(axis=0)
    square = (centred**2).mean(axis=0)
    return np.asarray(np.sqrt(np.maximum((centred**4).mean(axis=0) - square**2, 0.0) / runs))


def predicted(networks: RandomNetworks, k: Array, between_layers: Callable[[], None] = nothing) -> tuple[Array, Array]:
    """m_ℓ and the diagonal of v_ℓ for all pairs of inputs, shape (depth, pairs), NaN where ReLU has inputs that are alike.

    Both are 0 where ReLU without biases has an input without variance: K̂ is 0 there too, at any width.
    """
    row, column = np.triu_indices(k.shape[1])
    bias, variance = np.full((2, len(k), len(row)), np.nan)
    place = {(int(a), int(b)): number for number, (a, b) in enumerate(zip(row, column, strict=True))}
    homogeneous = ACTIVATIONS[networks.activation].homogeneous
    silent = homogeneous & (np.einsum("laa->la", k).min(axis=0) == 0.0)
    for a, b in place:
        if silent[a] or silent[b]:
            bias[:, place[a, b]] = variance[:, place[a, b]] = 0.0
            continue
        if a == b and (~silent).sum() > 1:
            continue
        pair = k[:, [a, b]][:, :, [a, b]] if a != b else _alone(networks, k[0, a, a], len(k))
        if homogeneous and correlations(pair)[:, 0, 1].max() > 1.0 - ALIKE:
            continue
        m, v = finite_width(networks.activation, pair, networks.weight_variance, networks.bias_variance, between_layers)
        for state, entry in enumerate(((a, a), (b, b), (a, b))):
            if a != b or state == 0:
                bias[:, place[entry]], variance[:, place[entry]] = m[:, state], v[:, state, state]
    return bias, variance


def _alone(networks: RandomNetworks, q: float, depth: int) -> Array:
    """A single input beside one that has nothing to do with it."""
    return covariances(networks.activation, np.diag([q, q]), networks.weight_variance, networks.bias_variance, depth)


def _gradients(networks: RandomNetworks, k: Array, sizes: Array, fixed: FixedPoint) -> dict[str, object]:
    """Mean squares going down, beside Π χ(q_ℓ), and their slopes per layer beside −log χ_1."""
    factors = networks.weight_variance * slope_power(ACTIVATIONS[networks.activation], k[:-1, 0, 0])
    expected = np.append(np.cumprod(factors[::-1])[::-1], 1.0)
    mean, layer = sizes.mean(axis=0), np.arange(len(expected))
    with np.errstate(divide="ignore"):
        slope = float(np.polyfit(layer, np.log(mean), 1)[0]) if len(layer) > 1 and mean.all() else None
    return {
        "gradients": mean.tolist(),
        "gradients_standard_error": _error_of_mean(sizes).tolist(),
        "predicted_gradients": expected.tolist(),
        "gradient_slope": slope,
        "predicted_gradient_slope": None if not fixed.chi else -math.log(fixed.chi),
    }


def _singular_values(networks: RandomNetworks, k: Array, squares: Array) -> Entries:
    """Mean and variance of s² of ∂z^depth/∂z¹, averaged over networks, beside their limit at the variances of the layers."""
    spread = squares[:, 1] - squares[:, 0] ** 2
    mean, variance = isometry(networks.activation, k[:-1, 0, 0], networks.weight_variance, orthogonal=networks.orthogonal)
    return {
        "mean": float(squares[:, 0].mean()),
        "mean_standard_error": float(_error_of_mean(squares[:, 0])),
        "variance": float(spread.mean()),
        "variance_standard_error": float(_error_of_mean(spread)),
        "predicted_mean": mean,
        "predicted_variance": variance,
    }


# --- files ----------------------------------------------------------------------------------------------------------------------


def _write(case: Case, folder: Path, k: Array, samples: NetworkSamples | None) -> Entries:
    """Everything but the summary; what it says of the diagram."""
    write_csv(folder / "layers.csv", _rows(k, samples))
    model, output, section = model_of(case), case.sections.output, diagram_of(case)
    if output.pictures:
        draw_layers(folder / "layers.png", k, samples, case.sections.title)
    if section is None:
        return {}
    w, b = section.grid()
    found, line = diagram(model.activation, w, b), write_line(folder, model.activation, b)
    if output.fields:
        write_diagram(folder, w, b, found)
    if output.pictures:
        inside = w[0] <= model.weight_variance <= w[-1] and b[0] <= model.bias_variance <= b[-1]
        here = (model.weight_variance, model.bias_variance) if inside else None
        draw_diagram(folder / "phase_diagram.png", model.activation, w, b, found, line, here=here)
    return {"phase_diagram": {"points": list(found.chi.shape[::-1]), "chaotic_share": float((found.chi > 1.0).mean())}}


def _rows(k: Array, samples: NetworkSamples | None) -> list[dict[str, object]]:
    """One row a layer: variances, correlations, and means over the networks of K̂ with their standard errors."""
    c, inputs = correlations(k), k.shape[1]
    row, column = np.triu_indices(inputs)
    names = [f"{a}_{b}" for a, b in zip(row, column, strict=True)]
    rows = []
    for layer in range(len(k)):
        cells: dict[str, object] = {"layer": layer + 1, **{f"q_{a}": k[layer, a, a] for a in range(inputs)}}
        cells |= {f"c_{name}": c[layer, a, b] for name, a, b in zip(names, row, column, strict=True) if a != b}
        if samples is not None:
            at = samples.covariances[:, layer]
            cells |= {f"network_K_{name}": value for name, value in zip(names, at.mean(axis=0), strict=True)}
            cells |= {f"network_K_{name}_standard_error": value for name, value in zip(names, _error_of_mean(at), strict=True)}
        rows.append(cells)
    return rows


def draw_layers(path: Path, k: Array, samples: NetworkSamples | None, title: str) -> None:
    """layers.png: q_ℓ of every input and c_ℓ of every pair, of infinite width and, with bars of 95 %, of the networks."""
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    (row, column), layer = np.triu_indices(k.shape[1], 1), np.arange(1, len(k) + 1)
    curves = np.einsum("laa->la", k), correlations(k)[:, row, column]
    measured = (None, None) if samples is None else _measured(samples.covariances, k.shape[1])
    for axes, limit, dots, name in zip((left, right), curves, measured, ("variance q", "correlation c"), strict=True):
        for number in range(min(limit.shape[1], CURVES)):
            (line,) = axes.plot(layer, limit[:, number], linewidth=1.8)
            if dots is not None:
                mean, error = dots[:, :, number].mean(axis=0), _error_of_mean(dots[:, :, number])
                bars = student(len(dots)) * error
                axes.errorbar(layer, mean, bars, fmt="o", markersize=3.5, color=line.get_color(), capsize=2, elinewidth=1)
        axes.set(xlabel="layer", ylabel=name)
        axes.grid(alpha=0.3, linewidth=0.5)
    right.set_ylim(min(-0.02, float(np.nanmin(curves[1], initial=0.0)) - 0.05), 1.05)
    lines = "lines: infinite width" + ("" if samples is None else "; dots: means over networks, bars of 95 %")
    figure.suptitle(f"{title}\n{lines}" if title else lines, fontsize=11)
    replace_whole(path, lambda aside: figure.savefig(aside, dpi=150))


def _measured(found: Array, inputs: int) -> tuple[Array, Array]:
    """Variances, shape (runs, depth, M), and correlations, shape (runs, depth, M(M − 1)/2), of each network."""
    k = np.empty((*found.shape[:2], inputs, inputs))
    row, column = np.triu_indices(inputs)
    k[..., row, column] = k[..., column, row] = found
    row, column = np.triu_indices(inputs, 1)
    return np.einsum("rlaa->rla", k), correlations(k)[..., row, column]
