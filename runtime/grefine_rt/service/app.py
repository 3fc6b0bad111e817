"""The service as an ASGI application: routes, the OpenAPI document, and the life of their shared objects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from grefine_rt import __version__
from grefine_rt.cancel import CancelToken
from grefine_rt.errors import GRefineError
from grefine_rt.refiner import Refiner
from grefine_rt.report import answers
from grefine_rt.service import handlers
from grefine_rt.service.guard import Guard, json_response, refused_response
from grefine_rt.service.limits import Refused, ServiceLimits, refusal
from grefine_rt.service.metrics import CONTENT_TYPE, Metrics
from grefine_rt.service.queue import WorkQueue
from grefine_rt.service.requests import (
    Asked,
    AssessFields,
    PlanFields,
    PromptFields,
    RefineFields,
    body_schema,
    read_request,
)
from grefine_rt.service.schemas import ERRORS, answer_schema, json_answer
from grefine_rt.service.together import Gathering, keeps_bits

Work = Callable[[Refiner, Asked, CancelToken], handlers.Answer]
Call = Callable[[Asked, Awaitable[None]], Awaitable[handlers.Answer]]
"""A request that was read, in the queue and answered, and its end if the client leaves."""

TOGETHER = 8
"""Assessments in one run, where that changes no bit."""

_log = logging.getLogger("grefine_rt.service")
_PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


class Service:
    """The objects that routes share: a loaded refiner, the queue before it, and counters."""

    def __init__(self, refiner: Refiner, limits: ServiceLimits, replica: str = "") -> None:
        self.refiner, self.limits = refiner, limits
        self.queue = WorkQueue(limits)
        self.metrics = Metrics(self.queue, answers.device_of(refiner), replica)
        self.assessing: Gathering[Asked, handlers.Answer] = Gathering(
            self._assess, limits.together or 1, lambda asked: asked.pixels, limits.pixels
        )
        self.ready = False
        self.failed: str | None = None
        self._uploads = 0

    async def answer(self, request: Request, model: type[PromptFields], masks: bool, call: Call) -> Response:
        """Read, wait, run, encode. Raises Refused and GRefineError."""
        self.queue.check_room()
        if self._uploads >= self.limits.uploads:
            raise Refused(429, "uploads", "Too many bodies are on their way: try again later.", 1)
        self._uploads += 1
        try:
            asked = await read_request(request, model, masks, self.limits)
        finally:
            self._uploads -= 1
        answer = await call(asked, _gone(request))
        self.metrics.timed(answer.timings or {})
        if answer.picture is None:
            return json_response(answer.value)
        data, kind = answer.picture
        scores = {f"x-grefine-{name}": f"{value:.6f}" for name, value in (answer.scores or {}).items()}
        return Response(data, 200, scores, kind)

    def alone(self, run: Work) -> Call:
        """Work that takes a worker for itself."""
        return lambda asked, gone: self.queue.run(lambda token: run(self.refiner, asked, token), gone)

    def assess(self, asked: Asked, gone: Awaitable[None]) -> Awaitable[handlers.Answer]:
        """An assessment, with the others that wait when a worker is free."""
        return self.queue.run_together(self.assessing, asked, gone)

    def _assess(self, asked: Sequence[tuple[Asked, CancelToken]]) -> list[handlers.Answer | Exception]:
        self.metrics.together(len(asked))
        return handlers.assess_together(self.refiner, asked)

    def warm_up(self) -> None:
        """Loads and runs every component once; `ready` after it, `failed` says why not."""
        try:
            self.refiner.warm_up()
            if self.limits.together is None and keeps_bits(self.refiner, TOGETHER):
                self.assessing.most = TOGETHER
            self.ready = True
        except GRefineError as error:
            self.failed = str(error)
            _log.error("not ready: %s", error)


async def _gone(request: Request) -> None:
    """Returns when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@dataclass(frozen=True)
class Replica:
    """The settings of one process of the service. bundle, device, threads: as in
    `Refiner.load`. token: as in `build`. warm_up: whether every model is loaded before the first request."""

    bundle: str
    device: str = "auto"
    threads: int | None = None
    limits: ServiceLimits = field(default_factory=ServiceLimits)
    token: str | None = field(default=None, repr=False)
    warm_up: bool = True

    def load(self) -> Refiner:
        """Raises BundleError, DeviceError and OptionError."""
        return Refiner.load(self.bundle, self.device, self.threads)

    def app(self, refiner: Refiner, name: str = "") -> ASGIApp:
        """The application around what `load` gave; name: of this replica, where there are several."""
        return build(refiner, self.limits, self.token, self.warm_up, name)


