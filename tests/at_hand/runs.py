"""A small case with a density, an ensemble and characteristics."""

from __future__ import annotations

SMALL = """
title = "small"
[model]
kind = "network"
unit = "circle_rbf"
unit_parameters = { kappa = 2.0 }
[data]
source = "circle"
points = 8
target = "0.6*cos(x) + 0.3*sin(2*x)"
[initial]
y = { law = "uniform", lower = 0, upper = "2*pi" }
c = { law = "normal", mean = 0.0, std = 0.7 }
[domain]
lower = [0, -4]
upper = ["2*pi", 4]
cells = [16, 15]
[density]
[ensemble]
particles = 5000
runs = 2
seed = 3
[characteristics]
nodes = [8, 8]
[time]
end = 1.0
outputs = [0, 0.5, 1]
[output]
particles = 700
"""
