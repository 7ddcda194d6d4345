"""Requests that another site's page makes a browser send: a form or a script there must change nothing here.

Where no key is needed, whoever stands in the same network is trusted, and so is their browser, whatever page it shows.
Browsers tell where a request comes from by `Sec-Fetch-Site` (on https and localhost) and by `Origin` (with every POST),
and no page can change either. Other clients send neither.
"""

from urllib.parse import urlsplit

from starlette.requests import Request

from gateway.access.scope import READING
from gateway.errors import CrossSiteError

OWN = {"same-origin", "none"}  # none: the person at the browser, no page


def check_origin(request: Request) -> None:
    """Lets pass what reads, what no browser sends, and what this service's own page sends.

    Raises:
        CrossSiteError: another site's page has sent it.
    """
    if request.method in READING:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    host = request.headers.get("host", "")
    if _is_foreign(site, origin, host):
        raise CrossSiteError(
            f"a page of {origin or 'another site'} made the browser send this to {host}; open this service's own page, "
            "and let a proxy before it pass the Host header on as it came"
        )


def _is_foreign(site: str | None, origin: str | None, host: str) -> bool:
    if site is not None:
        return site not in OWN
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != host.lower()
    except ValueError:  # no origin of anything
        return True
