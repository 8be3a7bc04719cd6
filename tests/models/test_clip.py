"""open_clip's models as zero-shot classifiers; all weights are random, nothing is downloaded."""

import builtins
import json
import sys
from functools import partial

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

import harmonizer
from harmonizer.data.transforms import JointTransform
from harmonizer.models import build_model, resolve
from harmonizer.models.clip_zoo import PROMPT, with_texts

NAMES = ["cat", "great white shark", "key"]
TEXT = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
TINY = {
    "tiny-clip": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "head_width": 32},
        "text_cfg": TEXT,
    },
    "tiny-sigmoid": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {"image_size": 32, "timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "none"},
        "text_cfg": TEXT | {"no_causal_mask": True, "pool_type": "last"},
    },
}
IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True, scope="module")
def tiny_models(tmp_path_factory):
    for name, config in TINY.items():
        path = tmp_path_factory.mktemp("configs") / f"{name}.json"
        path.write_text(json.dumps(config))
        open_clip.add_model_config(path)


def expected_logits(model, prompts, images=IMAGES, names=NAMES):
    """Compute the logits from the model's two towers, as in Radford et al. 2021."""
    tokenizer = open_clip.get_tokenizer("tiny-clip")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    with torch.no_grad():
        found = model.encode_image((images - mean) / std, normalize=True)
        texts = [model.encode_text(tokenizer([p.replace("{}", n) for p in prompts]), normalize=True) for n in names]
        texts = F.normalize(torch.stack([each.mean(0) for each in texts]), dim=1)
        bias = 0 if getattr(model, "logit_bias", None) is None else model.logit_bias
        return model.logit_scale.exp() * found @ texts.T + bias


@pytest.mark.parametrize("name", list(TINY))
@pytest.mark.parametrize("prompts", [PROMPT, ["a {}", "the {} there"]])
def test_logits_are_scaled_cosines_with_the_texts(name, prompts, tmp_path):
    torch.manual_seed(4)
    whole = open_clip.create_model(name).eval()
    save_file({key: value.contiguous() for key, value in whole.state_dict().items()}, tmp_path / "w.safetensors")
    weights = str(tmp_path / "w.safetensors")
    model = harmonizer.load(f"clip:{name}", prompts=prompts, class_names=NAMES, weights=weights)
    expected = expected_logits(whole, [prompts] if isinstance(prompts, str) else prompts)
    torch.testing.assert_close(model(IMAGES).detach(), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 1e-3 and not hasattr(model.backbone, "transformer")
    assert model.architecture.described_head() == {
        "head": "zero-shot",
        "prompts": [prompts] if isinstance(prompts, str) else prompts,
        "class_names": NAMES,
    }


def test_a_zero_shot_model_is_attacked_and_described():
    model = harmonizer.load("clip:tiny-clip", class_names=NAMES, seed=2)
    labels = model(IMAGES).argmax(1)
    found = harmonizer.evaluate(model, (IMAGES, labels, torch.rand(3, 32, 32)), attack="pgd", progress=False)
    assert [row.status for row in found.rows] == [2] * 3 and all(row.l2 > 0 for row in found.rows)
    assert not any(row.feature_alignment != row.feature_alignment for row in found.rows)
    assert found.summary["model"]["head"] == "zero-shot"
    assert found.summary["model"]["class_names"] == NAMES
    assert found.summary["model"]["name"] == "clip:tiny-clip"


def test_image_size_and_seed_change_the_model():
    small = harmonizer.load("clip:tiny-clip", class_names=NAMES, image_size=16)
    assert small(IMAGES[..., :16, :16]).shape == (3, 3)
    first, again, other = (harmonizer.load("clip:tiny-clip", class_names=NAMES, seed=s)(IMAGES) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_texts_come_from_a_list_a_file_or_the_data(tmp_path):
    (tmp_path / "prompts.txt").write_text("a {}\n\nthe {}\n")
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    texts = partial(with_texts, resolve("clip:tiny-clip"))
    found = texts(["a", "b"], prompts=str(tmp_path / "prompts.txt"), class_names=tmp_path / "names.txt").head_details
    assert found == {"prompts": ["a {}", "the {}"], "class_names": ["one", "two"]}
    imagenet = texts(["n01443537", "n01440764 tench", "sea_horse"]).head_details
    assert imagenet == {"prompts": [PROMPT], "class_names": ["goldfish", "tench", "sea horse"]}
    openai = texts(["a"], prompts="openai").head_details["prompts"]
    assert len(openai) == 80 and "a bad photo of a {}." in openai


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompts": "nowhere.txt"}, "prompts=nowhere.txt: expected a list, or a file with one per line"),
        ({"prompts": ["a photo"]}, "for the class name, got 'a photo'"),
        ({"prompts": []}, "for the class name, got 'none'"),
        ({"class_names": None}, "expected class_names for the texts of tiny-clip, got none"),
        ({"probe": "demo"}, "expected probe=true with a model that has a last linear layer"),
        ({"pretrained": True}, "open_clip has no weights 'tiny-clip.pretrained'; it has none"),
    ],
)
def test_unusable_texts_and_weights_are_refused(settings, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        harmonizer.load("clip:tiny-clip", **{"class_names": NAMES, **settings})


def test_prompts_need_a_zero_shot_classifier():
    with pytest.raises(ValueError, match="prompts and class_names with model=clip:NAME only, got test_vit"):
        harmonizer.load("test_vit", prompts=PROMPT)
    with pytest.raises(ValueError, match="expected 2 class_names, one per class of the data, got 3"):
        with_texts(resolve("clip:tiny-clip"), ["a", "b"], class_names=NAMES)
    with pytest.raises(ValueError, match=r"cannot be trained; evaluate.py and harmonizer.load take its prompts"):
        build_model("clip:tiny-clip", num_classes=3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clip:ViT-B-23", "open_clip has no model 'ViT-B-23'; did you mean clip:ViT-B-32"),
        ("clip:ViT-B-32.opnai", "open_clip has no weights 'ViT-B-32.opnai'; it has openai, "),
        ("clp:RN50", "no module clp, expected MODULE:FUNCTION; did you mean clip:RN50"),
        ("clip:hf-hub:org/net", "open_clip has no model 'hf-hub:org/net'"),
    ],
)
def test_a_misspelt_name_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        resolve(name)


