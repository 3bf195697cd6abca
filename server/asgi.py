"""What a server is pointed at: `uvicorn server.asgi:create_app --factory`.

Hundreds of modules and a schema come in before the first request, and nothing of it is ever garbage: the collector
waits until it is all there, which takes a tenth off the start.
"""

import gc

gc.disable()

from starlette.types import ASGIApp  # noqa: E402

from server.app import Application, build  # noqa: E402
from server.settings import get_settings  # noqa: E402
from services import logs  # noqa: E402


def create_app() -> ASGIApp:
    logs.configure()
    application = build(Application(get_settings()))
    gc.enable()
    return application
