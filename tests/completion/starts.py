"Stand-ins whose tokenizers add BOS or none, and whose templates write it or none."

import json
import shutil

from mmpc_analysis.completion.models import find_weights, model_card

BOS = {"qwen": "<|endoftext|>", "gemma": "<bos>"}


WRITTEN = "{{ bos_token }}"


def with_start(folder, family, adds, template):
    "Everything of a stand-in but its weights, with a tokenizer that adds BOS or does not, and a template of one's own."
    copy = shutil.copytree(find_weights(model_card(f"standin-{family}-s")), folder / "model", ignore=shutil.ignore_patterns("*.safetensors"))  # fmt: skip
    source = (copy / "chat_template.jinja").read_text().removeprefix(WRITTEN)
    (copy / "chat_template.jinja").write_text(template + source)
    if not adds and not template:
        return copy
    bos = BOS[family]
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps(settings | {"bos_token": bos}))
    whole = json.loads((copy / "tokenizer.json").read_text())
    if adds:
        number = next(token["id"] for token in whole["added_tokens"] if token["content"] == bos)
        whole["post_processor"]["single"].insert(0, {"SpecialToken": {"id": bos, "type_id": 0}})
        whole["post_processor"]["special_tokens"] = {bos: {"id": bos, "ids": [number], "tokens": [bos]}}
    (copy / "tokenizer.json").write_text(json.dumps(whole))
    return copy
