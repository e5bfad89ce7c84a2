"""Logits and labels to numbers with intervals; one run judged and shown."""

from fmnist.evaluation.suite import evaluate, report

__all__ = ["evaluate", "report"]
