"""Attacks: the smallest perturbation of an image that changes a model's prediction."""

from harmonizer.attacks.decision import Decision
from harmonizer.attacks.diagnostics import GradientMaskingReport, gradient_masking_report
from harmonizer.attacks.radius import check_attack, minimal_radius
from harmonizer.attacks.result import AttackResult, Status

__all__ = [
    "AttackResult",
    "Decision",
    "GradientMaskingReport",
    "Status",
    "check_attack",
    "gradient_masking_report",
    "minimal_radius",
]
