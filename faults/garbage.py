"""The garbage collector, without the warning that Python 3.13 and later give for each connection dropped unclosed.

Most such connections are those of stores that a fault has kept from opening.

Not covered: collections that Python starts by itself, in the middle of a call.
"""

import gc
import warnings


def collect(generation: int = 2) -> None:
    """Collect garbage, up to this generation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect(generation)
