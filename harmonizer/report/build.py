"""Build a report: tables, figures, statistics and the web page."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from harmonizer.cli.console import Bars
from harmonizer.files import atomic_write
from harmonizer.report.captions import caption_files, grid_caption, scatter_caption, survival_caption
from harmonizer.report.data import AXES, Model, input_sizes, load_models
from harmonizer.report.examples import choose_models
from harmonizer.report.further import with_further_scores
from harmonizer.report.grid import qualitative_grid
from harmonizer.report.model_labels import check_labels
from harmonizer.report.page import page_html
from harmonizer.report.paired import compare, default_pairs, named_pair, records
from harmonizer.report.published import read_accuracy, read_external, with_accuracy
from harmonizer.report.replay import replay_figure, replay_markdown, replayed
from harmonizer.report.scatter import scatter
from harmonizer.report.sensitivity import (
    MASKS,
    correlations,
    sensitivity,
    sensitivity_markdown,
    show_mask,
    with_mask,
)
from harmonizer.report.sources import Source
from harmonizer.report.style import DEFAULT_OPTIONS, PlotOptions, mark, save, styled
from harmonizer.report.survival import MOST_NAMES, survival_curves
from harmonizer.report.tables import (
    comma_separated,
    inserted,
    latex,
    markdown,
    model_table,
    pairs_markdown,
    robust_markdown,
)
from harmonizer.results import find_results, load_failures
from harmonizer.results.categories import read_categories
from harmonizer.results.folder import strict_json
from harmonizer.statistics import AS_PUBLISHED

MARK = f"contains a replay of the defective 2023 protocol ({AS_PUBLISHED}): not comparable with other protocols"
SCATTERS = {
    "tolerance": ("accuracy", "tolerance"),
    "alignment": ("accuracy", "alignment"),
    "tolerance-alignment": ("tolerance", "alignment"),
}


@dataclass(frozen=True)
class Report:
    """The files of a report, with its notes and its table of models."""

    files: list[Path]  # in the order of writing
    notes: list[str]  # notes for the reader of the report
    # cells of the table of models with the usual scores, header first; empty for a replay
    table: list[list[str]] = field(default_factory=list)


def build_report(
    results: Sequence[Path],
    out: Path,
    *,
    external: Sequence[Path] = (),
    accuracy: Sequence[Path] = (),
    pairs: Sequence[Sequence[str]] = (),
    options: PlotOptions = DEFAULT_OPTIONS,
    categories: Path | None = None,
    insert: Path | None = None,
) -> Report:
    """Write tables, figures, statistics and the web page into a folder.

    Args:
        results: Results folders, or folders of them.
        out: Folder to write; created if missing.
        external: Tables of published scores.
        accuracy: Tables of ImageNet accuracy; the first table that has a model is used.
        pairs: Names of two models each, to compare in addition to controls and their harmonized models.
        options: Options of the figures and the page.
        categories: Table of classes, animate or inanimate; see :mod:`harmonizer.results.categories`.
        insert: Markdown file that gets the table of pairs, or that of models where there are no pairs.

    Raises:
        FileNotFoundError: An input does not exist.
        ValueError: There is nothing to report, or an input is damaged; the message names it.
    """
    models, sources, notes = read_models(results, external, accuracy)
    check_labels(models, options.labels)
    stable = sensitivity(models)
    titles = {"accuracy": "ImageNet top-1 accuracy (%)"} if accuracy or not results else {}
    if options.mask != next(iter(MASKS)):
        models, titles["alignment"] = [with_mask(model, options.mask) for model in models], show_mask(options.mask)
        notes.append(f"Adversarial alignment uses the attack map {options.mask}.")
    chosen = [*default_pairs(models), *(named_pair(models, names) for names in pairs)]
    comparisons = [compare(a, b) for a, b in {(id(a), id(b)): (a, b) for a, b in chosen}.values()]
    found = correlations(models)
    in_grid = choose_models(models, options.grid)
    known = read_categories(categories)
    page = page_html(
        models,
        sources,
        [*found, *stable],
        comparisons,
        options=options,
        notes=notes,
        titles=titles,
        grid=in_grid,
        grid_note=grid_caption(in_grid, sources, replace(options, map_scale="shared")),
        categories=known,
    )
    texts = {
        "table.md": markdown(models),
        "table.csv": comma_separated(models),
        "table.tex": latex(models),
        "statistics.json": strict_json(found),
        "sensitivity.json": strict_json(stable),
        "sensitivity.md": sensitivity_markdown(models, stable),
        "robust_accuracy.md": robust_markdown(models),
        "comparisons.json": strict_json(records(comparisons)),
        "comparisons.md": pairs_markdown(comparisons),
        "index.html": page,
    }
    table = texts["comparisons.md" if comparisons else "table.md"]
    written = None if insert is None else inserted(insert, table)  # raises before anything is written
    marked = any(model.attack == AS_PUBLISHED for model in models)
    with styled(options.font_size):
        figures = list(_figures(models, sources, in_grid, found, titles, options, known))
        out.mkdir(parents=True, exist_ok=True)  # not earlier: nothing is written if an input is invalid
        for name, _, caption in figures:
            texts |= caption_files(name, f"{caption} This figure {MARK}." if marked else caption)
        files = [out / name for name in texts]
        for path, text in zip(files, texts.values(), strict=True):
            atomic_write(path, text)
        with Bars() as bars:
            task = bars.task("figure")
            for i, (name, figure, _) in enumerate(figures):
                task.update(f"saving {name}", i, len(figures))
                if marked:
                    mark(figure, MARK)
                files += save(figure, out / name)
    if insert is not None and written is not None:
        atomic_write(insert, written)
    return Report(files, notes, model_table(models, AXES))


def build_replay(results: Sequence[Path], out: Path) -> Report:
    """Write the replay of the 2023 figures, as one figure and one text, separate from all other results.

    Raises:
        FileNotFoundError: An input does not exist.
        ValueError: A model lacks one of the protocols, or an input is damaged; the message names it.
    """
    pairs = replayed(load_models(find_results(results))[0])
    text = replay_markdown(pairs)
    with styled():
        figure = replay_figure(pairs)
        out.mkdir(parents=True, exist_ok=True)
        files = save(figure, out / "replay")
    atomic_write(out / "replay.md", text)
    return Report([out / "replay.md", *files], [])


def read_models(
    results: Sequence[Path], external: Sequence[Path], accuracy: Sequence[Path]
) -> tuple[list[Model], list[Source], list[str]]:
    """Read models and sources, with notes on mixed protocols, missing accuracies and failed models.

    Raises:
        FileNotFoundError: An input does not exist.
        ValueError: There is nothing to report, or an input is damaged; the message names it.
    """
    if not results and not external:
        raise ValueError("expected results folders or an --external table, got neither")
    models, sources = load_models(find_results(results))
    for path in external:
        published, source = read_external(path)
        if source.name in {known.name for known in sources}:
            raise ValueError(f"expected a different name for each source, got {source.name!r} twice; rename {path}")
        models += published
        sources.append(source)
    models, behaviour = with_further_scores(models)
    notes = [*([warning] if (warning := _warning(sources)) else []), *behaviour]
    if len(sizes := input_sizes(models)) > 1:
        notes.append(
            f"Input sizes differ ({', '.join(map(str, sizes))} pixels), and the L2 norm of a perturbation grows with "
            "the size. The web page can show the root mean square tolerance instead."
        )
    notes += [f"This page {MARK}."] if any(model.attack == AS_PUBLISHED for model in models) else []
    if accuracy:
        known: dict[str, float] = {}
        for path in reversed(accuracy):
            known |= read_accuracy(path)
        models, unmatched = with_accuracy(models, known)
        own = [model.name for model in models if model.own_accuracy]
        matching = len(models) - len(unmatched) - len(own)
        notes.append(f"The table of accuracies covers {matching} of {len(models)} models.")
        if own:
            notes.append(
                f"{_models(own)} not in that table: their own accuracy is shown and marked ({', '.join(own)})."
            )
        if unmatched:
            notes.append(
                f"{_models(unmatched)} without accuracy: not shown in plots of accuracy ({', '.join(unmatched)})."
            )
    if failures := load_failures(results):
        reasons = "; ".join(f"{model} ({reason})" for model, reason in failures.items())
        notes.append(f"{_models(failures)} could not be measured: {reasons}.")
    return models, sources, notes


def _models(some: Collection[str]) -> str:
    return f"{len(some)} model{'' if len(some) == 1 else 's'}"


def _warning(sources: Sequence[Source]) -> str:
    """Return a warning if scores of several protocols are shown together; empty otherwise."""
    names = ", ".join(source.name for source in sources)
    text = f"Scores of {len(sources)} protocols ({names}): only compare models of the same protocol."
    return text if len(sources) > 1 else ""


def _figures(
    models: Sequence[Model],
    sources: Sequence[Source],
    in_grid: Sequence[Model],
    found: Sequence[dict[str, Any]],
    titles: dict[str, str],
    options: PlotOptions,
    categories: Mapping[str, str],
) -> Iterator[tuple[str, Figure, str]]:
    """Draw the figures that the scores allow; yield the file name, the figure and the caption of each."""
    note = _warning(sources)
    for name, (x, y) in SCATTERS.items():
        if having := {model.source for model in models if {x, y} <= model.scores.keys()}:
            stated = [r for r in found if (r["x"], r["y"], r["group"]) == (x, y, "all") and r["source"] in having]
            figure = scatter(models, x, y, correlations=stated, options=options, titles=titles, note=note)
            yield name, figure, scatter_caption(models, sources, (x, y), stated, options, titles)
    if any(model.results for model in models):
        yield "survival", survival_curves(models, options), survival_caption(models, sources, MOST_NAMES)
    grid = qualitative_grid(in_grid, options=options, categories=categories)
    if grid is not None:
        yield "grid", grid, grid_caption(in_grid, sources, options)
