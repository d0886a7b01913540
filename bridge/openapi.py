"""``GET /v1/openapi.json``: the bridge described by OpenAPI 3.1, from the models that it reads and answers with."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bridge.answers import PROBLEM, TITLES, Answer, Health, Problem
from bridge.auth import SIGNATURE, TIMESTAMP
from bridge.formats.body import JSON, LINES, NDJSON
from bridge.formats.lines import MAX_LINE
from incident.alert import Alert
from settings_bridge import BridgeSettings

VERSION = "1.0.0"
"""Of the interface: a second digit for what is added, the first for what no longer holds."""

_RETRIED = (429, 503)
_SIGNED = (
    f"HMAC-SHA256 over the text of {TIMESTAMP}, a dot and the body as sent, written as v1= and 64 hex digits. Several,"
    " with commas between, while a key is changed."
)
_LINE_OF = {
    "type": "string",
    "description": f"One alert a line, at most {MAX_LINE // 1024} KiB; blank lines are passed.",
}
_FOREIGN = {
    "type": "object",
    "description": "A Securonix incident or violation, or an OCSF Detection Finding (class_uid 2004) or Data Security"
    " Finding (2006). They are told apart by their own marks and may be mixed.",
}


def openapi_routes(settings: BridgeSettings) -> list[Route]:
    """The description. It is for anybody: it tells limits and shapes, and nothing of this installation."""
    document = described(settings)

    async def answer(_: Request) -> Response:
        return JSONResponse(document)

    return [Route("/v1/openapi.json", answer, methods=["GET"])]


def described(settings: BridgeSettings) -> dict[str, Any]:
    """The OpenAPI document of a bridge with these limits."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Holdpoint bridge",
            "version": VERSION,
            "description": "Takes a SIEM's alerts. An alert that is answered with a case is kept by Temporal; anything"
            " may be sent again, since an alert that is there already joins its case and starts nothing twice.",
        },
        "paths": {
            "/v1/alerts": {"post": _take(settings)},
            "/healthz": {"get": _probe("alive", "The process lives.", {"200": "It does."})},
            "/readyz": {"get": _probe("ready", "Temporal answers.", {"200": "It does.", "503": "It does not."})},
        },
        "components": {"schemas": _schemas(Alert, Answer, Problem, Health), "securitySchemes": _schemes()},
    }


def _take(settings: BridgeSettings) -> dict[str, Any]:
    one = {"anyOf": [_ref("Alert"), _FOREIGN]}
    several = {"type": "array", "minItems": 1, "maxItems": settings.max_alerts, "items": one}
    wrapped = {"type": "object", "required": ["alerts"], "properties": {"alerts": several}}
    content: dict[str, Any] = {kind: {"schema": {"anyOf": [one, several, wrapped]}} for kind in JSON}
    content |= {kind: {"schema": _LINE_OF} for kind in (*NDJSON, *LINES)}
    return {
        "operationId": "takeAlerts",
        "summary": "Start a case for each alert, or let it join the open case of its host",
        "description": f"At most {settings.max_alerts} alerts and {settings.max_bytes} bytes a request.",
        "security": [{"signature": [], "timestamp": []}, {"bearer": []}],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "202": _response("Temporal has all of them.", "application/json", "Answer"),
            "207": _response("Temporal has those that name a case.", "application/json", "Answer"),
            **{str(status): _failure(status, title) for status, title in TITLES.items()},
        },
    }


def _failure(status: int, title: str) -> dict[str, Any]:
    told = _response(f"{title}.", PROBLEM, "Problem")
    if status in _RETRIED:
        told["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
    return told


def _probe(name: str, summary: str, answers: dict[str, str]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "security": [],
        "responses": {status: _response(told, "application/json", "Health") for status, told in answers.items()},
    }


def _response(description: str, media_type: str, schema: str) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": _ref(schema)}}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas(*models: type[BaseModel]) -> dict[str, Any]:
    """An alert as it is sent, everything else as it is answered."""
    told = [(model, "validation" if model is Alert else "serialization") for model in models]
    _, schema = models_json_schema(told, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    schemas: dict[str, Any] = schema["$defs"]
    return schemas


def _schemes() -> dict[str, Any]:
    return {
        "signature": {"type": "apiKey", "in": "header", "name": SIGNATURE, "description": _SIGNED},
        "timestamp": {
            "type": "apiKey",
            "in": "header",
            "name": TIMESTAMP,
            "description": "Seconds since 1970, near the present time.",
        },
        "bearer": {"type": "http", "scheme": "bearer"},
    }
