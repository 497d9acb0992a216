"""The command `unrolled`, also as `python -m unrolled`; what stops it while Python still imports ends in a line too."""

import os
import signal
import sys
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"unrolled: interrupted\n")
    os._exit(130)


def main() -> None:
    """Run the command line."""
    # Ignored (in the background of a shell) or a host's, as in `train.stops`, which is not imported yet, it stays so.
    heard = signal.getsignal(signal.SIGINT) not in (None, signal.SIG_IGN)
    if heard:
        signal.signal(signal.SIGINT, _leave)  # until the command has handlers of its own
    try:
        from .cli import main as command
    except Exception as error:  # half an installation, for one
        from .errors import failure

        if os.environ.get("UNROLLED_TRACEBACK"):
            raise
        status, line = failure(error)
        print(f"unrolled: {line}", file=sys.stderr)
        sys.exit(status)
    try:
        command()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
        if heard:
            signal.signal(signal.SIGINT, lambda *_: os._exit(status))  # all is said; Python only has to end
        raise


if __name__ == "__main__":
    main()
