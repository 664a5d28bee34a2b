"""What is said of errors of the density: each flag by its own worst time, and with a remedy that the case has."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mvpde.richardson import three_levels, two_levels
from mvpde.runs.cautions import density_error
from mvpde.runs.errors.estimates import Assessment

pytestmark = pytest.mark.serial

BOX = SimpleNamespace(shell=None, mesh=None, cells=[8])


def said(found, domain=BOX, companions=2):
    known = {"loss": Assessment(found, np.nan, 1.0)}
    levels = [SimpleNamespace(failed="")] * companions
    problem = SimpleNamespace(model=SimpleNamespace(observables={}), sections=SimpleNamespace(domain=domain))
    records = [SimpleNamespace(time=float(k)) for k in range(len(found.value))]
    both = SimpleNamespace(missing=list, found=known, levels=levels)
    return list(density_error.judge(SimpleNamespace(problem=problem, companions=both, records=records)))


def test_a_doubtful_time_does_not_hide_one_that_is_beyond_the_bound() -> None:
    """At t = 0 the differences are .015 and .015, of order 0 and below the bound of doubt; at t = 1 they are .03 and .12."""
    found = three_levels([1.0, 1.0], [1.007, 1.03], [1.014, 1.15])
    shares = Assessment(found, np.nan, 1.0).shares()
    assert shares[0] > shares[1] > density_error.BOUND and shares[0] < density_error.DOUBTFUL
    (caution,) = said(found)
    assert caution.code == "density.error" and "t = 1 " in caution.message and caution.value == shares[1]


def test_the_order_is_that_of_the_entry() -> None:
    (caution,) = said(three_levels([1.0], [1.1], [1.25]))
    assert "their order is 0.6" in caution.message
    (caution,) = said(three_levels([1.0], [1.1], [0.9]))
    assert "two signs" in caution.message and "nan" not in caution.message


def test_one_companion_shows_no_order() -> None:
    (caution,) = said(two_levels([1.0], [1.1]), companions=1)
    assert caution.code == "density.order"
    assert "companions = 2" in caution.message and "nan" not in caution.message


@pytest.mark.parametrize(("key", "text"), [("shell", "frequency and layers"), ("mesh", "refine the mesh file")])
def test_the_remedy_is_of_the_mesh_that_the_case_has(key: str, text: str) -> None:
    domain = SimpleNamespace(**{"shell": None, "mesh": None, "cells": None, key: "given"})
    (caution,) = said(two_levels([1.0], [1.1]), domain, 1)
    assert text in caution.message and "cells" not in caution.message
