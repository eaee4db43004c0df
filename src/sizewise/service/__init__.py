"""One endpoint that clients already speak, a chat page and a monitor."""

from sizewise.errors import naming_extras

with naming_extras():
    from sizewise.service.app import create_app
    from sizewise.service.guarding import GuardRules
    from sizewise.service.running import serve
    from sizewise.service.state import Settings
    from sizewise.service.studies import serve_study

__all__ = ["GuardRules", "Settings", "create_app", "serve", "serve_study"]
