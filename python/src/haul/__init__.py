# SPDX-License-Identifier: Apache-2.0
"""haul: dicts of NumPy arrays between processes and machines.

    import haul, numpy as np

    with haul.listen("127.0.0.1:5555") as server:
        for message in server:
            message["foo"].mean()
            message.reply({"ok": np.array(1)})

    with haul.connect("127.0.0.1:5555") as peer:
        reply = peer.call({"foo": frames, "bar": features})

The provider is chosen by HAUL_PROVIDER, or by listen(..., provider="zmq"). Waits release the GIL, end
with Ctrl-C, and take a timeout in seconds.
"""

from collections.abc import Mapping as _Mapping

from . import _haul
from ._batch import Batch
from ._default import Context, connect, context, empty, listen, stats
from ._haul import (
    Address,
    Borrowed,
    Busy,
    CallError,
    Cancelled,
    Closed,
    Config,
    ContextError,
    Error,
    Forked,
    Interrupted,
    Invalid,
    Message,
    NoMemory,
    NoReply,
    NotFound,
    Op,
    OpError,
    Peer,
    PeerError,
    PeerLost,
    Protocol,
    Provider,
    Refused,
    Server,
    System,
    Timeout,
    TooLarge,
    Unreachable,
    Unsupported,
    Version,
    info,
)

__version__ = _haul.version
_Mapping.register(Message)

__all__ = [
    "Address",
    "Batch",
    "Borrowed",
    "Busy",
    "CallError",
    "Cancelled",
    "Closed",
    "Config",
    "Context",
    "ContextError",
    "Error",
    "Forked",
    "Interrupted",
    "Invalid",
    "Message",
    "NoMemory",
    "NoReply",
    "NotFound",
    "Op",
    "OpError",
    "Peer",
    "PeerError",
    "PeerLost",
    "Protocol",
    "Provider",
    "Refused",
    "Server",
    "System",
    "Timeout",
    "TooLarge",
    "Unreachable",
    "Unsupported",
    "Version",
    "connect",
    "context",
    "empty",
    "info",
    "listen",
    "stats",
]
