"""Write docs/cli.md: the help page of every command, as the command prints it."""

from pathlib import Path

from click import Context

from unrolled.cli import cli


def text() -> str:
    """Return the whole page."""
    parts = ["# The command line\n\nWritten by `make docs`; a test compares it with the commands.\n"]
    top = Context(cli, info_name="unrolled", **cli.context_settings)
    for name in cli.list_commands(top):
        command = cli.get_command(top, name)
        page = command.get_help(Context(command, info_name=name, parent=top, terminal_width=100))
        parts.append(f"## {name}\n\n```text\n{page}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(text())
