"""Lets the tests of this folder import what they share, and set the engine's threads as they like."""

import sys
from pathlib import Path

import pytest

from unrolled import backends

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def threads():
    before = backends.threads()
    yield
    if backends.threads() != before:
        backends.set_threads(before)
