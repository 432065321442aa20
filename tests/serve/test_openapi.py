"""/openapi.json: a valid document, which says what the server does."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

import gothreads
from gothreads.serve import openapi
from gothreads.serve.served import Served
from gothreads.typed.json_schema import component
from tests.support.modules import built, opened
from tests.support.server import running
from tests.support.waiting import wait_until
from tests.support.web import ask


@pytest.fixture(scope="module")
def typed() -> Iterator[Any]:
    with opened("typed") as app:
        yield app


def document(app: Served) -> dict[str, Any]:
    text = ask(app, "GET", "/openapi.json").text
    validate(text)
    found: dict[str, Any] = json.loads(text)
    return found


@functools.cache
def validate(text: str) -> None:
    """Once for each document: it takes half a second."""
    OpenAPIV31SpecValidator(json.loads(text)).validate()


def post(document: dict[str, Any], path: str) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][path]["post"]
    return found


def arguments(document: dict[str, Any], name: str) -> dict[str, Any]:
    body = post(document, f"/api/call/{name}")["requestBody"]["content"]["application/json"]["schema"]
    found: dict[str, Any] = body["properties"]["args"]
    return found


def result(document: dict[str, Any], name: str) -> dict[str, Any]:
    body = post(document, f"/api/call/{name}")["responses"]["200"]["content"]["application/json"]["schema"]
    found: dict[str, Any] = body["properties"]["result"]
    return found


def test_exports_and_handlers_are_described_as_go_declares_them(app: gothreads.App) -> None:
    found = document(app)
    assert found["openapi"] == "3.1.0"
    add = post(found, "/api/call/add")
    assert add["summary"] == "func add(a, b int32) int32"
    assert arguments(found, "add") == {
        "type": "array", "minItems": 2, "maxItems": 2, "items": False, "prefixItems": [
            {"type": "integer", "minimum": -2**31, "maximum": 2**31 - 1, "description": "a int32"},
            {"type": "integer", "minimum": -2**31, "maximum": 2**31 - 1, "description": "b int32"}]}
    assert result(found, "add") == {"type": "integer", "minimum": -2**31, "maximum": 2**31 - 1}
    assert result(found, "float64s") == {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}
    assert result(found, "sleep") == {"type": "null"}
    assert post(found, "/api/call/count")["requestBody"]["required"] is False
    assert "blocks until main has answered" in post(found, "/api/call/ask")["description"]
    assert {"200", "400", "404", "413", "422", "503", "504"} <= add["responses"].keys()
    assert found["components"]["responses"]["Error503"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/gothreads.Error"}
    assert [path for path in found["paths"] if path.startswith("/api/request/")] == [
        f"/api/request/{name}" for name in app.handlers()]
    assert {"/healthz", "/livez", "/readyz", "/api/exports", "/openapi.json"} <= found["paths"].keys()


def test_typed_functions_have_the_schemas_of_their_types_and_comments(typed: Any) -> None:
    found = document(typed)
    by_name, in_order = arguments(found, "echo_options")["anyOf"]
    assert by_name["properties"]["o"]["$ref"] == "#/components/schemas/Options"
    assert (by_name["required"], by_name["additionalProperties"]) == (["o"], False)
    assert (in_order["minItems"], in_order["maxItems"]) == (1, 1)
    options = found["components"]["schemas"]["Options"]
    assert options["description"] == "Options say how to fit."
    assert options["additionalProperties"] is False
    assert options["properties"]["degree"] == {
        "type": "integer", "minimum": -2**63, "maximum": 2**63 - 1,
        "description": "Degree is the degree of the polynomial."}
    assert options["properties"]["n"] == {"type": "integer", "minimum": 0, "maximum": 65535}
    assert "Secret" not in str(options)
    everything = found["components"]["schemas"]["Everything"]["properties"]
    assert everything["digest"] == {"type": "string", "contentEncoding": "base64"}
    assert everything["fixed"]["minItems"] == everything["fixed"]["maxItems"] == 3
    assert everything["set"] == {"type": "array", "items": {"type": "string"}}
    assert everything["by_name"]["additionalProperties"]["type"] == "integer"
    assert everything["pointer"] == {"anyOf": [{"$ref": "#/components/schemas/Options"}, {"type": "null"}]}
    assert found["components"]["schemas"]["Color"]["description"].startswith("Color is a color.\n\n")
    assert found["components"]["schemas"]["Color"]["type"] == "integer"
    by_name, in_order = arguments(found, "join")["anyOf"]  # func Join(separator string, words ...string)
    assert by_name["required"] == ["separator"]
    assert in_order["items"] == {"type": "string"}
    assert (in_order["minItems"], "maxItems" in in_order) == (1, False)
    assert result(found, "divide")["prefixItems"][1]["type"] == "integer"
    assert result(found, "nothing") == {"type": "null"}


@pytest.mark.parametrize(("name", "args"), [
    ("divide", [7, 2]), ("echo_time", ["2024-02-29T12:30:15.5Z", "PT1.5S"]), ("nothing", []), ("sum", [["inf", 1]]),
    ("echo_numbers", [[1, "nan"], [2], [3], [4], [5], "aGk="]), ("echo_tree", [{"left": {"by_key": {"a": {}}}}])])
def test_results_are_what_the_document_says(typed: Any, name: str, args: list[Any]) -> None:
    found = document(typed)
    for value, schema in ((ask(typed, "POST", f"/api/call/{name}", json={"args": args}).json()["result"],
                           result(found, name)), (args, arguments(found, name))):
        OAS31Validator({**schema, "components": found["components"]}).validate(value)


def test_an_iterators_items_have_a_schema(typed: Any) -> None:
    found = openapi.document(typed, openapi.Names(["count", "enumerate", "receive"], [], [], []), "/go")
    OpenAPIV31SpecValidator(found).validate()
    assert found["servers"] == [{"url": "/go"}]
    assert result(found, "count")["items"]["type"] == "integer"
    assert result(found, "enumerate")["items"]["prefixItems"][1] == {"type": "string"}
    assert result(found, "receive")["items"] == {"$ref": "#/components/schemas/Options"}
    contents = post(found, "/api/call/count")["responses"]["200"]["content"]
    assert contents.keys() == {"application/json", "application/x-ndjson", "text/event-stream"}


def test_all_functions_of_the_page_are_in_the_document(typed: Any) -> None:
    told = {each["name"] for each in ask(typed, "GET", "/api/exports").json()["typed"]}
    assert {path.rpartition("/")[2] for path in document(typed)["paths"] if path.startswith("/api/call/")} == told


def test_events_are_described_and_a_supervised_module_is_too() -> None:
    with gothreads.supervise(built("talk")) as app:
        wait_until(lambda: set(app.events) == {"number", "text"})
        assert post(document(app), "/api/signal/text")["responses"]["202"]["description"] == (
            "The event is in the queue.")


def test_names_that_a_document_cannot_have_are_written_in_others() -> None:
    assert component("Größe") == "Gr_f6_dfe"
    assert component("Options_2") == "Options_2"


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("module", "paths"), [  # without functions that end the module, or take long
    ("calls", "/(u?int32s|u?int64s|float32s|float64s|bools|uintptrs|add|length|compare|count|echo|upper|reverse|fail"
              "|exports|healthz|livez|readyz|openapi.json)$"),
    # Nor with several results: schemathesis 4 makes `items` of `prefixItems` in a response, and then refuses it.
    ("typed", "/(echo|echo_options|echo_tree|echo_any|add|shout|sum|join|nothing|fail|scaled|reverse|configuration"
              "|kept|scan)$"),
])
def test_a_running_server_does_what_the_document_says(tmp_path: Path, module: str, paths: str) -> None:
    with running("--timeout", 60, built(module)) as server:
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"{server.client.base_url}/openapi.json",
             "--include-path-regex", paths, "--max-examples", "15", "--seed", "1", "--generation-deterministic",
             "--phases", "examples,coverage,fuzzing", "--mode", "all", "--checks", "all",
             "--exclude-checks", "positive_data_acceptance"],  # 422 is a function's error, too
            cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert server.client.get("/livez").status_code == 200
