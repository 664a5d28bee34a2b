"""Numbers with the errors that are known of them, and which of these limits the answer of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mvpde.reports.page import MINUS, section, shown, table
from mvpde.reports.read import Table

# ending of the key that has the error of a quantity → what the error is of; "" where the measure says
ENDINGS = {"_error": "", "_standard_error": "sampling", "_step_error": "step"}
VALUE, ERROR = ".value", ".error"  # endings of the keys of moments
OF_MEASURE = {"density": "mesh", "characteristics": "nodes"}  # what `_error` is of
REMEDIES = {
    "mesh": "[domain] cells: twice as many in each direction leave about a quarter of it, and [density] accuracy finds them",
    "nodes": "[{name}] nodes: more in each direction",
    "step": "[{name}] step: half of it",
    "sampling": "[{name}] runs or the size of a run: four times as many leave half of it",
}
QUANTITIES = ("loss", "free_energy")  # of which the first that a measure lists, and that is not 0 throughout, is looked at
_DIGITS = 2  # of the largest error


@dataclass(frozen=True)
class Limited:
    """A number of one measure at the last output time.

    Attributes:
        measure, quantity: whose and which.
        value: the number.
        errors: what an error is of → its size.
    """

    measure: str
    quantity: str
    value: float
    errors: Mapping[str, float]

    @property
    def largest(self) -> str:
        """What the largest error is of."""
        return max(self.errors, key=lambda source: self.errors[source])

    @property
    def remedy(self) -> str:
        """The setting to change first."""
        return REMEDIES.get(self.largest, REMEDIES["mesh"]).format(name=self.measure)


def errors_of(measure: str, of: Table, key: str) -> dict[str, Sequence[float | None]]:
    """What an error is of → its lists over the output times, for a quantity that the measure lists."""
    named = {source or OF_MEASURE.get(measure, "mesh"): of.get(f"{key}{ending}") for ending, source in ENDINGS.items()}
    if key.endswith(VALUE):
        named["mesh"] = of.get(f"{key.removesuffix(VALUE)}{ERROR}")
    return {source: values for source, values in named.items() if isinstance(values, list)}


def is_error(key: str, keys: Mapping[str, object]) -> bool:
    """Whether a key has the error of another of these keys."""
    return (key.endswith(ERROR) and f"{key.removesuffix(ERROR)}{VALUE}" in keys) or any(
        key.endswith(ending) and key.removesuffix(ending) in keys for ending in ENDINGS
    )


def limits(summary: Table) -> list[Limited]:
    """One number of each measure with its errors, the least exact measure first; measures without known errors are left out."""
    found = []
    for name, of in summary.items():
        quantity = next((key for key in QUANTITIES if isinstance(of, Mapping) and _says(of.get(key))), None)
        if quantity is None:
            continue
        lists = errors_of(name, of, quantity)
        errors = {source: float(values[-1]) for source, values in lists.items() if values and values[-1] is not None}
        if errors:
            found.append(Limited(name, quantity, float(of[quantity][-1]), errors))
    return sorted(found, key=lambda limited: -max(limited.errors.values()))


def limits_section(summary: Table) -> Markup:
    """The table "what limits this answer"."""
    found = limits(summary)
    if not found:
        return Markup()
    found_of = {one.measure for one in found}
    head = ["measure", "at the last output time", "largest error", "change first"]
    rows = [[one.measure, f"{one.quantity} = {with_errors(one.value, one.errors)}", one.largest, one.remedy] for one in found]
    first = found[0]
    share = max(first.errors.values()) / abs(first.value) if first.value else math.inf
    size = f" ({100 * share:.2g} % of the number)" if math.isfinite(share) else ""
    least = f"What is least exact is {first.measure}, through its {first.largest}{size}."
    sampled = [name for name, of in summary.items() if isinstance(of, Mapping) and _is_sampled(of)]
    caption = least if found_of.issuperset(sampled) else ""  # one that is left out may be less exact
    return section("What limits this answer", table(head, rows, caption))


def with_errors(value: float | None, errors: Mapping[str, float | None]) -> str:
    """0.3743 ± 0.0002 (mesh) ± 0.0011 (sampling): the value to the digits that its largest error leaves."""
    known = {source: error for source, error in errors.items() if error is not None and math.isfinite(error)}
    if value is None or not known:
        return str(shown(value))
    largest = max(known.values())
    if largest == 0.0:
        return " ± ".join([str(shown(value, 6)), *(f"0 ({source})" for source in known)])
    places = _DIGITS - 1 - math.floor(math.log10(largest))
    if places > 15 or max(abs(value), largest) >= 1e6:
        digits = max(places + 1 + math.floor(math.log10(max(abs(value), largest))), 2)
        return " ± ".join([str(shown(value, digits)), *(f"{shown(error, 2)} ({source})" for source, error in known.items())])
    places = max(places, 0)
    parts = [f"{value:.{places}f}".replace("-", MINUS)]
    return " ± ".join([*parts, *(f"{_rounded(error, places)} ({source})" for source, error in known.items())])


def _rounded(error: float, places: int) -> str:
    """To as many places as the value; what is 0 there is shown in its own first digit."""
    text = f"{error:.{places}f}"
    return text if error == 0.0 or float(text) > 0.0 else str(shown(error, 1))


def _is_sampled(of: Table) -> bool:
    """Whether a part of the summary is of a measure made of samples."""
    return "loss" in of and ("particles" in of or "loss_standard_error" in of)


def _says(values: object) -> bool:
    return isinstance(values, list) and len(values) > 0 and values[-1] is not None and any(values)
