"""The HTTP server: an event loop of the portal's own, built from parts of waitress 3.0.2.

    request.py    parses a request, asks for its admission, stores its body
    channel.py    one connection: reading and sending without holding a thread
    responses.py  response heads, cached responses, and the errors that the server answers itself
    suspension.py what suspends a long-poll request
    loop.py       the loop, the lanes of threads, the bounds on connections, time limits, stopping
    stock.py      waitress as it comes, where a setting asks for it

waitress is a supplier of parts: running WSGI applications, decoding bodies, the file wrapper, the dispatcher of events.
Each override names the waitress method that it replaces or extends, so that an update of waitress can be checked against it.
"""

from mosis.server.loop import Server
from mosis.server.request import Admission
from mosis.server.stock import StockServer

__all__ = ["Admission", "Server", "StockServer"]
