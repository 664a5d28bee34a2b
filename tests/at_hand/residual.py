"""The residual network that several test files train: X5's data, targets 2 tanh(1.5x) + .3, units v·tanh(wX + .3)."""

from __future__ import annotations

import numpy as np

from mvpde.models.data import Data
from mvpde.models.deep.resnet import ResidualLimit
from mvpde.models.deep.units import DeepLayer
from mvpde.models.laws import Product, Uniform

INPUTS = np.array([-1.5, -0.7, 0.3, 0.9, 1.6])
DATA = Data(INPUTS[:, None], np.full(5, 0.2), 2.0 * np.tanh(1.5 * INPUTS) + 0.3)
LIMIT = ResidualLimit(DeepLayer("tanh", ("v", "w"), {"c": 0.3}), DATA)
LAW = Product((Uniform(-1.0, 1.5), Uniform(0.3, 1.7)))

LOSSES = {0.0: 0.17854365, 1.0: 0.08804297, 2.0: 0.06499092, 4.0: 0.05805991, 8.0: 0.0528444}  # collocation, another code
OUTPUTS = np.array([-2.185936, -1.205101, 0.899237, 1.630017, 2.365507])  # X(1) at t = 8
MIDDLE = np.array([-1.824648, -0.919810, 0.570679, 1.252488, 1.975128])  # X(½) at t = 8
MEANS, VARIANCES = np.array([1.07225, 1.09511, 1.09225]), np.array([0.31293, 0.24955, 0.20043])  # of w at s = 0, ½, 1, t = 8
OF_LAYERS = {0.0: 0.00386, 1.0: 0.01502, 2.0: 0.01149}  # K(loss_K − loss) as K → ∞
