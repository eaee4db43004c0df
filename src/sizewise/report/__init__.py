"""Render records as tables, Markdown and HTML with plots. All numbers come from the records."""

from sizewise.report.answers import ItemOrder
from sizewise.report.running import PageWatcher, write_training_page
from sizewise.report.view import STUDY_FILE, StudyView, load_view
from sizewise.report.words import score_text, table_rows
from sizewise.report.writing import render_answer, render_items, render_live_page, write_study_report

__all__ = [
    "STUDY_FILE",
    "ItemOrder",
    "PageWatcher",
    "StudyView",
    "load_view",
    "render_answer",
    "render_items",
    "render_live_page",
    "score_text",
    "table_rows",
    "write_study_report",
    "write_training_page",
]
