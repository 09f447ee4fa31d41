"""Threshold schedules: one class each, named in `SCHEDULES`, from where recipes know it.

Each is a rule for the L1 coefficient μ that a growing threshold implies.

One step θ ← θ − η·g, d ← d + Δd moves a non-zero weight by −η·g − Δd·sign(w): the proximal gradient (ISTA) step of
L(w) + μ‖w‖₁ with μ = Δd/η (Chen et al., ICLR 2023). A schedule therefore maps the threshold before a step, the step
number and the learning rate the optimizer really used to the threshold after it.
"""

from neuroprune.schedules.base import Memory, Schedule, View
from neuroprune.schedules.budget import BudgetRamp
from neuroprune.schedules.homotopy import PGH
from neuroprune.schedules.lats import LATS, SLATS, EpochLATS
from neuroprune.schedules.learned import STR, Learned, LearnedThreshold, threshold_slope
from neuroprune.schedules.ramps import ConstantThreshold, STDSLinear, STDSSine
from neuroprune.schedules.ranks import SparsityRamp
from neuroprune.schedules.rates import learning_rates
from neuroprune.schedules.steering import ClosedForm

#: Schedules by name, for recipes.
SCHEDULES = {
    cls.__name__: cls
    for cls in (LATS, SLATS, EpochLATS, PGH, STDSLinear, STDSSine, ConstantThreshold, STR, SparsityRamp)
}

__all__ = [
    "LATS",
    "PGH",
    "SCHEDULES",
    "SLATS",
    "STR",
    "BudgetRamp",
    "ClosedForm",
    "ConstantThreshold",
    "EpochLATS",
    "Learned",
    "LearnedThreshold",
    "Memory",
    "STDSLinear",
    "STDSSine",
    "Schedule",
    "SparsityRamp",
    "View",
    "learning_rates",
    "threshold_slope",
]
