"""The addresses at which a rendezvous server is reached over the network."""

from __future__ import annotations

import fcntl
import ipaddress
import logging
import socket
import struct

_SIOCGIFADDR = 0x8915
_MOST = 32  # of one machine

log = logging.getLogger("hipcomm")


def own_addresses() -> list[str]:
    """Return the IPv4 addresses of this node, those of other machines' networks first."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # an interface without an address
            found.append(socket.inet_ntoa(answer[20:24]))
    return sorted(found, key=lambda address: ipaddress.ip_address(address).is_loopback)[:_MOST]


def warn_if_public(host: str) -> None:
    """Log a warning where the server is reached at an address of the whole internet's."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return  # a name, which people have chosen
    if address.is_global:
        log.warning(
            "the rendezvous server is at %s, a public address: only the token keeps strangers out, and what "
            "ranks tell each other is not encrypted",
            host,
        )
