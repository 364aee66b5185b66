"""What is served, described in OpenAPI: requests by their own types, answers by their fields."""

from functools import cache
from importlib.metadata import version
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from slimpajama.apps.serve.schemas import APPLICATIONS, SETTINGS, CompletionRequest, TraceRequest
from slimpajama.core.config import GenerateConfig

Schema = dict[str, Any]
STRING, INTEGER, NUMBER, NULL = ({"type": name} for name in ("string", "integer", "number", "null"))


def _fields(**properties: Schema) -> Schema:
    """Return the schema of an object that has exactly these fields."""
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


LIMITS = _fields(tokens=INTEGER, seconds=NUMBER, seconds_with_waiting=NUMBER)
CHOICE = _fields(text=STRING, index=INTEGER, logprobs=NULL, finish_reason={"enum": ["length", "stop"]})
USAGE = _fields(prompt_tokens=INTEGER, completion_tokens=INTEGER, total_tokens=INTEGER)
NAMED = {"id": STRING, "object": STRING, "created": INTEGER}
COMPLETION = _fields(**NAMED, model=STRING, choices=_list(CHOICE), usage=USAGE, limits=LIMITS)
MODELS = _fields(object=STRING, data=_list(_fields(**NAMED, owned_by=STRING)))
ANSWERS = {
    "completions": COMPLETION,
    "summarize": _fields(summary=STRING, limits=LIMITS),
    "translate": _fields(translation=STRING, to=STRING, limits=LIMITS),
    "answer": _fields(answer=STRING, passage=STRING, score={"anyOf": [NUMBER, NULL]}, limits=LIMITS),
}
DOCUMENT = _fields(id=STRING, night=STRING, source=STRING, uri=STRING, licence=STRING, place=INTEGER)
SPAN = _fields(start=INTEGER, end=INTEGER, tokens=INTEGER, count=INTEGER, documents=_list(DOCUMENT))
ANSWERS["trace"] = _fields(spans=_list(SPAN), found=INTEGER, nights=INTEGER, limits=LIMITS)
HEALTH = _fields(status=STRING)
# In OpenAI's form.
REFUSED = _fields(error=_fields(message=STRING, type=STRING, param={"anyOf": [STRING, NULL]}, code=STRING))
ADMISSION = {401: "missing or wrong token", 403: "another host name"}
REFUSALS = ADMISSION | {
    400: "not such a request",
    404: "no such model",
    408: "the body came too slowly",
    413: "takes too much",
    415: "not JSON",
    429: "too many are waiting",
    503: "waited too long, or the server ends",
}


@cache
def described() -> Schema:
    """Return the OpenAPI document of the server."""
    requests = {"completions": CompletionRequest, **APPLICATIONS, "trace": TraceRequest}
    _, found = models_json_schema(
        [(kind, "validation") for kind in requests.values()], ref_template="#/components/schemas/{model}"
    )
    schemas = found["$defs"]
    _bound_settings(schemas["CompletionRequest"]["properties"])
    paths: Schema = {
        "/health": {"get": _operation("health", HEALTH, {})},
        "/v1/models": {"get": _operation("models", MODELS, ADMISSION)},
    }
    paths["/health"]["get"]["responses"]["503"] = _response("no more jobs are computed", HEALTH)
    for name, kind in requests.items():
        body = {"required": True, "content": _json({"$ref": f"#/components/schemas/{kind.__name__}"})}
        paths[f"/v1/{name}"] = {"post": _operation(name, ANSWERS[name], REFUSALS) | {"requestBody": body}}
    paths["/v1/completions"]["post"]["responses"]["200"]["content"]["text/event-stream"] = {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "slimpajama", "version": version("slimpajama")},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        # A server that this machine alone reaches asks for none.
        "security": [{"token": []}, {}],
    }


def _bound_settings(properties: Schema) -> None:
    """Give the settings of a completion the bounds of `[generate]`, by which they are checked."""
    bounds = TypeAdapter(GenerateConfig).json_schema()["properties"]
    for name in {*SETTINGS, "stop"}:
        own = {key: value for key, value in bounds[name].items() if key not in ("default", "title", "description")}
        one = [own["items"]] if name == "stop" else []
        properties[name] = {"anyOf": [own, *one, NULL], "default": None}


def _operation(name: str, answer: Schema, refusals: dict[int, str]) -> Schema:
    responses = {str(code): _response(text, REFUSED) for code, text in refusals.items()}
    return {"operationId": name, "responses": {"200": _response("the answer", answer)} | responses}


def _response(text: str, schema: Schema) -> Schema:
    return {"description": text, "content": _json(schema)}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}
