"""A run's figures as TensorBoard reads them: event files in the run's folder."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from ..errors import UnrolledError
from .callbacks import Callback, Facts, Progress
from .state import Evaluation

EVERY = 10
"""Steps between two training figures."""


class Events(Callback):
    """Writes event files into a folder.

    Every `EVERY` steps: `loss/training` (nats a symbol, its moving average over about 20 steps), `learning_rate`,
    `gradient_norm` (before clipping) and `symbols_per_second`. Every validation: `loss/validation` and
    `bits/validation`. A run that goes on, or is led back, begins another file, whose first event lets TensorBoard
    forget what the files before it say of later steps.

    Raises
    ------
    UnrolledError
        If tensorboardX is not installed, or a file can't be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto import event_pb2, summary_pb2
        except ImportError:
            raise UnrolledError("event files need tensorboardX: pip install 'unrolled[tensorboard]'") from None
        self.folder, self.first = folder, 0
        self.writer_of, self.event, self.summary = EventsWriter, event_pb2, summary_pb2
        self.writer: Any = None

    def _begin(self, step: int) -> None:
        """Begin a file, after which what is known of this step and later ones no longer counts."""
        count = len(list(self.folder.glob("events.out.tfevents.*")))
        log = self.event.SessionLog(status=self.event.SessionLog.START)
        try:
            # Files are read in the order of their names, which hold the time, in seconds; so they are numbered too.
            self.writer = self.writer_of(str(self.folder / "events"), f".{count:04}")
            self.writer.write_event(self.event.Event(wall_time=time.time(), step=step, session_log=log))
            self.writer.flush()
        except OSError as error:
            raise self._unwritten(error) from None

    def _unwritten(self, error: OSError) -> UnrolledError:
        return UnrolledError(f"can't write event files in {self.folder}: {error.strerror}; the last checkpoint is kept")

    def _write(self, step: int, **figures: float) -> None:
        if self.writer is None:
            self._begin(self.first)
        values = [self.summary.Summary.Value(tag=tag.replace("__", "/"), simple_value=v) for tag, v in figures.items()]
        summary = self.summary.Summary(value=values)
        try:
            self.writer.write_event(self.event.Event(wall_time=time.time(), step=step, summary=summary))
            self.writer.flush()
        except OSError as error:
            raise self._unwritten(error) from None

    def close(self) -> None:
        """Close the file."""
        if self.writer is not None:
            writer, self.writer = self.writer, None
            writer.close()

    def started(self, facts: Facts) -> None:
        """Note where the next file begins; there is none before there is a figure."""
        self.first = facts.step + 1 if facts.step else 0

    def stepped(self, progress: Progress) -> None:
        """Write what there is of a step, now and then."""
        if progress.step % EVERY == 0:
            self._write(
                progress.step,
                loss__training=progress.loss,
                learning_rate=progress.rate,
                gradient_norm=progress.gradient_norm,
                symbols_per_second=progress.symbols_per_second,
            )

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        """Write the validation loss."""
        if (loss := evaluation.val_loss) is not None:
            self._write(evaluation.step, loss__validation=loss, bits__validation=loss / math.log(2))

    def rolled_back(self, why: str, step: int, factor: float) -> None:
        """Let the next figure begin another file."""
        self.close()
        self.first = step + 1
