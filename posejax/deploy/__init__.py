"""Trained networks for other runtimes: exported programs, their operators, and what a target lacks.

`python -m posejax export RUN FILE --program NAME` is the command; docs/deployment.md the guide.
"""

from posejax.deploy.bundle import Bundle, export_program, load_program, write
from posejax.deploy.operators import Operator, operators
from posejax.deploy.program import Input, Program
from posejax.deploy.rules import Finding, Rules, read_rules, rules_file

__all__ = [
    "Bundle",
    "Finding",
    "Input",
    "Operator",
    "Program",
    "Rules",
    "export_program",
    "load_program",
    "operators",
    "read_rules",
    "rules_file",
    "write",
]
