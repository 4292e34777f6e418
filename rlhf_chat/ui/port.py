"""Is the port free? Asked before anything heavy is loaded, so only sockets are needed here."""

from __future__ import annotations

import errno
import os
import socket

from rlhf_chat.errors import PortError


def port_error(host: str, port: int, error: OSError) -> PortError:
    """Why the app cannot listen there."""
    if error.errno in (errno.EADDRINUSE, None):  # None: Gradio, which looked for a free one
        return PortError("port.in_use", host=host, port=port)
    if isinstance(error, PermissionError):  # below 1024 on most Unixes, reserved ones on Windows
        return PortError("port.not_allowed", host=host, port=port)
    return PortError("port.cannot_open", host=host, port=port, error=error.strerror or str(error))


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
            raise port_error(host, port, error) from None
