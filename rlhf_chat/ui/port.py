"""Is the port free? Asked before anything heavy is loaded, so only sockets are needed here."""

from __future__ import annotations

import errno
import os
import socket


class PortError(Exception):
    """The app cannot listen there; the message is one sentence that says why."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        super().__init__(f"Port {port} on {host} {_why(error)}. Choose another one with --port.")
        self.host, self.port = host, port


def _why(error: OSError) -> str:
    if error.errno in (errno.EADDRINUSE, None):  # None: Gradio, which looked for a free one
        return "is in use by another program"
    if isinstance(error, PermissionError):  # below 1024 on most Unixes, reserved ones on Windows
        return "may not be opened by this account"
    return f"cannot be opened ({error.strerror or error})"


def check_port(port: int, host: str = "127.0.0.1") -> None:
    """Raises PortError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name == "posix":
            # A port that was closed a moment ago is free. On Windows the flag means another thing.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortError(host, port, error) from None
