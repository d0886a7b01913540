"""The description: whole, of OpenAPI's structure, and true of what the bridge does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bridge.answers import TITLES
from bridge.openapi import described
from incident.alert import Alert
from settings_bridge import BridgeSettings
from tests.bridge.sending import Cases, bridge

METHODS = {"get", "post"}


def refs(value: Any) -> Iterator[str]:
    match value:
        case dict():
            if "$ref" in value:
                yield value["$ref"]
            for item in value.values():
                yield from refs(item)
        case list():
            for item in value:
                yield from refs(item)


def at(document: dict[str, Any], ref: str) -> Any:
    value: Any = document
    for key in ref.removeprefix("#/").split("/"):
        value = value[key]
    return value


async def test_it_is_served_to_anybody() -> None:
    async with bridge(Cases(), max_alerts=7) as sender:
        response = await sender.get("/v1/openapi.json")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == described(BridgeSettings(max_alerts=7))
    assert "of the tests" not in response.text


def test_its_structure_is_openapi_3_1() -> None:
    document = described(BridgeSettings())
    assert document["openapi"].startswith("3.1.")
    assert {"title", "version"} <= document["info"].keys()
    assert set(document) == {"openapi", "info", "paths", "components"}
    assert all(path.startswith("/") for path in document["paths"])
    operations = [(method, told) for item in document["paths"].values() for method, told in item.items()]
    assert {method for method, _ in operations} <= METHODS
    ids = [told["operationId"] for _, told in operations]
    assert len(set(ids)) == len(ids)
    for _, told in operations:
        assert told["responses"]
        for status, answer in told["responses"].items():
            assert status.isdecimal()
            assert answer["description"]
            for content in answer["content"].values():
                assert set(content) == {"schema"}
        for needed in told["security"]:
            assert needed.keys() <= document["components"]["securitySchemes"].keys()
    for scheme in document["components"]["securitySchemes"].values():
        assert scheme["type"] in ("apiKey", "http")
        assert scheme["type"] != "apiKey" or scheme["in"] == "header"


def test_every_reference_leads_somewhere_and_every_schema_is_referred_to() -> None:
    document = described(BridgeSettings())
    found = set(refs(document))
    assert all(at(document, ref)["type"] for ref in found)
    assert {ref.rpartition("/")[2] for ref in found} == set(document["components"]["schemas"])


def test_an_alert_is_described_as_it_is_read() -> None:
    document = described(BridgeSettings())
    schema = document["components"]["schemas"]["Alert"]
    assert schema["required"] == ["id", "destination_ip", "occurred_at"]
    assert set(schema["properties"]) == set(Alert.model_fields)
    assert schema["additionalProperties"] is True


def test_each_answer_is_described() -> None:
    answers = described(BridgeSettings())["paths"]["/v1/alerts"]["post"]["responses"]
    assert set(answers) == {"202", "207", *map(str, TITLES)}
    assert set(answers["202"]["content"]) == {"application/json"}
    assert set(answers["401"]["content"]) == {"application/problem+json"}
    assert [status for status, told in answers.items() if "headers" in told] == ["429", "503"]
