"""The report: one self-contained HTML file about the data, the model and what the model does."""

from behavior_lib.report.data import ReportData
from behavior_lib.report.html import render

__all__ = ["ReportData", "render"]
