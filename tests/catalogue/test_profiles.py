"""Which kind of file it is, from headers as shops have them, and what is said where it is none."""

import pytest

from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.catalogue.profiles import (
    FILE_PROFILES,
    column_advice,
    columns_in_use,
    map_columns,
    recognise_profile,
)

WOO_HEADERS = {
    "de": "ID,Typ,Artikelnummer,Name,Veröffentlicht,Ist hervorgehoben?,Kurzbeschreibung,Beschreibung,Gewicht (kg),Kategorien,Schlagwörter,Bilder,Übergeordnetes Produkt",
    "fr": "ID,Type,UGS,Nom,Publié,Mis en avant ?,Description courte,Description,Poids (kg),Catégories,Étiquettes,Images,Parent",
    "es": "ID,Tipo,SKU,Nombre,Publicado,¿Está destacado?,Descripción corta,Descripción,Peso (kg),Categorías,Etiquetas,Imágenes,Superior",
    "it": "ID,Tipo,COD,Nome,Pubblicato,In primo piano?,Breve descrizione,Descrizione,Peso (kg),Categorie,Tag,Immagini,Genitore",
    "nl": "ID,Type,Artikelnummer,Naam,Gepubliceerd,Uitgelicht?,Korte omschrijving,Beschrijving,Gewicht (kg),Categorieën,Tags,Afbeeldingen,Hoofd",
    "pt": "ID,Tipo,REF,Nome,Publicado,Em destaque?,Descrição curta,Descrição,Peso (kg),Categorias,Etiquetas,Imagens,Ascendente",
}  # In each: id, type, SKU, name, published, featured, short, description, weight, categories, tags, images, parent


@pytest.mark.parametrize("language", WOO_HEADERS)
def test_woocommerce_in_the_languages_that_are_known(language):
    names = WOO_HEADERS[language].split(",")
    kind = recognise_profile(names)
    assert kind.name == "woocommerce"
    mapping = map_columns(names, profile=kind)
    assert mapping == {
        "item_id": "ID", "title": names[3], "image": names[11], "category": names[9], "description": names[7],
        "keywords": names[10], "parent_id": names[12],
    }  # fmt: skip
    used = columns_in_use(names, kind, mapping)
    assert used["description"] == [names[7], names[6]] and used["item_id"] == ["ID", names[2]]
    assert (used["type"], used["sku"], used["status"]) == ([names[1]], [names[2]], [names[4]])
    assert names[8] not in {name for columns in used.values() for name in columns}


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (
            "Title,URL handle,Description,Vendor,Product category,Type,Tags,Status,SKU,Product image URL",
            "shopify",
        ),
        ("Handle,Title,Body (HTML),Vendor,Type,Tags,Published,Variant SKU,Image Src", "shopify-legacy"),
        (
            "Handle,Title,Description,Vendor,Product category,Type,Published on online store,Product image URL",
            "shopify",
        ),
        ("id,title,description,link,image_link,availability,price,brand,gtin", "google"),
        ("ID,Title,Image Link,Google Product Category", "google"),
        ("g:id,g:title,g:image_link", "google"),
        ("id,structured_title", "google"),
        ("ID,Type,SKU,Name,Published,Categories,Images", "woocommerce"),
        ("main_category,title,average_rating,images,store,parent_asin", "amazon-2023"),
        ("handle,title,price", "plain"),
        ("id,type,name,category", "plain"),
        ("sku,name,image", "plain"),
        ("item_id:token,title:token_seq,categories:token_seq", "plain"),
    ],
)
def test_a_header_tells_the_kind(header, name):
    assert recognise_profile(header.split(",")).name == name


def test_shopifys_id_is_the_handle_and_never_the_sku():
    names = ["SKU", "Variant SKU", "Title", "URL handle", "Product image URL", "Type"]
    mapping = map_columns(names, profile=recognise_profile(names))
    assert mapping["item_id"] == mapping["parent_id"] == "URL handle" and mapping["category"] == "Type"


