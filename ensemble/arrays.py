"""Types of the arrays that estimators take and return. Their names say their axes: `num_correct_MP` is `[M, P]`."""

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
