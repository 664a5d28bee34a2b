"""From the sections [initial] and [stationary] starts to laws of the coordinates of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mvpde.cases.kinds import KINDS
from mvpde.cases.schema import CaseSections, ModelSection
from mvpde.cases.starts.entries import assigned
from mvpde.cases.starts.joint import JointSection
from mvpde.cases.starts.laws import LawSection
from mvpde.models.laws import Law, Law1D, Product
from mvpde.models.laws.periodic import circular
from mvpde.models.laws.product import Joint, joined
from mvpde.models.mean_field import Array, MeanField
from mvpde.models.shell import ShellLaw
from mvpde.runtime import CaseError

Periods = tuple[float | None, ...]
Start = Array | Law


def own_law(sections: CaseSections) -> Law | None:
    """The initial law that the kind of model states itself."""
    law = KINDS[sections.model.kind].law
    if law is not None and sections.initial:
        raise CaseError("[initial]: the model has an initial law of its own, which its keys describe; remove the section")
    return None if law is None else law(sections.model)


def completed(name: str, laws: Mapping[str, LawSection], model: ModelSection) -> dict[str, LawSection]:
    """The laws of a section; those that leave a number to the model have the model's."""
    complete = {}
    for coordinate, law in laws.items():
        missing = law.missing()
        for key in missing:
            if not isinstance(getattr(model, key, None), float):
                example = f"{key} = {(type(law).model_fields[key].examples or [1.0])[0]}"
                raise CaseError(f"[{name}] {coordinate}: the law `{law.law}` needs `{key}` here; add it, for example {example}")
        complete[coordinate] = law.model_copy(update={key: getattr(model, key) for key in missing})
    return complete


def law_of(name: str, laws: Mapping[str, LawSection], section: ModelSection, model: MeanField, others: Sequence[str] = ()) -> Law:
    """The law of the coordinates, or of y and c where they are those of a shell.

    Args:
        name: of the section, for messages.
        laws: by entry: a coordinate, several with commas between them, or a pattern such as "y*".
        section: of the model, whose numbers stand in for missing ones.
        model: the model.
        others: further names that entries may be about.

    Raises:
        CaseError: with the remedy.
    """
    laws = completed(name, laws, section)
    if model.metric is None:
        return _law_of_all(name, laws, model.coordinates, model.periods, others)
    if set(laws) != {"y", "c"} or laws["y"].law != "sphere":
        raise CaseError(
            f'[{name}]: y lies on a sphere and c is the output weight; give y = {{ law = "sphere" }} and a law of c, nothing else'
        )
    return ShellLaw(model.metric, model.dimension, laws["c"].factor())


def _law_of_all(
    name: str, laws: Mapping[str, LawSection], coordinates: Sequence[str], periods: Periods, others: Sequence[str]
) -> Law:
    chosen = assigned(name, laws, coordinates, others)
    groups: list[tuple[tuple[int, ...], Joint | Product]] = []
    for entry, names in chosen:
        places = tuple(coordinates.index(one) for one in names)
        own = [periods[k] for k in places]
        if isinstance(laws[entry], JointSection) and not (laws[entry].law == "samples" and len(names) == 1):
            groups.append((places, laws[entry].joint(names, own)))  # type: ignore[attr-defined]
            continue
        factors = (_factor(laws[entry], one, period) for one, period in zip(names, own, strict=True))
        groups += [((place,), Product((factor,))) for place, factor in zip(places, factors, strict=True)]
    for coordinate in coordinates:
        if not any(coordinate in names for _, names in chosen):
            raise CaseError(f'[{name}] {coordinate}: is missing; add {coordinate} = {{ law = "normal", mean = 0.0, std = 1.0 }}')
    return joined(groups)


def _factor(section: LawSection, name: str, period: float | None) -> Law1D:
    law = section.placed(name).factor(period)
    if circular(law) and period is None:
        raise CaseError(
            f'[initial.{name}] law: "{section.law}" is a law on a circle, and `{name}` has no period; give it one in [model] '
            f'periods = {{ {name} = "2*pi" }}, or another law'
        )
    return law


def searched(sections: CaseSections, model: MeanField) -> list[Start] | None:
    """Where [stationary] starts lets the search for branches begin, as `mvpde.cases.problem.stationary_starts`."""
    given = None if sections.stationary is None else sections.stationary.starts
    if given is None:
        return None
    if not model.interacting:
        raise CaseError("[stationary] starts: this model has no interaction, so its stationary law is unique; remove the key")
    count = model.features
    starts: list[Start] = []
    for number, start in enumerate(given):
        if isinstance(start, dict):
            starts.append(law_of(f"stationary.starts[{number}]", start, sections.model, model))
        elif len(start) != count:
            raise CaseError(
                f"[stationary] starts: entry {number} has {len(start)} numbers, but the model has {count} moments; "
                "give one number for each feature, or a law of every coordinate as in [initial]"
            )
        else:
            starts.append(np.array(start, float))
    return starts
