"""What the tests of training share."""
import pathlib
import sys

import pytest

from nets import registry


@pytest.fixture
def tiny_networks(monkeypatch):
    """The folder of `tiny_networks.py`, on Python's path; its networks are registered for one test."""
    folder = str(pathlib.Path(__file__).parent)
    networks = dict(registry.NETWORKS)
    monkeypatch.setattr(registry, '_networks', networks)
    monkeypatch.setattr(registry, 'NETWORKS', networks)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, 'tiny_networks', raising=False)
    return folder
