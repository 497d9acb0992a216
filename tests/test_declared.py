"""An option that is declared is checked, described and a flag: nothing else has to be told of it."""

from __future__ import annotations  # the types of declared options are texts

import inspect
from dataclasses import dataclass

import click
import pytest
from click.testing import CliRunner

import unrolled as ur
from unrolled.checks import check_size
from unrolled.cli.help import GroupedCommand
from unrolled.cli.options import flags
from unrolled.declared import Declared, described, keywords, one_of, option, options
from unrolled.gradcheck import catalogue
from unrolled.keywords import named
from unrolled.nn.options import NetworkOptions


@dataclass(frozen=True)
class Shape(Declared):
    """Options of a drawing."""

    sides: int = option(3, "Corners of it.", "Form", check_size, also=("--corners",), about="Number of its corners.")
    colour: str = option("red", "Its colour.", "Look", one_of("colour", ("red", "green"), " (or mix them)"))
    width: float | None = option(None, "Of its lines.", "Look", unset="a hair's")
    filled: bool = option(True, "Fill it.", "Look")


@named(keywords(Shape))
@described(Shape)
def draw(place, **options):
    """Draw.

    Parameters
    ----------
    place : int
    **options
        As `Shape` has them.

    Returns
    -------
    None
    """


def test_a_declared_option_is_checked_when_it_is_made():
    assert Shape(sides=4, width=1) == Shape(4, "red", 1.0)
    with pytest.raises(ur.UnrolledError, match=r"^sides is 0; it must be a whole number, 1 or more$"):
        Shape(sides=0)
    with pytest.raises(ur.UnrolledError, match=r"^sides is 'x'; it must be a whole number$"):
        Shape(sides="x")
    with pytest.raises(
        ur.UnrolledError, match=r"^no colour is called 'gren'; did you mean 'green'\? .* \(or mix them\)$"
    ):
        Shape(colour="gren")


def test_a_function_that_takes_it_shows_and_describes_it():
    shown = str(inspect.signature(draw))
    assert shown.startswith("(place, *, sides: 'int' = 3, colour: 'str' = 'red', width: 'float | None' = None, filled:")
    said = inspect.cleandoc(draw.__doc__)
    assert (
        "**options\n    As `Shape` has them.\n\n    sides : int\n        Number of its corners.\n    colour : str\n"
        in said
    )
    assert "        Of its lines. Default: a hair's.\n    filled : bool\n        Fill it.\n\nReturns\n" in said


def test_a_command_has_it_as_a_flag():
    @click.command(cls=GroupedCommand, groups=("Look", "Form"))
    @flags(Shape, ahead=("width",))
    def command(**given):
        click.echo(given)

    run = CliRunner().invoke
    page = run(command, ["--help"]).output
    places = [
        page.index(text) for text in ("Look:", "--width FLOAT", "--colour TEXT", "--filled / --no-filled", "Form:")
    ]
    assert places == sorted(places)
    assert "Of its lines.  [default: a hair's]" in page
    assert "--sides, --corners INTEGER" in page
    assert (
        run(command, ["--corners", "5", "--no-filled"]).output
        == str({"sides": 5, "filled": False, "width": None, "colour": "red"}) + "\n"
    )


def test_every_option_of_a_network_is_proven():
    shown = {name for part in (catalogue.STACK, catalogue.LANGUAGE) for example in part.values() for name in example}
    assert (
        options(NetworkOptions).keys() - {"cell", "cell_settings"} <= shown
    )  # all cells are; one with other settings is another