def test_a_column_that_serves_by_hand_has_no_second():
    names = ["URL handle", "Title", "Product category", "Type", "Product image URL"]
    kind = recognise_profile(names)
    assert columns_in_use(names, kind, map_columns(names, None, kind))["category"] == [
        "Product category",
        "Type",
    ]
    assert columns_in_use(names, kind, map_columns(names, {"category": "Type"}, kind))["category"] == ["Type"]
    assert columns_in_use(names, kind, map_columns(names, {"category": "Title"}, kind))["category"] == [
        "Title"
    ]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("rating,title,text,images,asin,parent_asin,user_id,timestamp,helpful_vote", "Amazon's reviews"),
        ("overall,reviewerID,asin,reviewText,summary,unixReviewTime", "Amazon's reviews"),
        ("user_id,parent_asin,rating,timestamp", "Amazon's reviews"),
        ("user_id:token,item_id:token,rating:float,timestamp:float", "purchases or ratings"),
        ("userId,itemId,rating,timestamp", "purchases or ratings"),
        ("timestamp,visitorid,event,itemid", "purchases or ratings"),
        ("Name,Email,Financial Status,Paid at,Fulfillment Status,Lineitem name", "Shopify's orders"),
        ("order_id,order_number,status,billing_email,line_items", "WooCommerce's orders"),
    ],
)
def test_a_file_of_something_else_is_told_where_it_belongs(header, said):
    with pytest.raises(ValueError, match=said) as caught:
        recognise_profile(header.split(","))
    assert "--interactions" in str(caught.value) and "recommendation.interactions" in str(caught.value)
    assert "profile='plain'" in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        "user_id,id,title,date,image",
        "id,name,rating,timestamp",
        "asin,title,rating,date",
        "Order,Name,Email,Image",
        "sku,title,customer_id,created_at",
    ],
)
def test_a_catalogue_with_such_a_column_is_no_file_of_purchases(header):
    assert recognise_profile(header.split(",")).name == "plain"


def test_names_that_were_typed_wrongly_get_the_line_to_type():
    with pytest.raises(
        ValueError, match=r"but the file has SKU, Product Name: type --column title=Product Name"
    ):
        map_columns(["SKU", "Product Name"], {"title": "Product Nmae"})
    with pytest.raises(
        ValueError, match=r"maps 'titel'; it can map item_id, title.*: type --column title=Name"
    ):
        map_columns(["SKU", "Name"], {"titel": "Name"})
    assert map_columns(["SKU", "Product Name"], {"title": "product_name"})["title"] == "Product Name"


def test_advice_where_columns_are_missing():
    plain, woo = FILE_PROFILES["plain"], FILE_PROFILES["woocommerce"]
    assert column_advice(["id", "title"], plain, {"item_id": "id", "title": "title"}) == ""
    assert column_advice(["photo"], plain, {"image": "photo"}) == ""  # Items are called after their pictures
    said = column_advice(["Preis", "Farbe"], plain, {})
    assert said.startswith("no column can be the item_id") and "Preis, Farbe" in said
    assert "--column item_id=NAME --column title=NAME --column image=NAME" in said
    assert "no column can be the title or the image" in column_advice(["id"], plain, {"item_id": "id"})
    assert "WooCommerce" in column_advice(["ID", "Тип"], woo, {"item_id": "ID"})


def test_profiles_are_declarations_that_agree_with_each_other():
    for name, kind in FILE_PROFILES.items():
        assert (kind.name == name and kind.source) or name == "plain"
        needs = [need for need in kind.needs if isinstance(need, str)] + [
            n for need in kind.needs if not isinstance(need, str) for n in need[:1]
        ]
        assert not needs or recognise_profile(needs, (), *kind.kinds) is kind


def test_magento_is_not_taken_for_woocommerce_by_its_product_type():
    row = {"sku": "1", "product_type": "simple", "name": "Mug", "base_image": "/m/u/mug.jpg"}
    assert recognise_profile(list(row), [row]).name == "plain"
    assert (
        recognise_profile(["Nazwa", "Rodzaj"], [{"Nazwa": "Kubek", "Rodzaj": "simple"}]).name == "woocommerce"
    )


def test_the_answer_of_a_shops_products_json_is_shopifys():
    names = ["id", "title", "handle", "body_html", "vendor", "product_type", "tags", "variants", "images"]
    kind = recognise_profile(names)
    mapping = map_columns(names, None, kind)
    assert kind.name == "shopify-legacy" and mapping["item_id"] == "handle"
    assert mapping["image"] == "images" and mapping["category"] == "product_type"


@pytest.mark.parametrize(
    "names",
    [
        "title,body,rating,review_date,reviewer_name,reviewer_email,product_id,product_handle",
        "comment_ID,product_id,rating,comment_author,comment_content",
        "Review ID,SKU,Stars,Title,Review text",
    ],
)
def test_reviews_of_a_shop_are_no_products(names):
    with pytest.raises(ValueError, match=r"this is an export of reviews .* --profile plain"):
        recognise_profile(names.split(","))


@pytest.mark.parametrize(
    "names",
    [
        "id,title,rating,author",
        "product_id,product_name,rating,review_id,img_link",
        "sku,title,image,rating,reviewer",
    ],
)
def test_products_with_a_rating_are_products(names):
    assert recognise_profile(names.split(",")).name == "plain"


def test_a_list_in_a_file_of_json_lines_is_told_its_ending(tmp_path):
    (tmp_path / "a.jsonl").write_text('[{"id": "1", "title": "Mug"}]\n')
    with pytest.raises(ValueError, match=r"no row of the file is an object.*is saved as \.json,"):
        load_catalogue(tmp_path / "a.jsonl")
