"""The command `unrolled`, also as `python -m unrolled`; Ctrl-C while Python still imports ends it in a line."""

import os
import signal
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"unrolled: interrupted\n")
    os._exit(130)


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGINT, _leave)  # until the command has handlers of its own
    from .cli import main as command

    command()


if __name__ == "__main__":
    main()
