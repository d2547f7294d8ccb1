"""Operator console: what the hub knows, shown live in a browser, in English and Korean.

`StatusBoard` holds what there is to show, `create_app` serves it, `ConsoleServer` runs it inside the hub's
event loop. The console only reads: nothing here can change a meter, a market or a chain.
"""

from hub.console.board import BoardError, Delta, Event, StatusBoard, TooManyWatchers
from hub.console.server import ConsoleError, ConsoleServer, create_app

__all__ = [
    "BoardError",
    "ConsoleError",
    "ConsoleServer",
    "Delta",
    "Event",
    "StatusBoard",
    "TooManyWatchers",
    "create_app",
]
