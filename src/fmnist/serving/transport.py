"""What uvicorn writes to and reads from: a connection's transport, in the connection's hands."""

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import FlowControl

if TYPE_CHECKING:
    from fmnist.serving.connection import Connection


class Flow(FlowControl):
    """uvicorn's flow control, which reads no further while enough waits to be answered."""

    def __init__(self, transport: asyncio.Transport, connection: "Connection") -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        """Read on, unless there is enough to do."""
        if not self._connection.has_enough():
            super().resume_reading()


class LingeringTransport:
    """A transport for uvicorn, whose end is the connection's to time."""

    def __init__(self, transport: asyncio.Transport, connection: "Connection") -> None:
        self._transport = transport
        self._connection = connection
        self.write = transport.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Tell whether nothing more is to be written."""
        return self._connection.is_ending() or self._transport.is_closing()

    def close(self) -> None:
        """Have the connection end."""
        self._connection.end()
