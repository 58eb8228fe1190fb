"What a run's manifest says of its purchases."

from dataclasses import replace

import pytest

from mmpc_analysis.study.asked import cards_of
from mmpc_analysis.study.choices import CatalogueChoice, MissingChoice, RecommendationChoice, Study
from mmpc_analysis.study.declaration import purchases_source, read_catalogue
from mmpc_analysis.study.manifest import manifest_of

POPULAR = MissingChoice(mechanism="by_popularity")
TOLD = ["purchases, which decide what is popular"]


@pytest.mark.parametrize(
    "mechanism, interactions, simulated, source",
    [
        ("by_popularity", "", TOLD, "simulated"),
        ("by_popularity", "simulated", TOLD, "simulated"),
        ("by_popularity", "shop/orders 2024.csv", [], "orders 2024.csv"),
        ("completely_at_random", "shop/orders.csv", [], "orders.csv"),
        ("completely_at_random", "", [], "simulated"),
        ("by_popularity", "none", [], "none"),
    ],
)
def test_only_simulated_purchases_are_called_simulated(tmp_path, mechanism, interactions, simulated, source):
    missing, choice = MissingChoice(mechanism=mechanism), RecommendationChoice(interactions=interactions)
    study = Study(missing=missing, recommendation=choice)
    facts = manifest_of(study, read_catalogue(study.catalogue), cards_of(study), str(tmp_path), {})
    assert (facts["simulated"], facts["purchases"]) == (simulated, source)


def test_a_catalogue_of_ones_own_has_no_purchases_in_silence():
    own = Study(catalogue=CatalogueChoice(source="mine.csv"), missing=POPULAR)
    assert purchases_source(own) == "none"
    asked = replace(own, recommendation=RecommendationChoice(interactions="simulated"))
    assert purchases_source(asked) == "simulated"
