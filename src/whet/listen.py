"""A socket for a server of ours: bound before anyone is told of it, so that whoever comes early waits."""

from __future__ import annotations

import ipaddress
import socket

from whet.errors import RunError

BACKLOG = 2048
"""Connections that wait to be taken."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens; `port` 0 takes a free one. Raises RunError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)  # from here on who comes waits, and is not refused
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(f"cannot listen: {reason}", where=f"{host}:{port}", do="name another --port") from None
    return listening


def address(host: str, listening: socket.socket) -> str:
    """http://host:port, as a browser takes it."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
