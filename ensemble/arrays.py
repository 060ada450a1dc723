"""Array types of the estimators. The names of arrays show their axes: `num_correct_MP` has the shape `[M, P]`."""

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
