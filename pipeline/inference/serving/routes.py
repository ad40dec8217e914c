"""The routes: TensorFlow Serving's calls, an upload, health, measures, and the page."""

import asyncio
import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.formparsers import MultiPartParser
from starlette.requests import ClientDisconnect

from pipeline.errors import ImageError
from pipeline.export.web_page import PAGE
from pipeline.inference.serving import schemas
from pipeline.inference.serving.headers import SAFE, Headers
from pipeline.inference.serving.limits import RETRY_SECONDS, Guard, Limits
from pipeline.inference.serving.model_service import Answering
from pipeline.inference.serving.prometheus import Measured
from pipeline.inference.serving.server_state import ServerState

PAGE_FILES: Final = {  # with their types: the page of an export, whose model answers here and not in the browser
    PAGE / "index.html": "text/html",
    PAGE / "page.css": "text/css",
    PAGE / "page.js": "text/javascript",
    PAGE / "icon.svg": "image/svg+xml",
    Path(__file__).with_name("answer.js"): "text/javascript",
}
MOST_NEAREST: Final = 50
ROUTES: Final = ("/predict", "/v1/models", "/training", "/about", "/healthz", "/readyz", "/metrics", "/openapi.json")
# The page asks for nothing from elsewhere, and no other page may frame it or send forms with it.
PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
FAILURES: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": schemas.Failure, "description": "What was sent is no image, or not of the expected form."},
    404: {"model": schemas.Failure, "description": "No such model."},
    408: {"model": schemas.Failure, "description": "The request took too long to arrive."},
    413: {"model": schemas.Failure, "description": "Too many bytes."},
    429: {"model": schemas.Failure, "description": "Too many requests at once; `Retry-After` says when to try again."},
    503: {"model": schemas.Failure, "description": "The server is stopping."},
    504: {"model": schemas.Failure, "description": "The answer took too long."},
}


def create_app(
    service: Answering, *, name: str, limits: Limits, batch_size: int, batch_wait: float, hosts: Sequence[str] | None
) -> FastAPI:
    """Make the application.

    `name` is the model's, in the addresses of TensorFlow Serving's calls; `batch_size` and `batch_wait` are as for
    `ServerState`. `hosts` are names under which the server may be called: with some, another site's page cannot reach a
    server on this machine through a name of its own. None allows any.
    """
    state = ServerState(service, limits, batch_size=batch_size, batch_wait=batch_wait)
    app = FastAPI(
        title=f"headstart: {name}",
        summary="Photos in, labels and probabilities out.",
        version=schemas.VERSION,
        lifespan=state.opened,
        docs_url=None,  # Swagger's page comes from elsewhere
        redoc_url=None,
    )
    for router in (_uploads(state), _tensorflow_serving(state, name), _running(state), _page(state, name)):
        app.include_router(router)
    app.add_exception_handler(AnyHTTPException, _http_error)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _not_as_expected)  # type: ignore[arg-type]
    app.add_exception_handler(ClientDisconnect, _gone)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(Guard, limits=limits)
    app.add_middleware(Headers, hosts=None if hosts is None else frozenset(hosts))
    app.add_middleware(Measured, measures=state.measures, routes=ROUTES)
    MultiPartParser.spool_max_size = limits.body_bytes  # what fits there is never written to the disk
    return app


def _uploads(state: ServerState) -> APIRouter:
    router = APIRouter(tags=["photos"])
    service = state.service

    @router.post("/predict", responses=FAILURES)
    async def predict(
        request: Request,
        image: UploadFile,
        explain: Annotated[bool, Query(description="Draw where the evidence lies.")] = False,
        about: Annotated[str | None, Query(description="The class whose evidence is drawn; else the label's.")] = None,
        nearest: Annotated[
            int, Query(ge=0, le=MOST_NEAREST, description="So many of the most similar training photos.")
        ] = 0,
    ) -> schemas.UploadResponse:
        """Label a photo."""
        _require_single("file", [name for name, _ in (await request.form()).multi_items()], ["image"])
        named = [name for name, _ in request.query_params.multi_items()]
        _require_single("value of a parameter", named, sorted(set(named)))
        if about is not None and about not in service.classes:
            raise HTTPException(400, f"about: expected one of the classes, received {about!r}")
        data = await image.read()
        answer = await state.answer(
            data,
            "image",
            explain=explain,
            about=None if about is None else service.classes.index(about),
            nearest=nearest,
            compare=service.compares,
        )
        drawn, told = None, answer.familiarity
        if answer.heat is not None:
            picture = await state.in_thread(service.drawn, data, answer.heat)
            drawn = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
        return schemas.UploadResponse(
            label=service.classes[answer.code],
            probabilities=dict(zip(service.classes, answer.probabilities, strict=True)),
            familiarity=told.score if told else None,
            kind=told.kind if told else None,
            farther=told.farther if told else None,
            compared_with=told.photos if told else None,
            nearest=[_photo(service, *one) for one in answer.nearest],
            heat_map=drawn,
        )

    @router.get("/training/{path:path}", responses={404: FAILURES[404]}, response_class=Response)
    async def training_photo(path: str) -> Response:
        """Show a training photo, small."""
        try:
            picture = await state.in_thread(service.thumbnail, path)
        except (KeyError, ImageError) as error:
            raise HTTPException(404, f"no training photo {path!r}") from error
        return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "max-age=3600"})

    return router


