"""The web application: `/v1/completions`, `/v1/models`, `/health`, `/metrics`, and at `/` a page to try it; and
`/v1/summarize`, `/v1/translate`, `/v1/answer` by the tuned models that serve these tasks; `/v1/trace` for the corpus.

It waits and never computes: whatever takes time runs in the worker's thread.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import re
import secrets
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slimpajama.apps.serve.openapi import described
from slimpajama.apps.serve.schemas import APPLICATIONS, ApiError, CompletionRequest, TraceRequest, parse, texts_of
from slimpajama.apps.serve.waiting import Call, Event, Job, Texts, client_of
from slimpajama.apps.serve.worker import Worker
from slimpajama.core.config import ApplyConfig, GenerateConfig
from slimpajama.core.errors import SlimpajamaError

# The name that stays the same when the model behind it changes.
ALIAS = "champion"
# Bytes: a megabyte of Chinese prompt is three, with JSON's escapes up to twice that.
MAX_BODY = 4_000_000
BODY_S = 30.0
# Ends of lines for many a client that reads a stream line by line, though not for JSON.
LINE_ENDS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
PAGE = Path(__file__).with_name("page.html")


class Application(Starlette):
    """The web application.

    Args:
        worker: Computes; started and stopped with the application.
        cfg: Settings of requests that name none.
        token: What `Authorization: Bearer` must bring under `/v1` and for `/metrics`; None lets everyone in.
        hosts: Names under which it may be called; empty for any. A page on the web can point a name of its own at
            127.0.0.1 and so read what a server without a token answers; it cannot choose the header `Host`.
        apply: How summaries, translations and answers are written; None for the defaults.
    """

    def __init__(
        self,
        worker: Worker,
        cfg: GenerateConfig,
        token: str | None = None,
        hosts: frozenset[str] = frozenset(),
        apply: ApplyConfig | None = None,
    ) -> None:
        self.worker, self.cfg, self.token, self.hosts = worker, cfg, token, hosts
        self.apply = apply or ApplyConfig()
        self.page = PAGE.read_text(encoding="utf-8")
        self.watchers: set[asyncio.Task[None]] = set()
        self.page_headers = {"Content-Security-Policy": _policy(self.page), "X-Frame-Options": "DENY"}
        super().__init__(
            routes=[
                Route("/", self.index),
                Route("/health", self.health),
                Route("/openapi.json", self.openapi),
                Route("/metrics", self.metrics),
                Route("/v1/models", self.models),
                Route("/v1/completions", self.completions, methods=["POST"]),
                Route("/v1/trace", self.trace, methods=["POST"]),
                *(Route(f"/v1/{name}", self.application, methods=["POST"], name=name) for name in APPLICATIONS),
            ],
            exception_handlers=dict.fromkeys((ApiError, HTTPException, ClientDisconnect, Exception), _refuse),
            middleware=[Middleware(_headed)],
            lifespan=_lifespan,
        )
        # It would lead to whatever host the client names.
        self.router.redirect_slashes = False

    async def index(self, _: Request) -> Response:
        """Return the page to try it."""
        return HTMLResponse(self.page, headers=self.page_headers)

    async def health(self, _: Request) -> Response:
        """Say whether jobs are being computed."""
        alive = self.worker.alive
        return JSONResponse({"status": "ok" if alive else "stopped"}, 200 if alive else 503)

    async def openapi(self, _: Request) -> Response:
        """Describe what is served."""
        return JSONResponse(described())

    async def metrics(self, request: Request) -> Response:
        """Return how the server does."""
        self._admit(request)
        return Response(_metrics(self.worker), media_type=CONTENT_TYPE_LATEST)

    async def models(self, request: Request) -> Response:
        """List the names of the model that is served."""
        self._admit(request)
        made = {"object": "model", "created": int(self.worker.loaded_at), "owned_by": "slimpajama"}
        return JSONResponse({"object": "list", "data": [{"id": name} | made for name in self._names()]})

    async def completions(self, request: Request) -> Response:
        """Continue prompts."""
        self._admit(request)
        asked = parse(await _body(request), CompletionRequest)
        if asked.model not in (None, *self._names()):
            raise ApiError(404, "no such model here; GET /v1/models lists what is", "model_not_found", "model")
        job, events = self._submit(request, texts_of(asked, self.cfg, secrets.randbits(32)))
        answer = _Answer(asked, job, self.worker.limits)
        if asked.stream:
            return StreamingResponse(answer.stream(events), media_type="text/event-stream")
        return JSONResponse(await answer.whole(events))

    async def application(self, request: Request) -> Response:
        """Summarise, translate or answer."""
        self._admit(request)
        asked = parse(await _body(request), APPLICATIONS[request.url.path.rpartition("/")[2]])
        return await self._called(request, lambda tuned: asked.run(tuned, self.apply), asked.task)

    async def trace(self, request: Request) -> Response:
        """Say where a text comes from."""
        self._admit(request)
        return await self._called(request, parse(await _body(request), TraceRequest).run)

    async def _called(self, request: Request, call: Call, task: str = "") -> Response:
        _, events = self._submit(request, task=task, call=call)
        found: dict[str, Any] = {}
        async for event in events:
            found |= event.result or {}
        return JSONResponse(found | {"limits": self.worker.limits})

    def _names(self) -> list[str]:
        """Return the names under which the model may be asked for."""
        return [*([ALIAS] if self.worker.follows else []), self.worker.loaded.id]

    def _admit(self, request: Request) -> None:
        """Refuse a request under another host name, or without the token."""
        name = request.headers.get("host", "").rsplit("]", 1)
        host = name[0].removeprefix("[") if len(name) == 2 else name[0].partition(":")[0]
        if self.hosts and host.lower() not in self.hosts:
            raise ApiError(403, "not served under this host name", "unknown_host")
        given = request.headers.get("authorization", "").encode()
        if self.token is not None and not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
            raise ApiError(401, "missing or wrong token", "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

    def _submit(
        self, request: Request, texts: Texts = (), task: str = "", call: Call | None = None
    ) -> tuple[Job, AsyncIterator[Event]]:
        """Put a job into the queue; return it and what it sends.

        From now on, whether that is read or not, the job ends when the client goes away or has waited too long.
        """
        loop, inbox = asyncio.get_running_loop(), asyncio.Queue[Event | Exception | None]()

        def send(event: Event | Exception | None) -> None:
            loop.call_soon_threadsafe(inbox.put_nowait, event)

        client = client_of(request.client.host) if request.client else ""
        job = Job(self.worker.loaded, texts, send, task, call, client)
        self.worker.submit(job)

        def end(reason: Exception) -> None:
            self.worker.cancel(job)
            inbox.put_nowait(reason)

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            end(ClientDisconnect())

        async def events() -> AsyncIterator[Event]:
            try:
                while (event := await inbox.get()) is not None:
                    if isinstance(event, Exception):
                        raise _api_error(event) from None
                    yield event
            finally:
                self.worker.cancel(job)
                timer.cancel()
                watcher.cancel()

        most_s = self.worker.limits["seconds_with_waiting"]
        timer = loop.call_later(most_s, end, ApiError(503, f"not answered within {most_s:g} s", "timeout"))
        watcher = asyncio.create_task(watch())
        # The loop itself would forget it.
        self.watchers.add(watcher)
        watcher.add_done_callback(self.watchers.discard)
        return job, events()


@contextlib.asynccontextmanager
async def _lifespan(app: Application) -> AsyncIterator[None]:
    app.worker.start()
    yield
    await asyncio.to_thread(app.worker.stop)


def _headed(app: ASGIApp) -> ASGIApp:
    """Return an application whose every answer has `HEADERS`: a browser keeps and guesses nothing."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await app(scope, receive, headed)

    return answered


