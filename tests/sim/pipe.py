"""One direction of a connection in memory: bytes cross it in order, each chunk after a drawn delay, within a window.

    write -> unsent, while the window is full -> on the way -> receiver.on_data -> consumed -> room for more

A cut direction is silent: what would arrive waits, and does so some delay after the healing. Signs (the end, a reset) cross as
bytes do. A pipe works on two lanes: the sender's, where the window opens, and the receiver's, where things arrive.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from contextvars import Context
from enum import Enum
from typing import NamedTuple, Protocol, cast

from tests.sim.loop import SimLoop

WINDOW_BYTES = 256 << 10  # what the kernels of both sides and the cable hold together
UNSENT_BYTES_MAX = 64 << 20  # beyond it a sender has no bound of its own, which is a mistake of ours


class Direction(Enum):
    TO_NODE = "to node"
    FROM_NODE = "from node"


class Sign(Enum):
    """What crosses besides bytes."""

    OPEN = "a connection is asked for"
    ACCEPTED = "it is made"
    REFUSED = "nobody listens"
    END = "the sender has closed"
    RESET = "the sender is gone"


LAST_SIGNS = (Sign.REFUSED, Sign.END, Sign.RESET)


class Delay(NamedTuple):
    """Seconds that a chunk takes, between two bounds."""

    least_s: float
    most_s: float


class Receiver(Protocol):
    @property
    def takes_data(self) -> bool:
        """While it does not, all but a reset waits."""
        ...

    def on_data(self, data: bytes) -> None: ...

    def on_sign(self, sign: Sign) -> None: ...


class Link:
    """What the pipes between one client and one node have in common. The wire keeps it up to date."""

    __slots__ = ("client_id", "cut", "delay", "node_id", "rng", "split_probability")

    def __init__(self, client_id: str, node_id: int, rng: random.Random, delay: Delay, split_probability: float) -> None:
        self.client_id = client_id
        self.node_id = node_id
        self.rng = rng
        self.delay = delay
        self.split_probability = split_probability
        self.cut = {Direction.TO_NODE: False, Direction.FROM_NODE: False}

    def draw_delay(self) -> float:
        least_s, most_s = self.delay
        return least_s + (most_s - least_s) * self.rng.random()


class Pipe:
    """Owned by a connection. Nothing crosses any more after a last sign or `stop`: `on_over` is called once."""

    def __init__(
        self,
        link: Link,
        direction: Direction,
        *,
        sender_context: Context,
        receiver_context: Context,
        receiver: Receiver,
        on_over: Callable[[], None],
    ) -> None:
        self.sender_context = sender_context
        self.receiver_context = receiver_context
        self.receiver = receiver
        self.on_room: Callable[[], None] = lambda: None  # on the sender's lane: some of the unsent bytes have gone
        self.unsent_bytes = 0
        self.is_over = False
        self._link = link
        self._direction = direction
        self._on_over = on_over
        self._loop = cast(SimLoop, asyncio.get_running_loop())
        self._unsent: deque[bytes] = deque()
        self._on_the_way: deque[tuple[float, bytes | Sign]] = deque()  # when it arrives, and what
        self._last_arrival = 0.0
        self._outstanding = 0  # bytes sent and not consumed yet
        self._last_sign: Sign | None = None  # to follow what is unsent
        self._timer: asyncio.TimerHandle | None = None  # for what arrives next
        self._is_stuck = False  # what arrives next waits for `wake`
        self._room_is_due = False

    @property
    def is_empty(self) -> bool:
        """Nothing is unsent or on the way."""
        return not self._unsent and not self._on_the_way

    # --- the sender's side

    def write(self, data: bytes) -> None:
        if self.is_over or self._last_sign is not None or not data:
            return
        if self._unsent or self._outstanding + len(data) > WINDOW_BYTES:
            self._unsent.append(data)
            self.unsent_bytes += len(data)
            assert self.unsent_bytes <= UNSENT_BYTES_MAX, f"{self._link.client_id}: {self.unsent_bytes} bytes are unsent"
            self._fill_window()
        else:
            self._send(data)

    def end(self, sign: Sign) -> None:
        """Send a sign behind everything that was written; after a last one nothing more can be written."""
        if self.is_over or self._last_sign is not None:
            return
        if sign in LAST_SIGNS:
            self._last_sign = sign
        if not self._unsent:
            self._push(sign)

    def reset(self, *, keep: bool = False) -> None:
        """The sender is gone: the other side hears of it. What is on the way arrives before that only with `keep`."""
        if self.is_over:
            return
        self._unsent.clear()
        self.unsent_bytes = 0
        self._last_sign = Sign.RESET
        if not keep:
            self._on_the_way.clear()
            self._disarm()
            self._is_stuck = False
        self._push(Sign.RESET)

    def stop(self) -> None:
        """At once: what has not arrived never will."""
        if not self.is_over:
            self.is_over = True
            self._unsent.clear()
            self._on_the_way.clear()
            self.unsent_bytes = 0
            self._disarm()
            self._on_over()

    def _fill_window(self) -> None:
        while self._unsent and (room := WINDOW_BYTES - self._outstanding) > 0:
            piece = self._unsent.popleft()
            if len(piece) > room:
                self._unsent.appendleft(piece[room:])
                piece = piece[:room]
            self.unsent_bytes -= len(piece)
            self._send(piece)
        if not self._unsent and self._last_sign is not None:
            self._push(self._last_sign)

    def _send(self, data: bytes) -> None:
        self._outstanding += len(data)
        rng = self._link.rng
        if len(data) > 1 and rng.random() < self._link.split_probability:
            place = rng.randrange(1, len(data))
            self._push(data[:place])
            data = data[place:]
        self._push(data)

    def _push(self, item: bytes | Sign) -> None:
        self._last_arrival = max(self._last_arrival, self._loop.now + self._link.draw_delay())
        self._on_the_way.append((self._last_arrival, item))
        self._arm(0.0)

    def _make_room(self) -> None:
        self._room_is_due = False
        if not self.is_over:
            self._fill_window()
            self.on_room()

    # --- the receiver's side

    def consumed(self, size: int) -> None:
        """The receiver has taken so many bytes; the sender hears of it if it waits for room."""
        self._outstanding -= size
        if self._unsent and not self._room_is_due:
            self._room_is_due = True
            self._loop.call_later(self._link.draw_delay(), self._make_room, context=self.sender_context)

    def wake(self, *, healed: bool = False) -> None:
        """Look again at what could not arrive: the receiver reads again, or the link is `healed`."""
        if self._is_stuck and not self.is_over:
            self._is_stuck = False
            self._arm(self._link.draw_delay() if healed else 0.0)

    def _arm(self, least_s: float) -> None:
        if self._timer is None and self._on_the_way and not self._is_stuck:
            delay_s = max(least_s, self._on_the_way[0][0] - self._loop.now)
            self._timer = self._loop.call_later(delay_s, self._arrive, context=self.receiver_context)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arrive(self) -> None:
        self._timer = None
        item = self._on_the_way[0][1]
        if self._link.cut[self._direction] or not (self.receiver.takes_data or item is Sign.RESET):
            self._is_stuck = True
            return
        self._on_the_way.popleft()
        if isinstance(item, Sign):
            self._on_sign(item)
        else:
            self.receiver.on_data(self._with_what_is_due(item))
            self._arm(0.0)

    def _with_what_is_due(self, first: bytes) -> bytes:
        """Chunks that have arrived by now come together."""
        pieces, now, waiting = [first], self._loop.now, self._on_the_way
        while waiting and waiting[0][0] <= now and not isinstance(waiting[0][1], Sign):
            pieces.append(cast(bytes, waiting.popleft()[1]))
        return b"".join(pieces) if len(pieces) > 1 else first

    def _on_sign(self, sign: Sign) -> None:
        if sign in LAST_SIGNS:
            self.stop()
        self.receiver.on_sign(sign)
        self._arm(0.0)
