"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import unrolled

MODULES = ["unrolled"] + [
    m.name for m in pkgutil.walk_packages(unrolled.__path__, "unrolled.") if not m.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    if name.startswith("unrolled.backends.cpu.") and "cpu" not in unrolled.backends.BACKENDS:
        pytest.skip("the native engine is not built")
    if name.startswith("unrolled.sklearn"):
        pytest.importorskip("sklearn")
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, extraglobs={"np": np})
    assert failed == 0
