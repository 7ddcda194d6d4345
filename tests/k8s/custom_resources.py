"""JSON schemas of the custom resources that k8s/ uses, for kubernetes-validate has none of them.

Required fields and types as the published CustomResourceDefinitions of August 2026 state them (Prometheus operator,
KEDA, External Secrets v1, Gateway API v1); of the optional fields only those that are used. Others are refused: the API
server prunes a misspelt field without a word.
"""

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
NUMBER: Schema = {"type": "integer", "minimum": 0}
DURATION: Schema = {"type": "string", "pattern": r"^([0-9]+(y|w|d|h|m|s|ms))+$"}
LABELS: Schema = {"type": "object", "additionalProperties": TEXT}


def _object(required: dict[str, Schema], **optional: Schema) -> Schema:
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: Schema, *, least: int = 1) -> Schema:
    return {"type": "array", "items": items, "minItems": least}


_POLICY = _object({"type": {"enum": ["Pods", "Percent"]}, "value": NUMBER, "periodSeconds": NUMBER})
_SCALING = _object({}, stabilizationWindowSeconds=NUMBER, policies=_list(_POLICY))
_BACKEND = _object({"name": TEXT, "port": NUMBER}, weight=NUMBER)
_RELABELING = _object({"sourceLabels": _list(TEXT), "regex": TEXT, "targetLabel": TEXT, "replacement": TEXT})
_PATH = _object({"type": {"enum": ["Exact", "PathPrefix", "RegularExpression"]}, "value": TEXT})
_HEADER = _object({"name": TEXT, "value": TEXT}, type={"enum": ["Exact", "RegularExpression"]})

SPECS: dict[tuple[str, str], Schema] = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _object(
        {
            "selector": _object({}, matchLabels=LABELS),
            "endpoints": _list(_object({}, port=TEXT, path=TEXT, interval=DURATION, relabelings=_list(_RELABELING))),
        },
        jobLabel=TEXT,
        targetLabels=_list(TEXT),
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): _object(
        {
            "groups": _list(
                _object(
                    {
                        "name": TEXT,
                        "rules": _list(
                            _object(
                                {"expr": TEXT},
                                record=TEXT,
                                alert=TEXT,
                                labels=LABELS,
                                annotations=LABELS,
                                **{"for": DURATION, "keep_firing_for": DURATION},
                            )
                        ),
                    },
                    interval=DURATION,
                )
            )
        }
    ),
    ("keda.sh/v1alpha1", "ScaledObject"): _object(
        {
            "scaleTargetRef": _object({"name": TEXT}, apiVersion=TEXT, kind=TEXT),
            "triggers": _list(
                _object(
                    {"type": TEXT, "metadata": LABELS},
                    metricType={"enum": ["Value", "AverageValue", "Utilization"]},
                )
            ),
        },
        pollingInterval=NUMBER,
        minReplicaCount=NUMBER,
        maxReplicaCount=NUMBER,
        fallback=_object({"failureThreshold": NUMBER, "replicas": NUMBER}),
        advanced=_object(
            {}, horizontalPodAutoscalerConfig=_object({}, behavior=_object({}, scaleUp=_SCALING, scaleDown=_SCALING))
        ),
    ),
    ("external-secrets.io/v1", "ExternalSecret"): _object(
        {
            "secretStoreRef": _object({"name": TEXT}, kind={"enum": ["SecretStore", "ClusterSecretStore"]}),
            "data": _list(_object({"secretKey": TEXT, "remoteRef": _object({"key": TEXT}, property=TEXT)})),
        },
        refreshInterval=DURATION,
        target=_object(
            {"name": TEXT},
            creationPolicy={"enum": ["Owner", "Orphan", "Merge", "None"]},
            template=_object({}, type=TEXT),
        ),
    ),
    ("gateway.networking.k8s.io/v1", "Gateway"): _object(
        {
            "gatewayClassName": TEXT,
            "listeners": _list(
                _object(
                    {"name": TEXT, "port": NUMBER, "protocol": {"enum": ["HTTP", "HTTPS"]}},
                    hostname=TEXT,
                    tls=_object(
                        {"certificateRefs": _list(_object({"name": TEXT}, kind=TEXT))},
                        mode={"enum": ["Terminate", "Passthrough"]},
                    ),
                    allowedRoutes=_object({"namespaces": _object({"from": {"enum": ["All", "Same", "Selector"]}})}),
                )
            ),
        }
    ),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): _object(
        {
            "parentRefs": _list(_object({"name": TEXT})),
            "rules": _list(
                _object(
                    {"backendRefs": _list(_BACKEND)},
                    matches=_list(_object({}, path=_PATH, headers=_list(_HEADER))),
                    timeouts=_object({"request": DURATION}),
                )
            ),
        },
        hostnames=_list(TEXT),
    ),
}
