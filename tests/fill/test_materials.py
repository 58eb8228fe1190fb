"""Materials: when their names are claims, and what supports them."""

import pytest

from mmpc_analysis.fill.materials import MATERIALS, MaterialList, supports_material

LIST = MaterialList()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Glass Teapot", ["glass"]),
        ("Teapot of glass", ["glass"]),
        ("Teapot in Glass", ["glass"]),
        ("Drinking Glass", []),
        ("Wine Glass Set of 4", []),
        ("Magnifying Glass with Light", []),
        ("Glass", []),
        ("Glass with Lid", []),
        ("Glasses Case", []),
        ("Glass Cleaner", []),
        ("Steam Iron", []),
        ("Cast Iron Skillet", ["cast iron"]),
        ("Iron Gate", ["iron"]),
        ("Stainless Steel Pot", ["stainless steel"]),
        ("stainless-steel pot", ["stainless steel"]),
        ("Leather Wallet", ["leather"]),
        ("Faux Leather Wallet", ["faux leather"]),
        ("Leather-Like Wallet", []),
        ("Wood Look Tiles", []),
        ("Wooden Spoon", ["wood"]),
        ("Hollywood Poster", []),
        ("Cotton Candy Machine", []),
        ("Cotton-Blend Shirt", ["cotton"]),
        ("Rubber Duck", []),
        ("Rubber Mat", ["rubber"]),
        ("Gold Necklace", []),
        ("Gold Plated Necklace", ["gold plated"]),
        ("Necklace made of Gold", ["gold"]),
        ("Sterling Silver Ring", ["sterling silver"]),
        ("Paper Towels", []),
        ("Spandex Leggings", ["elastane"]),
        ("Linen and Silk Dress", ["linen", "silk"]),
        ("Aluminium Case", ["aluminum"]),
        ("Lead Free Crystal Vase", ["crystal"]),
        ("", []),
    ],
)
def test_claims(text, found):
    assert [one.material for one in LIST.find(text)] == found


def test_no_spelling_stands_for_two_materials():
    spellings = [s for spelled in MATERIALS.values() for s in spelled]
    assert len(spellings) == len(set(spellings)), sorted({s for s in spellings if spellings.count(s) > 1})


def test_every_spelling_is_found_as_its_material():
    wrong = {
        spelling: [one.material for one in LIST.find(spelling, strict=False)]
        for material, spelled in MATERIALS.items()
        for spelling in spelled
        if [one.material for one in LIST.find(spelling, strict=False)] != [material]
    }
    assert not wrong


@pytest.mark.parametrize(
    ("claimed", "told", "supported"),
    [
        ("steel", "stainless steel", True),
        ("stainless steel", "steel", False),
        ("steel", "carbon steel", True),
        ("leather", "faux leather", False),
        ("leather", "patent leather", True),
        ("fur", "faux fur", False),
        ("suede", "faux suede", False),
        ("wood", "oak", True),
        ("oak", "wood", False),
        ("wool", "merino wool", True),
        ("glass", "fiberglass", False),
        ("glass", "acrylic glass", False),
        ("glass", "tempered glass", True),
        ("silver", "sterling silver", True),
        ("gold", "rose gold", False),
        ("gold", "gold plated", False),
    ],
)
def test_support(claimed, told, supported):
    assert supports_material(claimed, told) is supported


def test_a_list_of_one_s_own_replaces_the_package_s():
    own = MaterialList({"holz": ["holz", "Massivholz"]})
    assert [one.material for one in own.find("Tisch Massivholz, wood")] == ["holz"]
