"""A pytest plugin under which tf-slim 1.1.0's own tests, of 2020, run on today's Python and NumPy.

It gives back only what the tests themselves use and tf-slim does not: names of unittest and NumPy, and TensorFlow's
toggles of resource variables at their former place.
"""
import builtins
import sys
import types
import unittest

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import variable_scope, variables

import tf_slim_compat  # noqa: F401

for old, new in {'assertEquals': 'assertEqual', 'assertItemsEqual': 'assertCountEqual',
                 'assertRaisesRegexp': 'assertRaisesRegex'}.items():
    if not hasattr(unittest.TestCase, old):
        setattr(unittest.TestCase, old, getattr(unittest.TestCase, new))
for old, new in {'float': float, 'object': object, 'product': np.prod}.items():
    if old not in vars(np):
        setattr(np, old, new)
sys.modules.setdefault('nose', types.ModuleType('nose'))
sys.modules.setdefault('nose.tools', types.SimpleNamespace(nottest=lambda test: test))
variables.VariableV1 = tf.compat.v1.Variable
for name in ('enable_resource_variables', 'disable_resource_variables', 'resource_variables_enabled'):
    if not hasattr(variable_scope, name):
        setattr(variable_scope, name, getattr(tf.compat.v1, name))


def pytest_collection_modifyitems(items):
    """Lets the tests of training call int() with an array of one element, as NumPy once did."""
    for module in {item.module for item in items}:
        if module.__name__.split('.')[-1] in ('evaluation_test', 'learning_test', 'training_test'):
            module.int = lambda value: builtins.int(np.squeeze(value))
