"""A rank's ends of the private pipes: what rank 0 hears from the parent, what ranks tell it."""

from __future__ import annotations

import json
import os
import queue
import threading

from pipeline.gang.protocol import (
    VERSION,
    Cancel,
    Init,
    Message,
    ProtocolError,
    Run,
    Stop,
    decode_to_rank,
    encode,
)


class Mailbox:
    """Rank 0's ear. A thread reads, so that a Cancel is seen while the rank computes."""

    def __init__(self, fd: int) -> None:
        self._pipe = os.fdopen(fd, "rb")
        self._runs: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._cancel = Cancel(run_id="")

    def init(self) -> Init:
        """The first message. Afterwards the thread listens.

        Raises:
            ProtocolError: another version of the protocol, or no Init.
        """
        try:
            init = _read_init(self._pipe.readline())
        except ProtocolError:
            self._pipe.close()
            raise
        threading.Thread(target=self._listen, name="mailbox", daemon=True).start()
        return init

    def next(self) -> Run | None:
        """Wait for the next run; None: leave."""
        return self._runs.get()

    def stop_requested(self, run_id: str) -> bool:
        """True once this run is cancelled or the gang is to leave."""
        return self._stopping.is_set() or self._cancel.run_id == run_id

    def checkpoint_requested(self, run_id: str) -> bool:
        """True once this run is to leave a checkpoint before it stops."""
        cancel = self._cancel
        return cancel.checkpoint and cancel.run_id == run_id

    def _listen(self) -> None:
        try:
            with self._pipe:
                for line in self._pipe:
                    message = decode_to_rank(line)
                    if isinstance(message, Run):
                        self._runs.put(message)
                    elif isinstance(message, Cancel):
                        self._cancel = message
                    elif isinstance(message, Stop):
                        return
        finally:
            self._stopping.set()
            self._runs.put(None)


def _read_init(line: bytes) -> Init:
    """The version first: the rest of another version's line may be unreadable."""
    try:
        version = json.loads(line)["version"]
    except (ValueError, KeyError, TypeError):
        raise ProtocolError(f"expected init, got {line[:200]!r}") from None
    if version != VERSION:
        raise ProtocolError(
            f"the parent speaks protocol version {version}, this rank speaks {VERSION}: "
            "both must come from the same installation"
        )
    message = decode_to_rank(line)
    if not isinstance(message, Init):
        raise ProtocolError(f"expected init, got {message.type}")
    return message


class Outbox:
    """A rank's voice.

    All ranks share the pipe: lines of up to PIPE_BUF bytes never interleave, and only rank 0 writes
    longer ones, while the others are silent.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Write one line. A parent that is gone is the lifeline's business, not an error."""
        line = encode(message)
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._fd, line) :]
            except BrokenPipeError:
                return
