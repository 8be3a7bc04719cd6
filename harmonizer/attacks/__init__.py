"""Attacks: the smallest perturbation of an image that changes a model's answer."""

from harmonizer.attacks.diagnostics import GradientHealth, gradient_health
from harmonizer.attacks.radius import check_attack, minimal_radius
from harmonizer.attacks.result import AttackResult, Status

__all__ = ["AttackResult", "GradientHealth", "Status", "check_attack", "gradient_health", "minimal_radius"]
