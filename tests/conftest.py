"""What tests in several folders use."""
import contextlib
import resource

import pytest


@pytest.fixture
def full_disk():
    """A disk that is full, or nearly: `with full_disk(limit)`, no file may grow beyond so many bytes."""
    @contextlib.contextmanager
    def limited(limit):
        # Python ignores the signal of that, so that writing fails.
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
