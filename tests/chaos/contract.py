"""Trial 15, its part of the contract: schemathesis over /openapi.json, valid and invalid, without a 5xx."""

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import status_code_conformance

from tests.chaos.grounds import Grounds
from tests.chaos.trial import Outcome, Scale

KINDS = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


def contract(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """At least 2,000 cases; tests/gateway/test_openapi.py asks less and looks more closely."""
    cases, faults = 0, []
    with grounds.delayed(0), grounds.gateway() as gateway:
        api = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
        operations = [result.ok() for result in api.get_all_operations()]
        each = max(1, -(-scale.number(3_600, 60) // (len(operations) * len(KINDS))))
        for operation in operations:
            if "/activate" in operation.path:  # the stub's repository has no versions to activate
                continue
            for kind in KINDS:
                if kind is GenerationMode.NEGATIVE and not (operation.body or list(operation.iter_parameters())):
                    continue

                @given(case=operation.as_strategy(generation_mode=kind))
                @settings(
                    max_examples=each,
                    derandomize=True,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                def answers(case: schemathesis.Case) -> None:
                    nonlocal cases
                    cases += 1
                    case.headers.pop("X-Request-Timeout-Ms", None)  # a few milliseconds are answered by 504, rightly
                    case.call_and_validate(checks=[not_a_server_error, status_code_conformance])

                try:
                    answers()
                except Exception as error:  # noqa: BLE001 - schemathesis raises groups of many kinds
                    faults.append(f"{operation.label}: {error}"[:500])
        outcome.same("healthy", gateway.status("/readyz"), 200)
    outcome.note("operations", len(operations))
    outcome.least("cases", cases, scale.number(2_000, 40))
    outcome.same("faults", faults, [])
