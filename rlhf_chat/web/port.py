"""Is the port free? Asked before anything heavy is loaded, so only sockets are needed here."""

from __future__ import annotations

import os
import socket


class PortInUse(Exception):
    """Another program listens there already."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"Port {port} on {host} is in use by another program. Choose another one with --port."
        )
        self.host, self.port = host, port


def check_port(port: int, host: str = "127.0.0.1") -> None:
    """Raises PortInUse."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name == "posix":
            # A port that was closed a moment ago is free. On Windows the flag means another thing.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            raise PortInUse(host, port) from None
