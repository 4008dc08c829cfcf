"""What tests in several folders use."""
import contextlib
import re
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


@pytest.hookimpl(optionalhook=True)     # without pytest-xdist there is no such hook
def pytest_xdist_make_scheduler(config, log):
    """Tests are handed out one by one, but those of one network's contract together: they share a graph."""
    if config.getoption('dist') != 'load':      # another way was asked for
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            contract = re.fullmatch(r'.*test_contract\.py::.*\[(\w+)\]', nodeid)
            return contract[1] if contract else nodeid

    return Scheduling(config, log)
