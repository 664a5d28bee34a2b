"""Labels that agree in four digits have fields of their own."""

from __future__ import annotations

import numpy as np

from mvpde.density.deep.names import by_label, told_apart


def test_as_many_digits_as_it_takes() -> None:
    assert told_apart(np.array([[0.5], [1.25]])) == ["0.5", "1.25"]
    assert told_apart(np.array([[99.998], [100.001]])) == ["99.998", "100"]
    close = np.array([[1.0, 1.0], [1.0, np.nextafter(1.0, 2.0)]])
    assert len(set(told_apart(close))) == 2
    fields = by_label(2, "b", np.array([[99.998], [100.001]]), np.eye(2))
    assert list(fields) == ["layer2 at b = 99.998", "layer2 at b = 100"]
