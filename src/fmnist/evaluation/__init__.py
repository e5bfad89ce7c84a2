"""Logits and labels to numbers with intervals; one run judged and shown."""

from fmnist.evaluation.report_page import report
from fmnist.evaluation.suite import evaluate

__all__ = ["evaluate", "report"]
