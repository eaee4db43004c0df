"""OpenAI-compatible server with a chat page and a monitor page."""

from sizewise.errors import naming_extras

with naming_extras():
    from sizewise.service.app import create_app
    from sizewise.service.guarding import GuardRules
    from sizewise.service.pages.study_page import serve_study
    from sizewise.service.running import serve
    from sizewise.service.state import Settings

__all__ = ["GuardRules", "Settings", "create_app", "serve", "serve_study"]
