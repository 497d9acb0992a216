"""Help pages whose options stand in named groups."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from ..errors import Interrupted, UnrolledError
from .familiar import ABSENT, COMMANDS, unknown


class GroupedOption(click.Option):
    """An option that knows its group, and what it stands for where it is given `bare`, without a value."""

    def __init__(
        self,
        *args: Any,
        group: str = "Options",
        bare: str = "",
        check: Callable[[str, Any], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.group, self.bare, self.check = group, bare, check

    def takes(self, word: str) -> bool:
        """Whether the word behind it is its value: one that it knows, or what is no option and no file."""
        try:
            return self.check is None or self.check(self.opts[0], word) == word
        except UnrolledError:
            return not (word[:1] in ("", "-") or os.path.lexists(word))


class GroupedCommand(click.Command):
    """A command whose help lists its options by group, in the order of their definition; named groups come first.

    What is `absent` are options that it has not, though others have, and why.
    """

    def __init__(
        self, *args: Any, groups: Sequence[str] = (), absent: Mapping[str, str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.groups, self.absent = groups, {**ABSENT, **(absent or {})}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; what is no option is looked up by its meaning."""
        bare = {name: o for o in self.get_params(ctx) if isinstance(o, GroupedOption) and o.bare for name in o.opts}
        behind = zip(args, [*args[1:], ""], strict=False)
        args = [f"{a}={bare[a].bare}" if a in bare and not bare[a].takes(word) else a for a, word in behind]
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            known = [name for param in self.get_params(ctx) for name in param.opts if name.startswith("--")]
            raise click.UsageError(unknown(error.option_name, known, self.absent), ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; what the library says of an option that was given names its flag."""
        try:
            return super().invoke(ctx)
        except UnrolledError as error:
            error.args = (_by_flags(str(error), _given(ctx, self.get_params(ctx))), *error.args[1:])
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section a group."""
        sections: dict[str, list[tuple[str, str]]] = {group: [] for group in self.groups}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                sections.setdefault(getattr(param, "group", "Options"), []).append(record)
        for group, records in sections.items():
            with formatter.section(group):
                formatter.write_dl(records)


def _given(ctx: click.Context, params: Sequence[click.Parameter]) -> dict[str, str]:
    """Return the options that stand on the command line: their flags, by their names in Python."""
    command_line = click.core.ParameterSource.COMMANDLINE
    flags = {p.name: f"--{p.name.replace('_', '-')}" for p in params if isinstance(p, click.Option) and p.name}
    known = {flag for p in params for flag in p.opts}
    given = (name for name in flags if ctx.get_parameter_source(name) is command_line)
    return {name: flags[name] for name in given if flags[name] in known}


def _by_flags(said: str, given: Mapping[str, str]) -> str:
    """Return a message with flags in place of names: of one word, where it can be nothing else.

    Examples
    --------
    >>> _by_flags("stop is (''); top_k is 3, which top_k=1 allows", {"stop": "--stop", "top_k": "--top-k"})
    "--stop is (''); --top-k is 3, which top_k=1 allows"
    """
    for name, flag in given.items():
        where = rf"(?<![\w.'\"/-]){name}(?![\w=(.'\"/-])"
        if "_" not in name:
            where = rf"^{name}(?= is )|(?<=leave out ){name}(?=,)|(?<=, or ){name}$"
        said = re.sub(where, flag, said)
    return said


class OutputClosed(Exception):
    """A reader such as `head` has gone; click would make an exit status of 1 of the BrokenPipeError."""


class QuietGroup(click.Group):
    """A group that leaves Ctrl-C and a closed output to its caller, where click prints an empty line and exits."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name or by a familiar one."""
        return super().get_command(ctx, COMMANDS.get(cmd_name, cmd_name))

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the arguments, and print help or the version where they ask for it."""
        with _left_to_the_caller():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; return its exit status."""
        with _left_to_the_caller():
            try:
                return super().invoke(ctx)
            except Interrupted:  # all is saved, and said
                return 130


@contextmanager
def _left_to_the_caller() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise click.exceptions.Abort from None
    except BrokenPipeError:
        raise OutputClosed from None
