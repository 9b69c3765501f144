"""The HTTP server: waitress 3.0.2 with the bounds that its settings cannot express.

    request.py  one request as it arrives: what its head may say, who lets its body in, where the body goes
    channel.py  one connection: reading and sending without holding a thread, and the answers that the server gives itself
    server.py   the loop, the lanes of threads, the clocks, and stopping
    stock.py    none of these: waitress as it comes, where a setting asks for it

waitress keeps what is not here: running WSGI applications and writing response heads.
"""

from mosis.server.loop import Server
from mosis.server.request import Admission
from mosis.server.stock import StockServer

__all__ = ["Admission", "Server", "StockServer"]
