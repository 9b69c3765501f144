"""The HTTP server: an event loop built from parts of waitress 3.0.2.

    request.py     parses a request, asks for its admission, stores its body
    channel.py     one connection: reading and sending without holding a thread
    responses.py   response heads, cached responses, errors of the server itself
    suspension.py  the exception that suspends a long-poll request
    loop.py        the loop, bounds on connections, time limits, stopping
    lanes.py       the threads, in lanes that are shared among accounts
    stock.py       unmodified waitress, if configured

waitress supplies the execution of WSGI applications, the decoding of bodies, the file wrapper and the
event dispatcher. Each override names the waitress method that it replaces or extends, so that an
update of waitress can be compared with it.
"""

from mosis.server.loop import Server
from mosis.server.request import Admission
from mosis.server.stock import StockServer

__all__ = ["Admission", "Server", "StockServer"]
