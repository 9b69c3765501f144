"""Publish/subscribe for account events: subscribers are called at once when this process commits an
event, and within a second when another process does."""

import logging
import sys
import threading
from collections.abc import Callable

from mosis.database import Database

log = logging.getLogger("mosis.events.subscriptions")
# interval of polling for commits of other processes, while there are subscribers
LOOK_SECONDS = 0.5


class Subscriptions:
    """The subscribers of each account, and one thread that calls them. The thread starts with the
    first subscriber and sleeps while there is none."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._condition = threading.Condition()
        self._subscribers: dict[str, list[Callable[[], None]]] = {}
        self._changed: set[str] = set()
        self._thread: threading.Thread | None = None
        self._seen = (0, 0)  # the database's data_version and the number of its last event
        self._closed = False
        database.on_event = self.notify

    def notify(self, developer_id: str) -> None:
        """An event of this account has been committed."""
        if developer_id in self._subscribers:
            with self._condition:
                self._changed.add(developer_id)
                self._condition.notify()

    def subscribe(self, developer_id: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback`, in this object's thread, after every later event of the account; spurious
        calls are possible. `callback` must return quickly. The returned function ends the subscription.
        """
        end = self.subscribe_among(developer_id, callback, sys.maxsize)
        assert end is not None
        return end

    def subscribe_among(
        self, developer_id: str, callback: Callable[[], None], most: int
    ) -> Callable[[], None] | None:
        """As `subscribe`; None, and no subscription, when the account has `most` subscribers."""
        with self._condition:
            if len(self._subscribers.get(developer_id, ())) >= most:
                return None
            if not self._subscribers:  # earlier events have no subscriber
                self._seen = (self.database.data_version(), self._newest_number())
            self._subscribers.setdefault(developer_id, []).append(callback)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="news", daemon=True)
                self._thread.start()
            self._condition.notify()

        def end() -> None:
            with self._condition:
                left = self._subscribers.get(developer_id, [])
                if callback in left:
                    left.remove(callback)
                if not left:
                    self._subscribers.pop(developer_id, None)

        return end

    def waiting(self, developer_id: str) -> int:
        """The number of subscribers of this account."""
        return len(self._subscribers.get(developer_id, ()))

    def close(self) -> None:
        """End the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(5)

    def _loop(self) -> None:
        while True:
            with self._condition:
                if not self._changed and not self._closed:
                    self._condition.wait(LOOK_SECONDS if self._subscribers else None)
                if self._closed:
                    return
                changed, self._changed = self._changed, set()
            try:
                self._call(changed | self._elsewhere())
            except Exception:  # such as a locked database; the next poll finds the events
                log.exception("event dispatch failed")

    def _elsewhere(self) -> set[str]:
        """The accounts with events since the last poll, committed by any process."""
        version, number = self._seen
        now = self.database.data_version()
        if now == version:
            return set()
        sql = "SELECT developer_id, max(number) FROM events WHERE number > ? GROUP BY developer_id"
        rows = self.database.connection().all(sql, number)
        self._seen = (now, max((row[1] for row in rows), default=number))
        return {row[0] for row in rows}

    def _newest_number(self) -> int:
        return int(self.database.connection().value("SELECT coalesce(max(number), 0) FROM events"))

    def _call(self, changed: set[str]) -> None:
        for developer_id in changed:
            for callback in list(self._subscribers.get(developer_id, ())):
                callback()
