"""The open connections by client: whose turn it is, which one is closed for another, whose time limits are looked at next.

Whatever the loop does in one turn costs what is ready then, however many connections there are. A client is an IPv4 address or
an IPv6 /64. Each connection of a trusted proxy counts as a client of its own, because it carries the requests of many.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mosis.server.channel import Channel

IDLE, SLOW, MOVING = range(3)  # in the order in which connections are closed for others
LOOKED_AT = 200  # connections that are compared to find one to close; more than an address may have


class Turns:
    """Connections with events, handed out in turn between clients: the queue of one client delays another by one event."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[Channel]] = OrderedDict()

    def put(self, channel: "Channel") -> None:
        """Add a connection with events, which is not in it yet, behind those of its client."""
        queue = self._queues.get(channel.client)
        if queue is None:
            queue = self._queues[channel.client] = deque()
        queue.append(channel)

    def take(self) -> "Channel":
        """The next connection. Raises KeyError when there is none."""
        client, queue = self._queues.popitem(last=False)
        channel = queue.popleft()
        if queue:
            self._queues[client] = queue  # behind the other clients
        return channel

    def __bool__(self) -> bool:
        return bool(self._queues)


class Connections:
    """The open connections. Used by the loop's thread alone."""

    def __init__(self) -> None:
        self._of_client: dict[str, dict[Channel, None]] = {}
        self._by_number: dict[int, OrderedDict[str, None]] = {}  # clients by how many they have
        self._rotation: OrderedDict[Channel, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rotation)

    def add(self, channel: "Channel") -> None:
        """A connection was opened."""
        of_client = self._of_client.setdefault(channel.client, {})
        of_client[channel] = None
        self._moved(channel.client, len(of_client) - 1, len(of_client))
        self._rotation[channel] = None

    def remove(self, channel: "Channel") -> None:
        """A connection was closed."""
        of_client = self._of_client[channel.client]
        del of_client[channel], self._rotation[channel]
        if not of_client:
            del self._of_client[channel.client]
        self._moved(channel.client, len(of_client) + 1, len(of_client))

    def number_of(self, client: str) -> int:
        """How many connections a client has."""
        return len(self._of_client.get(client, ()))

    def next_ones(self, number: int) -> "Iterator[Channel]":
        """So many connections, in rotation. Each may be closed meanwhile."""
        for _ in range(min(number, len(self))):
            if not self._rotation:
                return
            channel = next(iter(self._rotation))
            self._rotation.move_to_end(channel)
            yield channel

    def to_close(
        self, most: int, now: float, grace_seconds: float, client: str | None = None
    ) -> "Channel | None":
        """The connection to close for another: of the client with the most connections (or of the one that is given) an idle one,
        then a slow one, as far as `most` allows, and of these the one that was served the longest ago. A byte now and then does
        not count. None whose request runs, and none that was served within the grace period.

        Of many clients with equally many connections some are compared in each call, in rotation.
        """
        groups = iter([list(self._of_client.get(client, ()))]) if client else self._largest()
        for group in groups:
            best: tuple[tuple[int, float], Any] = ((most + 1, 0.0), None)
            for channel in group:
                if channel.is_working or channel.served_at > now - grace_seconds:
                    continue
                kind = IDLE if channel.is_idle else SLOW if channel.is_slow(now) else MOVING
                best = min(best, ((kind, channel.served_at), channel), key=lambda each: each[0])
            if best[1] is not None:
                return best[1]
        return None

    def _largest(self) -> "Iterator[list[Channel]]":
        """The connections of the clients with the most, then those of the clients with fewer; about LOOKED_AT in all."""
        looked_at = 0
        for number in sorted(self._by_number, reverse=True):
            clients = self._by_number[number]
            group: list[Channel] = []
            for _ in range(len(clients)):
                if looked_at + len(group) >= LOOKED_AT:
                    break
                client = next(iter(clients))
                clients.move_to_end(client)
                group += self._of_client[client]
            looked_at += len(group)
            yield group

    def _moved(self, client: str, before: int, after: int) -> None:
        if before:
            clients = self._by_number[before]
            del clients[client]
            if not clients:
                del self._by_number[before]
        if after:
            self._by_number.setdefault(after, OrderedDict())[client] = None
