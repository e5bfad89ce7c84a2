"""The audit of the data set: labels that look wrong, images that come twice, images like no other.

It needs the extra `audit`.
"""

import cleanlab  # noqa: F401 - first, so that who lacks it is told of the extra that has it all

from fmnist.evaluation.audit.clean_test import clean_test_score
from fmnist.evaluation.audit.findings import Audit, Finding, open_audit
from fmnist.evaluation.audit.making import audit

__all__ = ["Audit", "Finding", "audit", "clean_test_score", "open_audit"]
