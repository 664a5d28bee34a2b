"""Stationary laws on a circle: their mean is that of a circle cut open, and is not judged."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import mvpde.runtime  # isort: skip - loads the solver libraries before anything else does
import numpy as np

import mvpde
from mvpde.runs.cautions import long_time

QUIET = {"output.pictures": False, "output.fields": False, "output.sliced_wasserstein": False, "output.particles": 0}


@pytest.mark.serial
def test_the_mean_of_a_circle_is_not_judged(tmp_path) -> None:
    """A uniform law has no error but at the seam, where its mean is off by half a cell."""
    sets = {"model.parameters.K": 0.5, "domain.cells": [128], "time.end": 0.5, "time.outputs": [0.0, 0.5], **QUIET}
    found = mvpde.run("cases/rotating.toml", set=sets, out=tmp_path / "out", without=["ensemble"]).summary
    assert np.abs(found["stationary"]["mean_error"][0]) > 0.01
    assert [one for one in found["warnings"] if one["code"].startswith("stationary.")] == []


@pytest.mark.serial
@pytest.mark.parametrize(("period", "judged"), [(None, True), (2.0, False)])
def test_coordinates_on_the_line_are_judged_and_errors_that_are_nan_are_not(period: float | None, judged: bool) -> None:
    law = SimpleNamespace(
        mean=np.zeros(1), covariance=np.eye(1), domain=SimpleNamespace(periods=(period,)), entropy_production=1.0
    )
    errors = SimpleNamespace(
        of=lambda name: {"mean": np.array([0.1]), "entropy_production": np.array(np.nan)}.get(name),
        mesh={"mean": SimpleNamespace(error=np.array([0.1]))},
        walls={},
        labels={},
        pairs={},
        missing=(),
    )
    branch = SimpleNamespace(free_energy=None, stable=None)
    known = SimpleNamespace(law=law, modes=None, branches=[branch], errors=errors, found=SimpleNamespace(rate=1.0))
    assert [one.code for one in long_time._errors(known)] == ["stationary.mean"] * judged
    assert list(long_time._production(known)) == []
    errors.of = lambda _: np.array(np.nan)
    assert list(long_time._branches(known)) == []
