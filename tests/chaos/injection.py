"""Trial 18: names that are code, in every field that keeps or shows one: they stay text, and make no series."""

import json
from urllib.parse import quote

from prometheus_client.parser import text_string_to_metric_families

from gateway.catalog.seeds import SEEDS
from tests.chaos.grounds import Gateway, Grounds, wait_until
from tests.chaos.load import tile
from tests.chaos.trial import Outcome, Scale

NAMES = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; DROP TABLE defects; --",
    "' UNION SELECT secret_sha256 FROM api_keys --",
    "%s %d %n {0} {name} ${jndi:ldap://x/y} {{7*7}}",
    "\\u0000 \\x1b[31m",
    'short"} 1\npcbd_ready 0\n#',
    "a\r\nSet-Cookie: x=y",
    "../../etc/passwd",
    "\u202etxt.exe",
    '短路\u2028{"level": "critical"}',
    "__proto__",
)
MAX_RECIPES = 51  # gateway/review/rates.py: fifty, and one for all others


def injection(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """Through the catalog, requests, reviews and headers."""
    gateway = grounds.shared
    told_before = len(gateway.log.read_bytes())
    with grounds.delayed(0):
        page = gateway.client.get("/").content
        catalog = {defect["id"] for defect in gateway.client.get("/defects").json()["defects"]}
        known = catalog | {seed.id for seed in SEEDS} | {"glue", "other"}  # earlier trials may have changed the catalog
        kept = [_teach(gateway, number, name) for number, name in enumerate(NAMES)]
        outcome.note("names_kept", sum(kept))
        outcome.same(
            "kept_as_they_were", [n for n, k in zip(NAMES, kept, strict=True) if k and not _is_kept(gateway, n)], []
        )
        answers = [_detect(gateway, name) for name in NAMES]
        outcome.same("answers_above_499", [status for status in answers if status >= 500], [])
        recipes = scale.number(300, 70)
        outcome.same(
            "reviewed", sum(_review(gateway, f"{NAMES[0]} {number}", number) for number in range(recipes)), recipes
        )
        wait_until(lambda: _recipes(gateway) >= MAX_RECIPES, "the rates to be read")
        outcome.most("recipes_in_metrics", _recipes(gateway), MAX_RECIPES)
        ids = {defect["id"] for defect in gateway.client.get("/defects").json()["defects"]}
        foreign = (
            {
                sample.labels["defect"]
                for family in text_string_to_metric_families(gateway.client.get("/metrics").text)
                for sample in family.samples
                if "defect" in sample.labels
            }
            - ids
            - known
        )
        outcome.same("labels_that_are_no_defect", sorted(foreign), [])
        outcome.same("defects_lost", sorted(catalog - ids), [])
        outcome.same("page_changed", gateway.client.get("/").content != page, False)
        policy = gateway.client.get("/").headers["Content-Security-Policy"]
        outcome.same("page_allows_inline_code", "unsafe-inline" in policy or "unsafe-eval" in policy, False)
        lines = gateway.log.read_bytes()[told_before:].splitlines()
        outcome.note("log_lines", len(lines))
        outcome.same("log_lines_that_are_no_record", sum(not _is_record(line) for line in lines), 0)
        outcome.same("control_characters_in_log", sum(any(byte < 32 for byte in line) for line in lines), 0)
        outcome.same(
            "forged_levels", sum(json.loads(line)["level"] == "critical" for line in lines if _is_record(line)), 0
        )


def _teach(gateway: Gateway, number: int, name: str) -> bool:
    """Whether the catalog took it."""
    answer = gateway.client.put(
        f"/defects/odd_{number}",
        json={"names": {"en": [name]}, "descriptions": {"en": [name], "zh": [name]}},
        headers={"X-Actor": quote(name)},
    )
    assert answer.status_code in {201, 422}, answer.text
    return answer.status_code == 201


def _is_kept(gateway: Gateway, name: str) -> bool:
    number = NAMES.index(name)
    defect = gateway.client.get(f"/defects/odd_{number}").json()
    history = gateway.client.get(f"/defects/odd_{number}/history").json()
    expected = name.strip()
    return defect["names"]["en"] == [expected] and expected in json.dumps(history, ensure_ascii=False).replace(
        "\\\\", "\\"
    ).replace('\\"', '"')


def _detect(gateway: Gateway, name: str) -> int:
    answer = gateway.client.post(
        "/detect",
        files={"image": (name.replace("\r\n", " "), tile())},
        data={"prompt": name, "board_id": name, "camera_id": name, "recipe": name},
        headers={"X-Request-ID": quote(name), "User-Agent": quote(name), "traceparent": quote(name)},
    )
    return answer.status_code


def _review(gateway: Gateway, recipe: str, number: int) -> bool:
    """A board of a recipe of its own, judged."""
    request_id = f"odd-{number}"
    headers = {"X-Request-ID": request_id}
    answer = gateway.client.post(
        "/detect", files={"image": tile()}, data={"prompt": "short", "recipe": recipe}, headers=headers
    )
    judged = [{"id": found["id"], "judgement": "false"} for found in answer.json()["detections"]]
    wait_until(lambda: gateway.status(f"/inspections/{request_id}") == 200, "the answer to be recorded")
    said = {"request_id": request_id, "detections": judged, "complete": True, "comment": recipe}
    return gateway.client.post("/feedback", json=said).is_success


def _recipes(gateway: Gateway) -> int:
    return len(
        {
            sample.labels["recipe"]
            for family in text_string_to_metric_families(gateway.client.get("/metrics").text)
            for sample in family.samples
            if "recipe" in sample.labels
        }
    )


def _is_record(line: bytes) -> bool:
    try:
        return "level" in json.loads(line)
    except ValueError:
        return False
