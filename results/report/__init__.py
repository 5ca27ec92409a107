"""A data set's runs as one HTML page that stands alone: `page_of` makes it from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from results.report.material import Material, gather
from results.report.page import Page, Section
from results.report.sections.audit import audit_section
from results.report.sections.facts import (
    assumptions_section,
    cost_section,
    setting_section,
    summary_section,
    trials_section,
)
from results.report.sections.tables import (
    ablation_section,
    leaderboard_section,
    published_section,
    slices_section,
)
from results.report.sections.training import curves_section, health_section
from results.store.selection import Filters

__all__ = ["Filters", "Material", "Page", "Section", "gather", "page_of"]


def page_of(
    material: Material,
    *,
    counts: Mapping[str, Any] | None = None,
    sweeps: Sequence[Section] = (),
    reproduction: Section | None = None,
) -> Page:
    """The page. From above the store come the data set's `counts`, its sweeps, and how to make each row again."""
    sections = (
        summary_section(material),
        setting_section(material, counts),
        leaderboard_section(material),
        ablation_section(material),
        slices_section(material),
        audit_section(material),
        curves_section(material),
        health_section(material),
        *sweeps,
        published_section(material),
        cost_section(material),
        trials_section(material),
        assumptions_section(material),
        reproduction,
    )
    newest = max(run.record.created for run in material.runs)[:10]
    label = f"{material.dataset} (synthetic)" if material.is_synthetic else material.dataset
    return Page(
        title=f"Recommenders on {label}",
        subtitle=f"Newest run: {newest}. {len(material.runs)} runs in {len(material.groups)} rows.",
        sections=tuple(section for section in sections if section is not None),
    )
