"""Measure, and mend, products whose picture or text is missing.

The names below are imported from their modules when they are first used, so importing the package costs nothing.
"""

from importlib import import_module

__version__ = "0.1.0"

# A function that is called like its module (bertscore, equivalence, frontier) is taken from there: at the root the name
# is the module's as soon as that is imported.
_HOMES = {
    "tables": ("TABLES", "validate", "read_shards", "write_shard", "fingerprint"),
    "catalogue": ("load_catalogue", "simulate_interactions"),
    "purchases": ("read_interactions",),
    "missing": ("gaps", "hide"),
    "interactions": ("k_core", "split_interactions"),
    "models": ("MODELS", "ModelCard", "list_models", "model_card", "own_model"),
    "prompts": ("prompt_for",),
    "backends": ("load_backend",),
    "answers": ("read_answer",),
    "completions": ("complete", "certify"),
    "reference_files": ("read_reference_answers", "read_reference_items", "read_reference_results"),
    "drawing": ("draw",),
    "metrics": ("METRICS", "list_metrics", "metric_card"),
    "retrieval": ("retrieve",),
    "averages": ("average", "paired_difference"),
    "distribution_metrics": ("compare_sets",),
    "scores": ("merge_scores", "score"),
    "features": ("item_features",),
    "recommenders": ("RECOMMENDERS",),
    "recommendation": ("Grid", "make_bench", "run_grid"),
    "recovery": ("links", "recover"),
    "parity": ("parity_walk", "walk_table"),
    "correlation": ("scale_effect",),
    "mixed": ("fit_mixed",),
    "mixed_inference": ("likelihood_ratio", "marginal_means", "marginal_slopes", "variance_intervals"),
    "comparison": ("compare", "sensitivity"),
    "decision": ("cheapest", "cost_per_1000", "decision_sentence", "price_list"),
    "frontier": ("frontier_figure",),
    "planning": ("plan", "power_of_difference", "power_of_scale"),
    "stability": ("rank_agreement", "rank_stability"),
    "levels": ("level_contrast", "level_words"),
    "sets": ("score_sets",),
    "declaration": ("Study", "read_study"),
    "analysis_tables": ("analyses",),
    "analysis_words": (
        "category_words",
        "comparison_words",
        "cost_words",
        "power_words",
        "scale_words",
        "variance_words",
    ),
    "analysis_figures": ("contrast_matrix", "power_curves", "scale_lines", "slope_forest", "variance_bars"),
    "figures": ("heatmap", "outcome_bars", "score_against_scale"),
    "findings": ("read_run",),
    "report": ("write_report",),
    "study": ("run_study",),
}
_NAMES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_NAMES)


def __getattr__(name: str):
    if name in _NAMES:
        return getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
