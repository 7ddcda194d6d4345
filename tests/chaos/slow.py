"""Trial 13: hundreds of clients that are slow with heads, with bodies, or at taking answers: others notice nothing."""

import io
import select
import selectors
import socket
import time

import numpy as np
from PIL import Image

from tests.chaos.grounds import Gateway, Grounds, wait_until
from tests.chaos.load import Load, p99
from tests.chaos.peak import forget_peak, peak_rss_bytes
from tests.chaos.trial import Outcome, Scale

BODY_HEAD = (
    b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 100000\r\n\r\n\xff\xd8\xff\xe0"
)
STARTS = {
    "head": b"GET /healthz HTTP/1.1\r\nHost: x\r\n",
    "body": BODY_HEAD,
    "read": b"GET /inspections/large/image HTTP/1.1\r\nHost: x\r\n\r\n",  # and takes nothing of it
}
DRIBBLE = {"head": b"X-More: y\r\n", "body": b"\0"}
DRIBBLE_S = 1.0
# Between one client and the next. Five hundred pictures at once would hold others up by their work, read or not.
ARRIVAL_S = {"head": 0.0, "body": 0.0, "read": 0.01}
GIVE_UP_S = 15.0  # beyond the setting
SLACK_S = 1.0  # beyond the setting: what is slow is looked at no oftener
DROPPED = "pcbd_dropped_connections_total"
LARGE_SIDE = 1100  # pixels
ORDINARY_PER_S = 10.0  # requests of others, each due at its time: one that waits does not put off the next
ORDINARY_SLOWEST_S = 1.0


def slow(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """Each is answered 408 or closed when its time is over, and an ordinary client's p99 at most doubles."""
    gateway = grounds.impatient
    limit_s = float(gateway.settings.get("head_timeout_s", 10))
    _keep_a_large_picture(gateway)
    before = Load(gateway.url)
    before.at_rate(ORDINARY_PER_S, scale.seconds(20, 2))
    baseline_ms = p99(before.seconds_of("200")) * 1e3
    outcome.note("time_limit_s", limit_s)
    outcome.note("ordinary_p99_alone_ms", baseline_ms)
    for kind, start in STARTS.items():
        number, during = scale.number(500, 60), Load(gateway.url)
        forget_peak(gateway.process.pid)
        with during.running_at(ORDINARY_PER_S):
            clients, seconds = SlowClients(gateway, start, number, ARRIVAL_S[kind]), limit_s + GIVE_UP_S
            closed_s = clients.read_nothing(seconds) if kind == "read" else clients.dribble(DRIBBLE[kind], seconds)
        outcome.note(f"{kind}_connections", number)
        outcome.same(f"{kind}_left_open", number - len(closed_s), 0)
        outcome.quick(f"{kind}_closed_s", max(closed_s, default=float("nan")), limit_s + SLACK_S)
        expected = {"200", "429"} if scale.short else {"200"}  # as a machine at other work answers what is due
        outcome.same(f"{kind}_other_ordinary_answers", sorted(during.statuses().keys() - expected), [])
        outcome.quick(f"{kind}_ordinary_p99_ms", p99(during.seconds_of("200")) * 1e3, 2 * baseline_ms)
        outcome.quick(f"{kind}_ordinary_slowest_s", during.slowest_s(), ORDINARY_SLOWEST_S)
        outcome.note(f"{kind}_gateway_peak_rss_mb", peak_rss_bytes(gateway.process.pid) / 1e6)


def _keep_a_large_picture(gateway: Gateway) -> None:
    """More than a system's buffers hold of an answer that nobody takes."""
    noise = np.random.default_rng(0).integers(0, 256, (LARGE_SIDE, LARGE_SIDE, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noise).save(encoded, "BMP")
    region = {"prompt": "short", "regions": "[[0, 0, 9, 9]]"}  # one tile of it is looked at
    headers = {"X-Request-ID": "large"}
    answer = gateway.client.post("/detect", files={"image": encoded.getvalue()}, data=region, headers=headers)
    assert answer.status_code == 200, answer.text
    wait_until(lambda: gateway.status("/inspections/large/image") == 200, "the picture to be kept")


class SlowClients:
    """So many connections, made one after the other, each of which has sent the same."""

    def __init__(self, gateway: Gateway, start: bytes, number: int, arrival_s: float) -> None:
        self._gateway = gateway
        self._number = number
        self._dropped_before = self._dropped()
        self._selector = selectors.DefaultSelector()
        self._began = time.monotonic()
        for _ in range(number):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", gateway.port))
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, time.monotonic())
            _send(connection, start)
            time.sleep(arrival_s)

    def dribble(self, data: bytes, seconds: float) -> list[float]:
        """Sends a little every second; how long the connections lasted that were answered or ended."""
        over: list[float] = []
        dribbled = time.monotonic()
        while self._selector.get_map() and time.monotonic() - self._began < seconds:
            over += [self._end(key) for key, _ in self._selector.select(0.05) if _is_over(key.fileobj)]
            if time.monotonic() - dribbled >= DRIBBLE_S:
                dribbled = time.monotonic()
                left = list(self._selector.get_map().values())
                over += [self._end(key) for key in left if not _send(key.fileobj, data)]
        self._end_all()
        return over

    def read_nothing(self, seconds: float) -> list[float]:
        """As `dribble`, since the last answer began to come; only the gateway sees when they end, and counts."""
        over: list[float] = []
        until = time.monotonic() + seconds
        for key in list(self._selector.get_map().values()):
            select.select([key.fileobj], [], [], max(0.0, until - time.monotonic()))
        self._began = time.monotonic()
        while len(over) < self._number and time.monotonic() - self._began < seconds:
            dropped = self._dropped() - self._dropped_before
            over += [time.monotonic() - self._began] * (dropped - len(over))
            time.sleep(0.2)
        ended = sum(_was_cut_off(key.fileobj) for key in self._selector.get_map().values())
        self._end_all()
        return over[:ended]

    def _dropped(self) -> int:
        """Connections that were given up so far: of those that take nothing, also to make room."""
        return sum(int(self._gateway.metric(DROPPED, reason=reason)) for reason in ("send", "crowded"))

    def _end(self, key: selectors.SelectorKey) -> float:
        self._selector.unregister(key.fileobj)
        key.fileobj.close()
        return time.monotonic() - key.data

    def _end_all(self) -> None:
        for key in list(self._selector.get_map().values()):
            self._end(key)
        self._selector.close()


def _send(connection: socket.socket, data: bytes) -> bool:
    """Whether the connection still takes something."""
    try:
        connection.send(data)
    except BlockingIOError:
        pass
    except OSError:
        return False
    return True


def _is_over(connection: socket.socket) -> bool:
    """Whether it was answered or closed: nothing else is sent to who has not asked yet."""
    try:
        data = connection.recv(4096)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return data == b"" or data.startswith(b"HTTP/1.1 408")


def _was_cut_off(connection: socket.socket) -> bool:
    """Whether it ends before the whole picture is taken; what the gateway's system still holds of it comes first."""
    connection.settimeout(GIVE_UP_S)
    taken = 0
    try:
        while data := connection.recv(65_536):
            taken += len(data)
    except TimeoutError:
        return False
    except OSError:
        pass
    return taken < LARGE_SIDE * LARGE_SIDE * 3
