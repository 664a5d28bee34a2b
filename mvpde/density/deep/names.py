"""Names of fields that tell the labels they belong to."""

from __future__ import annotations

from mvpde.models.deep.units import Array


def told_apart(labels: Array) -> list[str]:
    """Labels, shape (number, components), as texts with four digits, or as many more as it takes to tell different ones apart."""
    different = len({tuple(label) for label in labels})
    texts: list[str] = []
    for digits in range(4, 18):  # 17 digits tell any two numbers apart
        texts = [", ".join(f"{x:.{digits}g}" for x in label) for label in labels]
        if len(set(texts)) == different:
            break
    return texts


def by_label(number: int, name: str, labels: Array, values: Array) -> dict[str, Array]:
    """The fields of a layer at each label, shape (labels, points), by a name that tells the label."""
    return {f"layer{number} at {name} = {text}": row for text, row in zip(told_apart(labels), values, strict=True)}
