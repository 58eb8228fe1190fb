"""Measure, and mend, products whose picture or text is missing.

The names below are imported from their modules when they are first used, so importing the package costs nothing.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "tables": ("TABLES", "validate",),
    "store": ("read_shards", "write_shard", "fingerprint",),
    "catalogue.foreign_files": ("Limits",),
    "catalogue.records": ("read_records",),
    "catalogue.profiles": ("FILE_PROFILES",),
    "catalogue.completeness": ("completeness",),
    "catalogue.download_journal": ("read_journal", "stored_pictures",),
    "catalogue.items": ("load_catalogue",),
    "catalogue.picture_checks": ("contact_sheet",),
    "catalogue.picture_requests": ("FetchLimits",),
    "catalogue.downloads": ("fetch_pictures",),
    "catalogue.purchases": ("simulate_interactions", "read_interactions",),
    "catalogue.amazon_2023": ("load_amazon",),
    "catalogue.buyer_sample": ("buyer_sample",),
    "catalogue.cores": ("k_core",),
    "catalogue.review_purchases": ("amazon_purchases",),
    "catalogue.missing": ("gaps", "hide",),
    "completion.models": ("MODELS", "ModelCard", "list_models", "model_card",),
    "completion.own_models": ("own_model",),
    "completion.memory": ("memory_estimate", "model_shape",),
    "completion.prompts": ("prompt_for", "own_prompt",),
    "completion.answers": ("read_answer",),
    "completion.protocol": ("Answer", "Backend", "Offers", "Request", "Sampling", "ScoredAnswer",),
    "completion.server_probe": ("probe_server",),
    "completion.servers": ("ServerBackend",),
    "completion.backend_choice": ("load_backend", "register_backend",),
    "completion.completions": ("complete",),
    "completion.certificate": ("certify", "certify_run",),
    "completion.backend_contract": ("canary_requests", "check_backend",),
    "completion.generators": ("generator_facts", "generator_setup",),
    "completion.drawing": ("draw",),
    "completion.image_prompts": ("cut_prompts", "prompt_lengths",),
    "metrics.cards": ("METRICS", "Metric", "list_metrics", "metric_card",),
    "metrics.distributions": ("compare_sets",),
    "metrics.own_metrics": ("check_metric", "register_encoder", "register_metric",),
    "scores.averages": ("average", "paired_difference", "average_sums", "merge_sums", "sum_groups",),
    "scores.retrieval": ("retrieve",),
    "scores.scoring": ("merge_scores", "score",),
    "scores.contests": ("contest",),
    "scores.whole_sets": ("score_sets",),
    "scores.own_scores": ("balance", "from_scores", "read_parameters",),
    "scores.memory_probe": ("probe_memory",),
    "scores.memorisation": ("date_gap", "recall_table",),
    "scores.foreign_logs": ("read_inspect", "read_lmms_eval",),
    "parity.mmpcbench_files": ("read_mmpcbench_answers", "read_mmpcbench_items", "read_mmpcbench_results",),
    "parity.walk": ("defect_table", "defect_steps",),
    "mixed.fit": ("fit_mixed",),
    "mixed.inference": ("likelihood_ratio", "marginal_means", "marginal_slopes", "variance_intervals",),
    "analysis.wordings": ("prompt_share",),
    "analysis.correlation": ("scale_effect",),
    "analysis.levels": ("level_contrast",),
    "analysis.comparison": ("compare", "sensitivity",),
    "analysis.stability": ("rank_agreement", "rank_stability",),
    "analysis.decision": ("cheapest", "cost_per_1000", "decision_sentence", "price_list",),
    "analysis.planning": ("plan", "power_of_difference", "power_of_scale",),
    "analysis.human_ratings": ("metric_agreement", "read_ratings",),
    "analysis.conclusions": ("conclusion_tables",),
    "analysis.claims": ("analysis_tables", "claim_table",),
    "recommendation.splits": ("split_interactions",),
    "recommendation.training": ("RECOMMENDERS", "RecommenderCard", "register_recommender",),
    "recommendation.contract": ("check_recommender",),
    "recommendation.features": ("item_features",),
    "recommendation.grids": ("Grid",),
    "recommendation.benchmark": ("make_benchmark", "run_grid",),
    "recommendation.cold_start": ("cold_benchmark", "cold_items",),
    "recommendation.recovery": ("links", "recover",),
    "recommendation.exposure": ("exposure_rows", "exposure_table",),
    "alignment.recipes": ("Recipe",),
    "alignment.rewards": ("Reward", "RewardPart", "default_reward", "register_reward_part",),
    "alignment.grpo": ("align",),
    "alignment.experiment": ("AlignmentPlan", "check_experiment", "prepare_experiment",),
    "alignment.treatments": ("run_experiment",),
    "report.claim_words": ("claim_sentence", "claim_sentences", "claims_where",),
    "report.run": ("read_run",),
    "report.leaderboard": ("contrast_matrix",),
    "report.level_contrasts": ("level_words",),
    "report.outcomes": ("outcome_bars",),
    "report.weak_spots": ("heatmap",),
    "report.scale": ("score_against_scale",),
    "report.size": ("scale_lines", "slope_forest",),
    "report.variation": ("variance_words", "variance_bars",),
    "report.power": ("power_words", "power_curves",),
    "report.cost": ("frontier_figure", "cost_words",),
    "report.page": ("write_report",),
    "report.own_runs": ("report_scores",),
    "fill.product_cells": ("product_cells",),
    "fill.amounts": ("find_amounts",),
    "fill.brand_names": ("shop_brands",),
    "fill.risks": ("RISKS", "Risk", "judge_risk", "pairs_around_cut", "register_risk",),
    "fill.found_claims": ("find_claims", "is_supported", "remove_claims",),
    "fill.kept_claims": ("keep_claims",),
    "fill.title_rules": ("check_title",),
    "fill.picture_marks": ("PictureMark", "mark_image", "read_mark",),
    "fill.yes_questions": ("ask_yes",),
    "fill.signals": ("SIGNALS", "ask_suggestions",),
    "fill.confidence": ("aurc", "cross_fit", "predict_confidence", "reliability", "risk_coverage",),
    "fill.promises": ("make_promise", "promise_table",),
    "fill.import_result": ("ImportFile",),
    "fill.plain_files": ("write_plain",),
    "fill.import_files": ("write_import",),
    "fill.review_queue": ("review_queue", "write_queue",),
    "fill.review_decisions": ("read_reviews",),
    "fill.review_page": ("review_page", "write_review_pages",),
    "fill.reviewed": ("filled_error",),
    "fill.new_thresholds": ("new_threshold",),
    "fill.reviewed_titles": ("apply_reviews", "review_ratings",),
    "fill.fill_figures": ("reliability_figure", "risk_coverage_figure",),
    "fill.fill_report": ("fill_report",),
    "fill.reviewed_fills": ("apply_review",),
    "fill.drawn_pictures": ("fill_pictures", "picture_gaps",),
    "study.choices": ("Study",),
    "study.declaration": ("read_study", "shipped_studies",),
    "study.stages": ("run_study",),
    "study.run_model": ("model_of_run",),
    "study.forecast": ("forecast",),
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
