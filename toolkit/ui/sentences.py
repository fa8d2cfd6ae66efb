"""Everything that goes wrong, answered by a sentence in JSON."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from toolkit.errors import InputError, RunError, one_line


def add_errors(app: FastAPI) -> None:
    """Have everything that goes wrong answered by a sentence."""

    @app.exception_handler(InputError)
    async def wrong(request: Request, error: InputError) -> JSONResponse:
        return JSONResponse({"error": str(error), "path": error.path}, 422)

    @app.exception_handler(RequestValidationError)
    async def no_request(request: Request, error: RequestValidationError) -> JSONResponse:
        first, *_ = error.errors()
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return JSONResponse({"error": f"{where}: {first['msg']}".lstrip(": "), "path": where}, 422)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return JSONResponse({"error": "it ended before its end, or was too large"}, 413)

    @app.exception_handler(RunError)
    @app.exception_handler(OSError)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": one_line(error)}, 507)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        said = (
            f"a fault of the toolkit, please report it: {type(error).__name__}: {one_line(error)}"
        )
        return JSONResponse({"error": said}, 500)
