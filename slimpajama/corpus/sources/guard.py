"""The guard of addresses: no file server may lead into a private network, by a name or by a redirect."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

# Addresses that hold an IPv4 address in their last 32 bits (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# 6to4, and a network's own NAT64 (RFC 8215).
_TUNNELS = tuple(map(ipaddress.ip_network, ("2002::/16", "64:ff9b:1::/48")))


def check_public(address: Any) -> None:
    """Refuse an address, one of `socket.getaddrinfo`'s tuples, that is not public.

    Raises:
        PermissionError: It is inside a private network.
    """
    host = address[4][0]
    found = ipaddress.ip_address(host.partition("%")[0])
    inner = getattr(found, "ipv4_mapped", None) or found
    if found in _NAT64:
        # A gateway connects to the inner address.
        inner = ipaddress.ip_address(int(found) & 0xFFFFFFFF)
    if not inner.is_global or inner.is_multicast or any(inner in network for network in _TUNNELS):
        raise PermissionError(f"{host} is inside a private network")


def public_socket(address: Any) -> socket.socket:
    """Return a socket to an address that is public; for aiohttp, which asks for one at every connection."""
    check_public(address)
    return socket.socket(*address[:3])
