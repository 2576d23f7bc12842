"""The table of outputs: everything that `cvtrace report --format` knows comes from it."""

import importlib
import inspect
import pkgutil

import pytest
from click.testing import CliRunner

from cvtrace.cli import main
from cvtrace.commands import formats
from cvtrace.commands.formats import FORMATS
from cvtrace.commands.formats.format import Format


def test_every_class_of_an_output_is_in_the_table() -> None:
    modules = [
        importlib.import_module(f"{formats.__name__}.{module.name}")
        for module in pkgutil.iter_modules(formats.__path__)
    ]
    classes = {
        member
        for module in modules
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Format) and not inspect.isabstract(member)
    }

    assert classes == {type(form) for form in FORMATS.values()}


@pytest.mark.parametrize("name", FORMATS)
def test_an_output_is_selected_by_its_name_or_its_ending(name: str) -> None:
    form = FORMATS[name]
    owner = next(form_class for form_class in FORMATS.values() if form.endings[0] in form_class.endings)

    assert form.name == name
    assert owner is form, f"{form.endings[0]} is the ending of {owner.name} first"
    assert name in CliRunner().invoke(main, ["report", "--help"]).output