def _require_single(what: str, received: list[str], expected: list[str]) -> None:
    """Refuse what was sent several times, of which all but one would be left unseen."""
    if sorted(received) != expected:
        raise HTTPException(400, f"expected one {what}, received {len(received)}: {', '.join(received)}")


def _photo(service: Answering, path: str, label: str, similarity: float) -> schemas.TrainingPhoto:
    seen = f"/training/{quote(path)}" if service.shows else None
    return schemas.TrainingPhoto(path=path, label=label, similarity=similarity, thumbnail=seen)


def _tensorflow_serving(state: ServerState, served: str) -> APIRouter:
    router = APIRouter(prefix="/v1/models", tags=["TensorFlow Serving"])

    def require(name: str, version: str = schemas.VERSION) -> None:
        if (name, version) != (served, schemas.VERSION):
            raise HTTPException(
                404, f"expected the model {served}, version {schemas.VERSION}, received {name}, {version}"
            )

    described = {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schemas.PredictRequest.model_json_schema()}},
        }
    }

    @router.post("/{name}:predict", responses=FAILURES, openapi_extra=described)
    @router.post("/{name}/versions/{version}:predict", responses=FAILURES, openapi_extra=described)
    async def predict(request: Request, name: str, version: str = schemas.VERSION) -> schemas.PredictResponse:
        """Label photos, as TensorFlow Serving's REST predict call: its body is JSON, whatever its type is called."""
        require(name, version)
        asked, files = await state.in_thread(schemas.parsed, await request.body(), state.limits.instances)
        schemas.response(asked, [], state.service.classes)  # another signature is refused before anything runs
        answers = await asyncio.gather(*(state.answer(data, f"instance {place}") for place, data in enumerate(files)))
        return JSONResponse(schemas.response(asked, answers, state.service.classes))  # type: ignore[return-value]

    @router.get("/{name}", responses={404: FAILURES[404]})
    @router.get("/{name}/versions/{version}", responses={404: FAILURES[404]})
    async def status(name: str, version: str = schemas.VERSION) -> dict[str, Any]:
        """Tell whether the model is there."""
        require(name, version)
        return schemas.status()

    @router.get("/{name}/metadata", responses={404: FAILURES[404]})
    @router.get("/{name}/versions/{version}/metadata", responses={404: FAILURES[404]})
    async def metadata(name: str, version: str = schemas.VERSION) -> dict[str, Any]:
        """Tell what the model takes and gives."""
        require(name, version)
        return schemas.metadata(served, state.service.classes)

    return router


def _running(state: ServerState) -> APIRouter:
    router = APIRouter(tags=["the server itself"])

    @router.get("/healthz")
    @router.head("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        """Tell that the server runs."""
        return {"status": "ok"}

    @router.get("/readyz", responses={503: FAILURES[503]})
    @router.head("/readyz", include_in_schema=False)
    async def readyz() -> dict[str, str]:
        """Tell whether photos are answered."""
        if not state.ready:
            raise HTTPException(503, "the server is stopping", {"Retry-After": str(RETRY_SECONDS)})
        return {"status": "ready"}

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Tell the measures, in Prometheus' text format."""
        return Response(state.measures.text(), media_type="text/plain; version=0.0.4")

    return router


def _page(state: ServerState, name: str) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    service = state.service

    parts = {path.name: (path, kind) for path, kind in PAGE_FILES.items()}

    @router.api_route("/", methods=["GET", "HEAD"])
    @router.get("/page/{file}")
    async def part(file: str = "index.html") -> FileResponse:
        if file not in parts:
            raise HTTPException(404, f"no such file: {file}")
        path, kind = parts[file]
        return FileResponse(path, media_type=kind, headers=PAGE_HEADERS)

    @router.get("/about")
    async def about() -> dict[str, Any]:
        return {
            "name": name,
            "classes": service.classes,
            "explains": service.explains,
            "exact": service.exact,
            "compares": service.compares,
            "shows": service.shows,
            "max_bytes": state.limits.body_bytes,
        }

    return router


async def _http_error(request: Request, error: AnyHTTPException) -> JSONResponse:
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _not_as_expected(request: Request, error: RequestValidationError) -> JSONResponse:
    """Say in one line what of a request is not as described."""
    if request.url.path == "/predict" and any(one["loc"] == ("body", "image") for one in error.errors()):
        received = request.headers.get("content-type", "no Content-Type").partition(";")[0]
        return JSONResponse(
            {"error": f"expected multipart/form-data with a file named image, received {received}"}, 400
        )
    return JSONResponse({"error": schemas.told(error.errors())}, 400)


async def _gone(request: Request, error: ClientDisconnect) -> JSONResponse:
    return JSONResponse({"error": "the client went away"}, 499)  # nobody reads it; the measures count it


async def _failed(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": f"the server failed: {type(error).__name__}"}, 500, SAFE)
