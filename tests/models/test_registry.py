"""The registry of models and the public names of `kerastag.models` and `kerastag.layers`."""

import inspect

import pytest

import kerastag.layers
import kerastag.models
from checks import run_python
from kerastag.dsp import FRONT_ENDS
from kerastag.models import MODELS


@pytest.mark.parametrize("package", [kerastag.models, kerastag.layers])
def test_every_public_name_is_exported_whatever_was_imported_before(package):
    kerastag.layers.register_layers()
    MODELS["gl_at_cnn10"].dropout_rates()  # imports modules that have the names of builders
    for name in package.__all__:
        assert not inspect.ismodule(getattr(package, name)), name
    with pytest.raises(AttributeError, match="has no attribute 'unknown'"):
        _ = package.unknown


def test_reading_the_registry_loads_no_framework():
    code = """
import sys
from kerastag.models import MODELS
MODELS["es_min"].front_end
print([name for name in ("keras", "tensorflow", "jax", "numpy") if name in sys.modules])
"""
    assert run_python(code).strip() == "[]"


@pytest.mark.parametrize("name", MODELS)
def test_the_builder_spells_out_its_arguments_and_takes_those_of_the_entry(name):
    entry = MODELS[name]
    parameters = inspect.signature(getattr(kerastag.models, entry.builder)).parameters
    assert all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values())
    assert {"num_classes", *entry.arguments} <= parameters.keys()
    assert entry.front_end is None or entry.front_end in FRONT_ENDS


def test_dropout_rates_are_the_defaults_of_the_builder():
    assert MODELS["resnet38"].dropout_rates() == {"dropout": 0.5, "block_dropout": 0.2, "residual_dropout": 0.1}
    assert MODELS["gl_at_resnet38"].dropout_rates() == {}  # None stands for the default of the backbone
