"""A network that the suite can cut: one TCP listener a link between two parts, on loopback.

`cut` breaks every connection and refuses new ones, as a dead host does that still answers RST; `hold`
lets nothing through and breaks nothing, as a lost route does; `slow` lets little through; `heal` ends all.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

CHUNK_BYTES = 65536
DROPS_A_SECOND = 20
"""Of what trickles."""


class Link:
    """From one port on loopback to another. Made by `Network.link`."""

    def __init__(self, name: str, target: int, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.port = 0
        self._target = target
        self._loop = loop
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._is_cut = False
        self._bytes_s = 0
        self._pattern = b""
        self._seen = 0.0
        self._on_answer: Callable[[], None] | None = None

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        self._call(self._cut)

    def hold(self) -> None:
        """Let nothing through, either way."""
        self._call(self._flows.clear)

    def slow(self, bytes_s: int) -> None:
        """Let so many bytes a second through, each way of each connection."""

        def act() -> None:
            self._bytes_s = bytes_s

        self._call(act)

    def heal(self) -> None:
        """Let everything through again, what was held first."""
        self._call(self._heal)

    def watch(self, pattern: bytes) -> None:
        """Note when a request holds `pattern`."""
        self._pattern = pattern

    def seen_within(self, seconds: float) -> bool:
        """Whether such a request passed lately."""
        return time.monotonic() - self._seen < seconds

    def after_answer(self, act: Callable[[], None]) -> None:
        """Call `act` once, right after the answer to the next watched request has passed."""
        self._on_answer = act

    def forget(self) -> None:
        """Take the last `after_answer` back."""
        self._on_answer = None

    async def serve(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more, and break what is open."""
        if self._server is not None:
            self._server.close()
        self._flows.set()
        self._cut()

    def _call(self, act: Callable[[], None]) -> None:
        done = threading.Event()

        def run() -> None:
            act()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait(5)

    def _cut(self) -> None:
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def _heal(self) -> None:
        self._is_cut = False
        self._bytes_s = 0
        self._flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        await self._flows.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = (writer, far_writer)
        self._writers.update(ends)
        asked = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer, asked.set, None))
                group.create_task(self._pump(far_reader, writer, None, asked))
        except* (OSError, EOFError):
            pass
        finally:
            self._writers.difference_update(ends)
            for end in ends:
                end.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_request: Callable[[], None] | None,
        asked: asyncio.Event | None,
    ) -> None:
        """Copy until either end closes, which ends the other direction as well."""
        while chunk := await reader.read(CHUNK_BYTES):
            await self._flows.wait()
            if on_request is not None and self._pattern and self._pattern in chunk:
                self._seen = time.monotonic()
                on_request()
            while chunk and (bytes_s := self._bytes_s):
                size = max(1, bytes_s // DROPS_A_SECOND)
                writer.write(chunk[:size])
                await writer.drain()
                chunk = chunk[size:]
                await asyncio.sleep(size / bytes_s)
            writer.write(chunk)
            await writer.drain()
            if asked is not None and asked.is_set():
                asked.clear()
                act, self._on_answer = self._on_answer, None
                if act is not None:
                    act()
        raise EOFError


class Network:
    """Every link, on one thread."""

    def __init__(self) -> None:
        self._links: list[Link] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()

    def link(self, name: str, target: int) -> Link:
        """A new link to `target` on loopback, open."""
        link = Link(name, target, self._loop)
        asyncio.run_coroutine_threadsafe(link.serve(), self._loop).result(5)
        self._links.append(link)
        return link

    def close(self) -> None:
        """End every connection."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _stop(self) -> None:
        for link in self._links:
            await link.close()
        if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=4)