def build(
    refiner: Refiner,
    limits: ServiceLimits | None = None,
    token: str | None = None,
    warm_up: bool = True,
    replica: str = "",
) -> ASGIApp:
    """The application. token: what clients must send as `Authorization: Bearer`, or None. replica: its name
    among several, then a label of all metrics."""
    service = Service(refiner, limits or ServiceLimits(), replica)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        warming = None
        if warm_up:
            warming = asyncio.get_running_loop().run_in_executor(None, service.warm_up)
        else:
            service.ready = True
        yield
        if warming is not None:
            await warming
        await asyncio.get_running_loop().run_in_executor(None, service.queue.close)

    app = FastAPI(
        title="grefine-rt",
        version=__version__,
        summary="Finds where a generated picture is poor or misses its prompt, and repairs only that.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # its page loads scripts from a network
        redoc_url=None,
        lifespan=life,
    )
    _add_work(app, service)
    _add_about(app, service)
    _add_page(app)
    _add_errors(app, service.metrics)
    if token is not None:
        _describe_token(app)
    paths = frozenset(getattr(route, "path", "") for route in app.routes)
    return Guard(app, service.metrics, token, paths)


def _add_errors(app: FastAPI, metrics: Metrics) -> None:
    """Refusals and errors as JSON, counted by reason."""

    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):  # of the router: no such path or method
            refused = Refused(error.status_code, "http", str(error.detail))
        elif isinstance(error, Refused):
            refused = error
        elif isinstance(error, GRefineError):
            refused = refusal(error)
        else:  # after this answer it goes on to the log
            refused = Refused(500, "internal", "The service failed here; its log says where.")
        metrics.refused(refused.reason)
        response = refused_response(refused)
        if isinstance(error, HTTPException):
            response.headers.update(error.headers or {})
        return response

    for kind in (Refused, GRefineError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)


def _add_work(app: FastAPI, service: Service) -> None:
    def add(name: str, model: type[PromptFields], masks: bool, call: Call, summary: str) -> None:
        async def endpoint(request: Request) -> Response:
            return await service.answer(request, model, masks, call)

        app.add_api_route(
            f"/v1/{name}",
            endpoint,
            methods=["POST"],
            summary=summary,
            operation_id=name,
            response_class=Response,
            responses={200: answer_schema(name, image="answer" in model.model_fields), **ERRORS},
            openapi_extra={"requestBody": body_schema(model, masks)},
        )

    refine, plan, prompt = (service.alone(run) for run in (handlers.refine, handlers.plan, handlers.prompt))
    add("refine", RefineFields, True, refine, "Repair a picture where it is poor or misses its prompt")
    add("assess", AssessFields, False, service.assess, "Say how good a picture is, and where it is not")
    add("plan", PlanFields, True, plan, "Say what refining would do; draw nothing")
    add("prompt", PromptFields, False, prompt, "The prompt that a generator left in a picture")


def _add_about(app: FastAPI, service: Service) -> None:
    async def health(request: Request) -> Response:
        return json_response({"status": "alive", "version": __version__})

    async def ready(request: Request) -> Response:
        if service.ready:
            return json_response({"status": "ready"})
        raise Refused(503, "not_ready", service.failed or "The models are being loaded.", 1)

    async def bundle(request: Request) -> Response:
        manifest = service.refiner.bundle.manifest
        return json_response(
            {
                "name": manifest.name,
                "version": manifest.version,
                "description": manifest.description,
                "device": answers.device_of(service.refiner),
                "backends": answers.backends_json(service.refiner),
                "limits": {
                    name: getattr(service.limits, name)
                    for name in ("body_bytes", "pixels", "prompt", "seconds", "workers", "waiting")
                },
            }
        )

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    text = {"description": "Prometheus text", "content": {"text/plain": {"schema": {"type": "string"}}}}
    unready: dict[int | str, dict[str, Any]] = {
        503: {**ERRORS[503], "description": "The models are being loaded, or failed"}
    }
    routes: list[tuple[str, Any, str, dict[int | str, Any]]] = [
        ("/v1/health", health, "Whether the process answers", {200: json_answer("health")}),
        ("/v1/ready", ready, "Whether the models are loaded", {200: json_answer("ready"), **unready}),
        ("/v1/bundle", bundle, "The models in use, and the limits", {200: json_answer("bundle")}),
        ("/metrics", metrics, "Counters for Prometheus", {200: text}),
    ]
    for path, endpoint, summary, responses in routes:
        app.add_api_route(
            path,
            endpoint,
            summary=summary,
            operation_id=path.rpartition("/")[2],
            response_class=Response,
            responses=responses,
        )


def _add_page(app: FastAPI) -> None:
    for path, (name, kind) in _PAGE.items():
        data = resources.files("grefine_rt.service").joinpath("page", name).read_bytes()

        async def endpoint(request: Request, data: bytes = data, kind: str = kind) -> Response:
            return Response(data, media_type=kind)

        app.add_route(path, endpoint, include_in_schema=False)


def _describe_token(app: FastAPI) -> None:
    plain = app.openapi

    def described() -> dict[str, Any]:
        document = plain()
        parts = document.setdefault("components", {})
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, methods in document["paths"].items():
            for operation in methods.values():
                if path not in ("/v1/health", "/v1/ready"):
                    operation["security"] = [{"token": []}]
                    operation["responses"]["401"] = {**ERRORS[400], "description": "No token, or a wrong one"}
        return document

    app.openapi = described  # type: ignore[method-assign]
