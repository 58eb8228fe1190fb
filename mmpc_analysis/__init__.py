"""Measure, and mend, products whose picture or text is missing.

The names below are imported from their modules when they are first used, so importing the package costs nothing.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "tables": ("TABLES", "validate", "read_shards", "write_shard", "fingerprint"),
    "catalogue": ("load_catalogue", "simulate_interactions"),
    "missing": ("hide",),
    "models": ("MODELS", "ModelCard", "list_models", "model_card", "own_model"),
    "prompts": ("prompt_for",),
    "backends": ("load_backend",),
    "answers": ("read_answer",),
    "completions": ("complete", "certify"),
    "drawing": ("draw",),
    "scores": ("METRICS", "average", "score"),
    "correlation": ("scale_effect",),
    "report": ("write_report",),
    "study": ("Study", "read_study", "run_study"),
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
