"""The figures of `bench.py` against what is required of them, as a Markdown page."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Mapping
from typing import Any

Record = Mapping[str, Any]

QUIET = 0.1  # cores that other processes may take, in the mean over the run, before times stop being evidence
BOUNDS: Mapping[str, Callable[[float, float], bool]] = {"≥": operator.ge, "≤": operator.le}


def efficiency(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Speed-up of two ranks, their ceiling, and ratios, each the median over the rounds.

    The ceiling is the speed-up of two independent half-size processes over one of them alone. ``directly`` compares two ranks
    with the two processes themselves: the same work on the same cores at once, without the messages.
    """

    def median(above: str, below: str) -> float:
        return statistics.median(r[above] / r[below] for r in rounds)

    return {
        "speed_up": median("two_ranks", "one_rank"),
        "ceiling": median("two_processes", "one_process"),
        "ratio": statistics.median(r["two_ranks"] / r["one_rank"] * r["one_process"] / r["two_processes"] for r in rounds),
        "directly": median("two_ranks", "two_processes"),
    }


def square(run: Record) -> str:
    """The mesh in words."""
    return " × ".join(map(str, run["cells"]))


def explicit_at(results: Record, cells: int) -> Record:
    """The explicit run nearest to ``cells`` per direction."""
    return min(results["explicit"], key=lambda run: abs(run["cells"][0] - cells))


def claims(results: Record, taken: float) -> list[dict[str, Any]]:
    """What the project promises: quantity, value as a number and in words, bound, whether it is kept, whether that is decided.

    ``taken`` is the number of cores that other processes took in the mean. Beyond `QUIET` no time is evidence either way:
    with busy cores even the ceiling of two processes sinks to one. Memory does not depend on it.
    """
    stage, mixture, ensemble = explicit_at(results, 256), results["mixture"], results["ensemble"]
    scaling = efficiency(results["parallel"]["rounds"])
    slowest = max(results["tensor"], key=lambda run: run["slowest"])
    tensors = {run["problem"]: efficiency(run["rounds"]) for run in results["tensor_parallel"]}
    weakest = min(tensors, key=lambda name: tensors[name]["ratio"])
    flat = max(results["memory_2d"], key=lambda run: run["peak_bytes_per_node"])
    solid = max(results["memory_3d"], key=lambda run: run["peak_bytes_per_node"])
    rows: list[tuple[str, float, str, str, float, str]] = [
        (
            f"explicit stage, one core, {square(stage)}",
            stage["updates_per_second"],
            f"{stage['updates_per_second'] / 1e6:.1f} million nodes/s",
            "≥",
            7e6,
            "7 million nodes/s",
        ),
        (
            f"two ranks, {square(results['parallel'])}: speed-up over that of two half-size processes",
            scaling["ratio"],
            f"{scaling['speed_up']:.2f} / {scaling['ceiling']:.2f} = {scaling['ratio']:.2f}",
            "≥",
            0.9,
            "0.9",
        ),
        (
            f"share of a stage in moments and potential, K = {stage['features']}, {square(stage)}",
            stage["mean_field_share"],
            f"{100 * stage['mean_field_share']:.1f} %",
            "≤",
            0.15,
            "15 %",
        ),
        (
            f"implicit step with a full tensor, one core, {square(slowest)}: the slowest of any phase ({slowest['problem']})",
            slowest["slowest"],
            f"{slowest['slowest']:.2f} s",
            "≤",
            0.5,
            "0.5 s",
        ),
        (
            f"two ranks for implicit steps with a full tensor, {square(slowest)}: speed-up over that of two half-size processes, "
            f"least of {len(tensors)} problems ({weakest})",
            tensors[weakest]["ratio"],
            f"{tensors[weakest]['speed_up']:.2f} / {tensors[weakest]['ceiling']:.2f} = {tensors[weakest]['ratio']:.2f}",
            "≥",
            0.8,
            "0.8",
        ),
        (f"memory in 2-D, {square(flat)}, at its peak", *kilobytes(flat, 1000.0)),
        (f"memory in 3-D, {square(solid)}, at its peak", *kilobytes(solid, 3000.0)),
        (
            f"ensemble, {ensemble['particles']:.0e} particles, {ensemble['points']} data points, one gradient step",
            ensemble["seconds"],
            f"{ensemble['seconds']:.2f} s",
            "≤",
            1.0,
            "1 s",
        ),
        (
            f"gaussian_mixture, {square(mixture)}, to t = {mixture['end']:g}, one core",
            mixture["seconds"],
            f"{mixture['seconds']:.1f} s",
            "≤",
            40.0,
            "40 s",
        ),
    ]
    return [
        {
            "quantity": q,
            "value": value,
            "measured": words,
            "bound": sign + " " + limit,
            "kept": BOUNDS[sign](value, number),
            "decided": taken <= QUIET or q.startswith("memory"),
        }
        for q, value, words, sign, number, limit in rows
    ]


