"""Linear algebra on one thread, for work on many small matrices.

OpenBLAS uses all cores even for products of a few thousand numbers. Where those cores are busy, waiting for them makes
the search for an allocation ten times as slow.
"""

from collections.abc import Generator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

# The controller looks for libraries once, at the first use, when NumPy and SciPy have loaded theirs.
_controller = cache(ThreadpoolController)


@contextmanager
def one_thread() -> Generator[None]:
    """Limit BLAS to the calling thread, in a `with` block or in a decorated function."""
    with _controller().limit(limits=1, user_api="blas"):
        yield
