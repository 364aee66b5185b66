"""What goes over the wire: OpenAI's completions request, its errors, and the requests of the rest.

A field that the model cannot honour is refused, unless it has the value that changes nothing.

Source: https://platform.openai.com/docs/api-reference/completions; `top_k`, `min_p` and `repetition_penalty` as vLLM
and others name them.
"""

import logging
import math
from dataclasses import replace
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from slimpajama.apps.tune.inference import Tuned
from slimpajama.core.config import ApplyConfig, GenerateConfig
from slimpajama.core.errors import SlimpajamaError
from slimpajama.corpus.trace import DOCUMENTS, MIN_TOKENS, trace
from slimpajama.workspace.open import Workspace

LOG = logging.getLogger(__name__)
# Of all texts of a request: about as long as anyone waits for a small model.
MAX_TOKENS = 8192
# More than any request has.
MAX_FIELDS = 100
# Characters: some minutes of a small model's time.
Text = Annotated[str, Field(max_length=200_000)]
Zero = Annotated[float, Field(ge=0, le=0)]
SETTINGS = {"max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed"}


class ApiError(Exception):
    """A request that is not answered: status, and what stands in OpenAI's JSON form."""

    def __init__(
        self, status: int, message: str, code: str, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers
        kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class _Body(BaseModel):
    """JSON in which every field is known and has its type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(_Body):
    """What a stream tells beside the text."""

    include_usage: bool = False


class CompletionRequest(_Body):
    """Body of `POST /v1/completions`. A setting that is missing is the workspace's, in `[generate]`; bounds, too."""

    model: str | None = None
    prompt: str | Annotated[list[str], Field(min_length=1, max_length=16, fail_fast=True)] = ""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Field(fail_fast=True)] | None = None
    n: Annotated[int, Field(ge=1, le=16)] = 1
    echo: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    # Not `Literal[1]`, which `true` equals.
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    logprobs: None = None
    suffix: None = None
    presence_penalty: Zero | None = None
    frequency_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    @property
    def prompts(self) -> list[str]:
        """Prompts, one or more."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


class SummarizeRequest(_Body):
    """Body of `POST /v1/summarize`."""

    task: ClassVar[str] = "summarization"
    text: Text

    def run(self, tuned: Tuned, cfg: ApplyConfig) -> dict[str, Any]:
        """Return the answer."""
        return {"summary": tuned.summarize(self.text, cfg)}


class TranslateRequest(_Body):
    """Body of `POST /v1/translate`."""

    task: ClassVar[str] = "translation"
    text: Text
    to: Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]

    def run(self, tuned: Tuned, cfg: ApplyConfig) -> dict[str, Any]:
        """Return the answer."""
        return {"translation": "".join(tuned.translate(self.text, self.to, cfg)), "to": self.to}


class AnswerRequest(_Body):
    """Body of `POST /v1/answer`."""

    task: ClassVar[str] = "question-answering"
    question: Annotated[str, Field(max_length=2000)]
    context: Text

    def run(self, tuned: Tuned, cfg: ApplyConfig) -> dict[str, Any]:
        """Return the answer."""
        found = tuned.answer(self.question, self.context, cfg)
        # JSON has no infinity, which the score of no answer is.
        score = found.score if math.isfinite(found.score) else None
        return {"answer": found.text, "passage": found.passage, "score": score}


class TraceRequest(_Body):
    """Body of `POST /v1/trace`; the longest text takes about a second on a GB of corpus."""

    text: Annotated[str, Field(max_length=20_000)]
    min_tokens: Annotated[int, Field(ge=1, le=1000)] = MIN_TOKENS
    documents: Annotated[int, Field(ge=0, le=20)] = DOCUMENTS

    def run(self, workspace: Workspace) -> dict[str, Any]:
        """Return the answer.

        Raises:
            ApiError: The corpus cannot be searched.
        """
        try:
            return trace(workspace, self.text, self.min_tokens, self.documents).as_dict()
        except SlimpajamaError as error:
            LOG.warning("cannot search the corpus: %s", error)
            message = "the corpus cannot be searched; the server's log says why"
            raise ApiError(503, message, "index_unavailable") from None


ApplicationRequest = SummarizeRequest | TranslateRequest | AnswerRequest
APPLICATIONS: dict[str, type[ApplicationRequest]] = {
    "summarize": SummarizeRequest,
    "translate": TranslateRequest,
    "answer": AnswerRequest,
}
Request = TypeVar("Request", bound=_Body)


def parse(body: bytes, kind: type[Request]) -> Request:
    """Return the request of a body.

    Raises:
        ApiError: It is no JSON, or not such a request.
    """
    try:
        found = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is not valid JSON: {error}", "invalid_json") from None
    # An error is made of each field that is wrong, and others would wait for that.
    objects = [found, *found.values()] if isinstance(found, dict) else []
    if any(len(one) > MAX_FIELDS for one in objects if isinstance(one, dict)):
        raise ApiError(400, f"an object must have at most {MAX_FIELDS} fields", "invalid_value")
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        raise _refused(error) from None


def texts_of(asked: CompletionRequest, cfg: GenerateConfig, seed: int) -> list[tuple[str, GenerateConfig]]:
    """Return the texts to write: `n` of each prompt, drawn with the seeds from the request's on.

    Args:
        cfg: Settings that it leaves out.
        seed: Taken where it names none.

    Raises:
        ApiError: A value is out of bounds.
    """
    given = asked.model_dump(include=SETTINGS, exclude_none=True)
    if asked.stop is not None:
        given["stop"] = (asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop)
    try:
        one = replace(cfg, **({"seed": seed} | given))
    except ValidationError as error:
        raise _refused(error) from None
    wanted = len(asked.prompts) * asked.n * one.max_tokens
    if wanted > MAX_TOKENS:
        raise ApiError(
            400, f"prompts x n x max_tokens must be at most {MAX_TOKENS}, got {wanted}", "too_many_tokens", "max_tokens"
        )
    each = [replace(one, seed=(one.seed + number) % 2**63) for number in range(asked.n)]
    return [(prompt, settings) for prompt in asked.prompts for settings in each]


def _refused(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False, include_input=False)[0]
    param = ".".join(str(part) for part in first["loc"])
    unknown = first["type"] == "extra_forbidden"
    message = "unknown or not supported" if unknown else first["msg"][0].lower() + first["msg"][1:]
    return ApiError(400, f"{param[:100]}: {message}" if param else message, "invalid_value", param[:100] or None)