def verdict(claim: Record) -> str:
    """The last column of the first table."""
    if not claim["decided"]:
        return "undecided: machine busy"
    return "kept" if claim["kept"] else "**missed**"


def kilobytes(run: Record, bound: float) -> tuple[float, str, str, float, str]:
    """A claim on the peak of resident memory."""
    peak = run["peak_bytes_per_node"]
    return peak, f"{peak:.0f} bytes/node (after: {run['bytes_per_node']:.0f})", "≤", bound, f"{bound:.0f} bytes/node"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, tuple("---" for _ in head), *rows])


def machine_section(results: Record) -> str:
    """What the machine can do."""
    machine = results["machine"]
    rows = [
        ("copy of a large array (numpy), read + written", f"{machine['copy_bytes_per_second'] / 1e9:.1f} GB/s"),
        ("exp (numpy, in cache)", f"{machine['exp_per_second'] / 1e9:.2f}e9 elements/s"),
    ]
    rows += [
        (f"PETSc AIJ y = Ax, {p['cells']} × {p['cells']}", f"{p['ns_per_row']:.1f} ns/row, {p['ns_per_entry']:.2f} ns/non-zero")
        for p in machine["spmv"]
    ]
    return table(("the machine, one core", ""), rows)


def explicit_section(results: Record) -> str:
    """Growth of the cost of a stage with the size of the mesh."""
    products = {p["cells"]: p["ns_per_row"] for p in results["machine"]["spmv"]}
    rows = []
    for run in results["explicit"]:
        nanoseconds = 1e9 / run["updates_per_second"]
        rows.append(
            (
                square(run),
                f"{run['nodes']}",
                f"{run['updates_per_second'] / 1e6:.1f}",
                f"{run['best_updates_per_second'] / 1e6:.1f}",
                f"{nanoseconds:.0f}",
                f"{nanoseconds / products[run['cells'][0]]:.0f}",
                f"{100 * run['mean_field_share']:.1f} %",
            )
        )
    head = ("cells", "nodes", "million nodes/s", "best", "ns per node", "products y = Ax", "moments + potential")
    return table(head, rows)


def parallel_section(results: Record) -> str:
    """Two ranks and two processes in every round."""
    rounds, scaling = results["parallel"]["rounds"], efficiency(results["parallel"]["rounds"])
    kinds = ("one_rank", "two_ranks", "one_process", "two_processes")
    rows = [(f"{k + 1}", *(f"{r[kind] / 1e6:.1f}" for kind in kinds)) for k, r in enumerate(rounds)]
    owned = results["parallel"]["owned"]
    medians = (
        f"Medians over the rounds: speed-up {scaling['speed_up']:.3f}, ceiling {scaling['ceiling']:.3f}, "
        f"ratio {scaling['ratio']:.3f}; two ranks against the two processes directly {scaling['directly']:.3f}. "
        f"The ranks own {' and '.join(map(str, owned))} nodes: "
        f"the larger share is {max(owned) * len(owned) / sum(owned):.3f} of the mean."
    )
    return table(("round", "1 rank", "2 ranks", "1 process, half size", "2 processes, half size each"), rows) + "\n\n" + medians


