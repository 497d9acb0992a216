"""`unrolled quantize`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click

from ..data.text import Reading
from ..errors import UnrolledError, brief, printable
from .help import GroupedCommand
from .options import cell_option, check_out, flag_of, flags, given, option
from .own_cell import files_of


class Percent(click.ParamType):  # type: ignore[type-arg]
    """A share in percent, "1%" or "0.5 %"."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share."""
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*%", value, re.ASCII)
        if found is None:
            self.fail(f"{brief(value)} is no percentage, such as 1% or 0.5%", param, ctx)
        return float(found[1]) / 100


@click.command(cls=GroupedCommand)
@click.argument("model", type=click.Path())
@click.argument("files", nargs=-1, metavar="[FILE | FOLDER]...")
@option("Options", "--out", "-o", type=click.Path(path_type=Path), required=True, help="File to write.")
@option("Options", "--weights", default="int8", metavar="FORM", help="bfloat16, or int8 with a scale a row.")
@option("Options", "--limit", type=Percent(), default="1%", help="By how much the loss may rise.")
@flags(Reading, group="Options")
@cell_option()
@click.pass_context
def quantize(
    ctx: click.Context,
    /,
    model: str,
    files: tuple[str, ...],
    out: Path,
    weights: str,
    limit: float,
    cell: str | None,
    **how: Any,
) -> None:
    """Write a model with smaller weights: half (bfloat16) or a quarter (int8) of the file.

    It is scored before and after, on files as `score` takes them; without, on what its run held out to validate.
    Nothing is written where the loss rises by more than --limit.
    """
    from ..models.files import described, model_file
    from ..models.quantizing import quantized
    from ..training.checkpoints import LANGUAGE_MODEL

    file, asked = model_file(model), sorted(given(ctx) & set(how))
    check_out(out, file, *files_of(cell), *files)
    if asked and not (files and described(file, cell).kind.name == LANGUAGE_MODEL):
        raise UnrolledError(f"{flag_of(asked[0])} is about files that a language model is scored on")
    cost = quantized(model, weights, files, cell=cell, **{name: how[name] for name in asked})
    check_out(out, *cost.read)  # what the run reads is known from its checkpoint
    cost.check(limit)
    cost.model.save(out)
    click.echo(f"{printable(cost.data)}, before and after:")
    for name, before in cost.before.items():
        rise = f" ({100 * cost.rise:+.3g}%)" if name == cost.judged else ""
        click.echo(f"  {name:<17} {before:.6f} -> {cost.after[name]:.6f}{rise}")
    size, small = os.path.getsize(file), os.path.getsize(out)
    click.echo(f"{printable(str(out))}: {small:,} bytes, {small / size:.1%} of {size:,}")
