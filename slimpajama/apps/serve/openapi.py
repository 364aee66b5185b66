"""What is served, described in OpenAPI by the types of the requests and of the answers."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from slimpajama.apps.serve.schemas import SETTINGS, AnswerRequest, CompletionRequest, SummarizeRequest, TranslateRequest
from slimpajama.core.config import GenerateConfig


class Limits(BaseModel):
    """What a request may take at most."""

    tokens: int
    """Read and written."""
    seconds: float
    """Of computing."""
    seconds_with_waiting: float


class Choice(BaseModel):
    """A text."""

    text: str
    index: int
    logprobs: None
    finish_reason: Literal["length", "stop"]


class Usage(BaseModel):
    """What a request took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """Texts that continue prompts."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    limits: Limits


class Summary(BaseModel):
    """A summary."""

    summary: str
    limits: Limits


class Translation(BaseModel):
    """A translation."""

    translation: str
    to: str
    limits: Limits


class FoundAnswer(BaseModel):
    """An answer, the sentence that it rests on, and how likely it is."""

    answer: str
    passage: str
    score: float | None
    limits: Limits


class Model(BaseModel):
    """A name of the model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """Names under which a model may be asked for."""

    object: Literal["list"]
    data: list[Model]


class Health(BaseModel):
    """Whether jobs are computed."""

    status: Literal["ok", "stopped"]


class Refusal(BaseModel):
    """Why a request is not answered."""

    message: str
    type: str
    param: str | None
    code: str


class Refused(BaseModel):
    """An error, in OpenAI's form."""

    error: Refusal


Kind = type[BaseModel]
POSTS: dict[str, tuple[Kind, Kind]] = {
    "completions": (CompletionRequest, Completion),
    "summarize": (SummarizeRequest, Summary),
    "translate": (TranslateRequest, Translation),
    "answer": (AnswerRequest, FoundAnswer),
}
ASKED = {401: "missing or wrong token", 403: "another host name"}
REFUSALS = ASKED | {
    400: "not such a request",
    404: "no such model",
    408: "the body came too slowly",
    413: "takes too much",
    415: "not JSON",
    429: "too many are waiting",
    503: "waited too long, or the server ends",
}


@cache
def described() -> dict[str, Any]:
    """Return the OpenAPI document of the server."""
    kinds = [kind for pair in POSTS.values() for kind in pair] + [ModelList, Health, Refused]
    _, found = models_json_schema([(kind, "validation") for kind in kinds], ref_template="#/components/schemas/{model}")
    schemas = found["$defs"]
    _bound_settings(schemas["CompletionRequest"]["properties"])
    paths: dict[str, Any] = {
        "/health": {"get": _operation("health", Health, {503: "no more jobs are computed"}, Health)},
        "/v1/models": {"get": _operation("models", ModelList, ASKED)},
    }
    for name, (asked, answer) in POSTS.items():
        body = {"required": True, "content": _json(asked)}
        paths[f"/v1/{name}"] = {"post": _operation(name, answer, REFUSALS) | {"requestBody": body}}
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    paths["/v1/completions"]["post"]["responses"]["200"]["content"] |= stream
    return {
        "openapi": "3.1.0",
        "info": {"title": "slimpajama", "version": version("slimpajama")},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        # A server that this machine alone reaches asks for none.
        "security": [{"token": []}, {}],
    }


def _bound_settings(properties: dict[str, Any]) -> None:
    """Give the settings of a completion the bounds of `[generate]`, which they are checked against."""
    bounds = TypeAdapter(GenerateConfig).json_schema()["properties"]
    for name in SETTINGS | {"stop"}:
        own = {key: value for key, value in bounds[name].items() if key not in ("default", "title", "description")}
        one = [own["items"]] if name == "stop" else []
        properties[name] = {"anyOf": [own, *one, {"type": "null"}], "default": None}


def _operation(name: str, answer: Kind, refusals: dict[int, str], refused: Kind = Refused) -> dict[str, Any]:
    others = {str(code): {"description": text, "content": _json(refused)} for code, text in refusals.items()}
    description = (answer.__doc__ or "").strip()
    return {"operationId": name, "responses": {"200": {"description": description, "content": _json(answer)}} | others}


def _json(kind: Kind) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}
