"""Trial 14: a connection to the address is seen."""

import socket

from tests.chaos.addresses import listener


def test_a_connection_to_the_address_is_counted_once() -> None:
    with listener() as (address, connected):
        assert connected() == 0
        host, port = address.split(":")
        socket.create_connection((host, int(port))).close()
        assert connected() == 1
        assert connected() == 0