def tensor_section(results: Record) -> str:
    """Implicit steps with a full diffusion tensor, on one rank and on two."""
    steps = [
        (
            run["problem"],
            f"{run['steps']} ({run['limited_steps']}, {run['rejected_steps']})",
            f"{run['median']:.3f}",
            f"{run['mean']:.3f}",
            f"{run['slowest']:.3f}",
            f"{run['solver_iterations'] / run['steps']:.1f}",
        )
        for run in results["tensor"]
    ]
    ranks = []
    for run in results["tensor_parallel"]:
        found = efficiency(run["rounds"])
        ranks.append((run["problem"], *(f"{found[key]:.3f}" for key in ("speed_up", "ceiling", "ratio", "directly"))))
    head = ("problem", "steps (limited, rejected)", "median, s", "mean, s", "slowest, s", "iterations per step")
    return (
        table(head, steps)
        + "\n\n"
        + table(("two ranks", "speed-up", "ceiling", "ratio", "against two processes directly"), ranks)
    )


def memory_section(results: Record) -> str:
    """Resident memory per node."""
    rows = [
        (
            square(run),
            run["scheme"],
            f"{run['nodes']}",
            f"{run['steps']}",
            f"{run['bytes_per_node']:.0f}",
            f"{run['peak_bytes_per_node']:.0f}",
        )
        for run in [*results["memory_2d"], *results["memory_3d"]]
    ]
    return table(("cells", "scheme", "nodes", "steps", "bytes/node after the steps", "at the peak"), rows)


def other_section(results: Record) -> str:
    """Ensemble, implicit steps and the mixture."""
    ensemble, implicit, mixture = results["ensemble"], results["implicit"], results["mixture"]
    cost = results["machine"]["exp_per_second"] / ensemble["pairs_per_second"]
    return "\n".join(
        [
            f"- Ensemble, Euler step: {ensemble['seconds']:.3f} s, {ensemble['pairs_per_second'] / 1e6:.0f} million particles "
            f"× data points per second; a pair costs as much as {cost:.1f} exponentials.",
            f"- Implicit (edge-averaged, τ = 0.05, {square(implicit)}, error control, to t = {implicit['end']:g}): "
            f"{implicit['seconds_per_step']:.3f} s per step, {implicit['steps']} steps, {implicit['rejected_steps']} rejected, "
            f"{implicit['iterations_per_solve']:.1f} Krylov iterations per solve over {implicit['solves']} solves.",
            f"- gaussian_mixture, {square(mixture)}: {mixture['steps']} steps to t = {mixture['end']:g}, "
            f"energy {mixture['energy']:.7f}, mass defect {mixture['mass_defect']:.0e}, minimum {mixture['minimum']:.0e}.",
        ]
    )


def circumstances_section(record: Record) -> str:
    """Machine, date, versions, and what disturbed the run."""
    around, versions = record["circumstances"], record["results"]["machine"]["versions"]
    return (
        f"{around['cpu']}, {around['cores']} cores; {around['date']}; {', '.join(f'{n} {v}' for n, v in versions.items())}. "
        f"Load before the start {around['load_at_start']:.2f}; in the mean over the run other processes took "
        f"{around['cores_taken_by_others']:.2f} cores and other guests of the host {around['cores_stolen_by_host']:.2f}; "
        f"{around['seconds']:.0f} s in all. One thread per process. Made by `make bench`; how each "
        "figure is taken: docs/performance.md."
    )


def markdown(record: Record) -> str:
    """The page."""
    results = record["results"]
    required = [(c["quantity"], c["measured"], c["bound"], verdict(c)) for c in record["claims"]]
    sections = [
        "# Benchmark" + (" (--quick: the figures mean nothing)" if record["circumstances"]["quick"] else ""),
        circumstances_section(record),
        table(("quantity", "measured", "required", ""), required),
        "## The machine\n\n" + machine_section(results),
        "## Explicit stage\n\nMedians of blocks of steps; everything in `advance` counts.\n\n" + explicit_section(results),
        "## Two ranks\n\nMillion nodes per second and stage, in turns.\n\n" + parallel_section(results),
        "## Implicit steps with a full tensor\n\nMedians over rounds of blocks of steps, as above.\n\n" + tensor_section(results),
        "## Memory\n\nGrowth of resident memory from before the mesh, over the nodes.\n\n" + memory_section(results),
        "## Others\n\n" + other_section(results),
    ]
    return "\n\n".join(sections) + "\n"