def test_openais_weights_get_openais_activation():
    assert resolve("clip:ViT-B-32.openai").shown == "clip:ViT-B-32-quickgelu"
    assert resolve("clip:ViT-B-32.laion2b_s34b_b79k").shown == "clip:ViT-B-32"
    siglip = resolve("clip:ViT-B-16-SigLIP")
    assert (siglip.mean, siglip.size, siglip.interpolation) == ((0.5, 0.5, 0.5), 224, "bicubic")


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP.webli", "ViT-B-32.openai", "ViT-B-32-256.datacomp_s34b_b86k"])
def test_images_are_preprocessed_as_by_open_clip(name):
    model, _, tag = name.partition(".")
    noise = torch.randint(0, 256, (300, 170, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    image = Image.fromarray(noise.numpy())
    config = open_clip.get_pretrained_cfg(model, tag)
    size = open_clip.get_model_config(model)["vision_cfg"]["image_size"]
    theirs = open_clip.image_transform(
        size,
        is_train=False,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        interpolation=config.get("interpolation"),
        resize_mode=config.get("resize_mode"),
    )(image)
    ours, _ = JointTransform(size, **resolve(f"clip:{name}").geometry)(image, None, seed=0)
    torch.testing.assert_close(torch.as_tensor(ours), theirs, rtol=0, atol=1e-6)


def test_offline_weights_and_tokenizers_fail_in_one_line(monkeypatch):
    monkeypatch.setattr("harmonizer.models.hub.is_reachable", lambda address: False)
    monkeypatch.setattr(
        open_clip.factory, "download_pretrained", lambda *_, **__: (_ for _ in ()).throw(OSError("off"))
    )
    with pytest.raises(ValueError, match=r"open_clip cannot build clip:RN50-quickgelu.openai: Failed to download"):
        harmonizer.load("clip:RN50.openai", class_names=NAMES)

    def no_tokenizer(name):
        raise OSError("no files of the tokenizer\nat all")

    monkeypatch.setattr(open_clip, "get_tokenizer", no_tokenizer)
    with pytest.raises(ValueError, match=r"cannot load the tokenizer of clip:tiny-clip: no files of the tokenizer$"):
        harmonizer.load("clip:tiny-clip", class_names=NAMES)


def test_without_open_clip_the_package_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "open_clip")
    original = builtins.__import__

    def without(name, *rest):
        if name == "open_clip":
            raise ImportError("No module named 'open_clip'")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"needs open_clip .*pip install 'neural-harmonizer\[clip\]'"):
        resolve("clip:ViT-B-32")
