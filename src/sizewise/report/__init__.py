"""Any record as a table, Markdown, JSON or HTML with plots. No arithmetic here."""

from sizewise.report.running import PageWatcher, write_training_page
from sizewise.report.view import StudyView, load_view
from sizewise.report.words import score_text, table_rows
from sizewise.report.writing import write_study_report

__all__ = [
    "PageWatcher",
    "StudyView",
    "load_view",
    "score_text",
    "table_rows",
    "write_study_report",
    "write_training_page",
]
