"""Examples in docstrings run as they would for a reader who copies them: in an empty namespace."""

import doctest
import importlib

import pytest

from tests.test_house import house

OPTIONS = doctest.NORMALIZE_WHITESPACE


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in house.modules():
        module = importlib.import_module(f"scalejax.{name}" if name else "scalejax")
        for test in finder.find(module, globs={}):
            if test.examples:
                yield pytest.param(test, id=test.name)


@pytest.mark.parametrize("test", examples())
def test_example(test):
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    said = []
    runner.run(test, out=said.append, clear_globs=False)
    assert runner.failures == 0, "".join(said)