def _metrics(worker: Worker) -> bytes:
    """Return how the server does, in Prometheus' text format."""
    registry = CollectorRegistry()
    for name, meaning, value in (
        ("requests_waiting", "Requests in the queue.", worker.waiting),
        ("requests_waiting_max", "Requests that the queue holds.", worker.max_queue),
        ("model_loaded_timestamp_seconds", "When the model that answers was loaded.", worker.loaded_at),
    ):
        Gauge(f"slimpajama_serve_{name}", meaning, registry=registry).set(value)
    model = Gauge("slimpajama_serve_model_info", "The model that answers.", ["model"], registry=registry)
    model.labels(worker.loaded.id).set(1)
    return generate_latest(registry)


class _Answer:
    """A completion in OpenAI's form, at once or piece by piece."""

    def __init__(self, asked: CompletionRequest, job: Job, limits: dict[str, float]) -> None:
        self.asked, self.job, self.limits = asked, job, {"limits": limits}
        self.head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": job.loaded.id,
        }
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}

    def choice(self, event: Event, text: str) -> dict[str, Any]:
        """Return a choice; at the end of a text, add to the usage what it took: a prompt counts once for its texts."""
        if event.tally:
            self.usage["prompt_tokens"] += 0 if event.index % self.asked.n else event.tally.prompt_tokens
            self.usage["completion_tokens"] += event.tally.tokens
            self.usage["total_tokens"] = self.usage["prompt_tokens"] + self.usage["completion_tokens"]
        reason = event.tally.finish_reason if event.tally else None
        return {"text": text, "index": event.index, "logprobs": None, "finish_reason": reason}

    async def whole(self, events: AsyncIterator[Event]) -> dict[str, Any]:
        """Return the answer when all texts are there."""
        texts = [prompt if self.asked.echo else "" for prompt, _ in self.job.texts]
        choices = []
        async for event in events:
            texts[event.index] += event.text
            if event.tally:
                choices.append(self.choice(event, texts[event.index]))
        return self.head | {"choices": choices, "usage": self.usage} | self.limits

    async def stream(self, events: AsyncIterator[Event]) -> AsyncIterator[str]:
        """Yield server-sent events, `[DONE]` last; an error that comes too late for a status is one of them."""
        begun = -1
        try:
            async for event in events:
                if event.index > begun and self.asked.echo:
                    prompt = self.job.texts[event.index][0]
                    yield _sent(self.head | {"choices": [self.choice(Event(event.index), prompt)]})
                begun = event.index
                limits = self.limits if event.tally else {}
                yield _sent(self.head | {"choices": [self.choice(event, event.text)]} | limits)
            if self.asked.stream_options and self.asked.stream_options.include_usage:
                yield _sent(self.head | {"choices": [], "usage": self.usage})
        except Exception as error:
            yield _sent(_api_error(error).body)
        yield "data: [DONE]\n\n"


