"""One endpoint that clients already speak, a chat page and a monitor."""

from sizewise.service.app import create_app
from sizewise.service.running import serve
from sizewise.service.state import Settings

__all__ = ["Settings", "create_app", "serve"]
