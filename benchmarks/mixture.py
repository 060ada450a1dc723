"""The best mixture of 20 policies over 1,000 problems at a budget of 250, against a conic solver on its relaxation.

The solver sits behind cvxpy, as most would use it, and solves relaxations only: whole numbers are ours alone. At known
solve rates both sides relax the same problem. Under the posterior the relaxation, piecewise linear in each policy, is
stated for the solver with one variable for each sample.
"""

from dataclasses import dataclass
from typing import cast

import cvxpy
import numpy as np
from measure import Row, alternate, compare, cpu_s, median_ratio, milliseconds
from numpy.typing import ArrayLike
from scipy.special import ndtr
from scipy.stats import beta

from ensemble.mixture.relaxation import Region, relax
from ensemble.mixture.search import Budget, best_allocation
from ensemble.pass_at_k import Floats, Ints
from ensemble.posterior import Posterior

_POLICIES, _PROBLEMS, _SAMPLES, _BUDGET = 20, 1000, 250, 250
_SMALL_BUDGET = 20