async def _body(request: Request) -> bytes:
    """Return the body of a JSON request, bounded in size and time."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "send Content-Type: application/json", "unsupported_media_type")
    body = bytearray()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise ApiError(413, f"the body must have at most {MAX_BODY} bytes", "body_too_large")
            return bytes(body)
    raise ApiError(408, f"the body did not arrive within {BODY_S:.0f} s", "timeout")


def _sent(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False).translate(LINE_ENDS)}\n\n"


def _api_error(error: Exception) -> ApiError:
    """Return what a client is told of an error: of ours everything, of a defect nothing."""
    if isinstance(error, ApiError):
        return error
    # No such path, no such method.
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, str(error.detail), "not_found" if error.status_code == 404 else "refused")
    if isinstance(error, SlimpajamaError):
        return ApiError(400, str(error), "invalid_value")
    if isinstance(error, ClientDisconnect):
        return ApiError(400, "the client went away", "disconnected")  # which nobody reads
    return ApiError(500, "this failed here; the server's log says where", "internal")


async def _refuse(_: Request, error: Exception) -> Response:
    refused = _api_error(error)
    # A defect's answer passes `_headed` by.
    headers = {**HEADERS, **(getattr(error, "headers", None) or {})}
    return JSONResponse(refused.body, refused.status, headers=headers)


def _policy(page: str) -> str:
    """Return a policy that lets the page's own script and style run, by their hashes, and nothing else."""

    def digest(tag: str) -> str:
        (found,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        return "'sha256-" + base64.b64encode(hashlib.sha256(found.encode()).digest()).decode() + "'"

    return (
        f"default-src 'none'; script-src {digest('script')}; style-src {digest('style')}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
