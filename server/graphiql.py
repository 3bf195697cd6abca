"""GraphiQL for those who build on a door's graph, served whole from this machine.

The page is the same for every door: it asks the `graphql` beside its own address.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent.parent / "frontends" / "graphiql"

SECURITY_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        # GraphiQL sets styles on its elements and carries its fonts and cursors inside its style sheet.
        "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; font-src data:; "
        "img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
)
REVALIDATE = "no-cache"
KEEP_A_YEAR = "public, max-age=31536000, immutable"


class _Assets(StaticFiles):
    """Vendored files carry their version in their name and never change; our own few are asked for anew."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(SECURITY_HEADERS)
        vendored = ".min." in Path(full_path).name
        response.headers["Cache-Control"] = KEEP_A_YEAR if vendored else REVALIDATE
        return response


async def _page(_request: Request) -> FileResponse:
    return FileResponse(FOLDER / "index.html", headers={**SECURITY_HEADERS, "Cache-Control": REVALIDATE})


def routes() -> list[BaseRoute]:
    """The page of every door at `/{door}/graphiql`, and its files at `/graphiql/assets/{file}`."""
    return [
        Mount("/graphiql/assets", _Assets(directory=FOLDER / "assets"), name="graphiql_assets"),
        Route("/{door}/graphiql", _page, name="graphiql"),
    ]
