"""CLIP and SigLIP models of open_clip as zero-shot classifiers: ``clip:ViT-B-32.openai``.

The logits are the scaled cosine similarities of an image and one text per class. The texts are encoded once, when the
model is built; the text tower is discarded.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harmonizer.data.class_names import imagenet_classes, number_names
from harmonizer.models.architecture import ZERO_SHOT, Architecture, nearest_names
from harmonizer.models.hub import cache_only_when_offline
from harmonizer.models.weights import load_all

PROMPT = "a photo of a {}."
QUICK = "-quickgelu"
CROP_MODES = {"squash": "squash", "longest": "border"}  # from open_clip's names to timm's; "shortest" is "center"
TEXTS = "texts"  # key in the state of a zero-shot classifier


class ZeroShot(nn.Module):
    """An image tower whose logits are scaled cosine similarities with text embeddings.

    Args:
        visual: Maps normalised images (B,3,H,W) to embeddings (B,D).
        texts: (K,D) text embeddings of norm 1, one per class.
        scale: () factor of the cosines.
        bias: () bias of SigLIP; 0 for CLIP.
    """

    def __init__(self, visual: nn.Module, texts: Tensor, scale: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.visual = visual
        self.texts: Tensor
        self.scale: Tensor
        self.bias: Tensor
        self.register_buffer(TEXTS, texts)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (B,3,H,W) to logits (B,K)."""
        return self.scale * F.normalize(self.visual(images), dim=1) @ self.texts.T + self.bias


def resolve(name: str) -> Architecture:
    """Return the architecture of an open_clip name, ``ViT-B-32``, or with a weights tag, ``ViT-B-32.openai``.

    The image preparation is that of the weights; without a tag, that of the first tag.

    Raises:
        ValueError: open_clip is not installed, or has no such model or weights; the message suggests the nearest names.
    """
    clip, (model, _, tag) = _open_clip(), name.partition(".")
    known = clip.list_models()
    if model not in known:
        raise ValueError(f"open_clip has no model {model!r}{nearest_names(model, known, 'clip:')}")
    tags = clip.list_pretrained_tags_by_model(model)
    if tag and tag not in tags:
        raise ValueError(f"open_clip has no weights {name!r}; it has {', '.join(tags) or 'none'}")
    images = clip.get_pretrained_cfg(model, tag or tags[0]) if tags else {}
    if (
        tag and images.get("quick_gelu") and f"{model}{QUICK}" in known
    ):  # another architecture, with OpenAI's activation
        model += QUICK
    size = clip.get_model_config(model)["vision_cfg"]["image_size"]
    if not isinstance(size, int):
        raise ValueError(f"expected a model for square images, got clip:{model} for {size} pixels")
    interpolation = images.get("interpolation", "bicubic")
    return Architecture(
        "clip",
        model,
        mean=tuple(images.get("mean") or clip.OPENAI_DATASET_MEAN),
        std=tuple(images.get("std") or clip.OPENAI_DATASET_STD),
        size=size,
        interpolation=interpolation if interpolation in ("bilinear", "bicubic") else "bicubic",
        crop_mode=CROP_MODES.get(images.get("resize_mode", ""), "center"),
        tag=tag or None,
        head=ZERO_SHOT,
    )


def with_texts(
    architecture: Architecture,
    classes: Sequence[str] | None = None,
    *,
    prompts: str | Path | Sequence[str] | None = None,
    class_names: str | Path | Sequence[str] | None = None,
) -> Architecture:
    """Return the architecture with one text per class.

    Args:
        architecture: Result of :func:`resolve`.
        classes: Class names of the data; None requires ``class_names``.
        prompts: Texts with ``{}`` for the class name, whose embeddings are averaged: one, several, a file with one per
            line, or ``"openai"``, the 80 of Radford et al. 2021. None takes :data:`PROMPT`.
        class_names: Words for each class, in the data's order: a list, or a file with one per line. None takes the
            data's names, and open_clip's names for ImageNet's identifiers.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A prompt has no ``{}``, or the numbers of names and classes differ.
    """
    clip = _open_clip()
    if prompts == "openai":
        prompts = [template("{}") for template in clip.OPENAI_IMAGENET_TEMPLATES]
    templates = _lines(PROMPT if prompts is None else prompts, "prompts")
    if not templates or not all("{}" in template for template in templates):
        wrong = next((template for template in templates if "{}" not in template), "none")
        raise ValueError(f"expected prompts with {{}} for the class name, got {wrong!r}; try {PROMPT!r}")
    if class_names is not None:
        names = _lines(class_names, "class_names")
    elif classes is not None:
        labels, words = number_names(imagenet_classes()), clip.IMAGENET_CLASSNAMES
        names = [words[labels[name]] if name in labels else name.replace("_", " ") for name in classes]
    else:
        raise ValueError(f"expected class_names for the texts of {architecture.name}, got none; try a list of them")
    if classes is not None and len(names) != len(classes):
        raise ValueError(f"expected {len(classes)} class_names, one per class of the data, got {len(names)}")
    return replace(architecture, head_details={"prompts": templates, "class_names": names})


def build(
    architecture: Architecture,
    num_classes: int | None,
    image_size: int | None,
    state: tuple[str, Mapping[str, Tensor]] | None,
) -> nn.Module:
    """Return the zero-shot classifier.

    Args:
        architecture: Result of :func:`with_texts`.
        num_classes: Number of the data's classes; only needed for a state that holds text embeddings.
        image_size: Input height and width in pixels; None takes the model's own.
        state: File name and weights, of the CLIP model or of a zero-shot classifier.

    Raises:
        ValueError: There are no texts, the weights do not fit or are unavailable, or the model cannot be built.
    """
    clip, name = _open_clip(), resolve(architecture.name).name  # the name may come from a folder
    try:
        with cache_only_when_offline(), _quiet():
            model = clip.create_model(name, pretrained=architecture.tag, force_image_size=image_size).eval()
    except (OSError, RuntimeError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        tag = f".{architecture.tag}" if architecture.tag else ""
        raise ValueError(f"open_clip cannot build clip:{name}{tag}: {reason}") from error
    if state is not None and TEXTS in state[1]:
        rows = len(state[1][TEXTS])
        if num_classes not in (None, rows):
            raise ValueError(f"expected data with the {rows} classes of clip:{name} in {state[0]}, got {num_classes}")
        classifier = ZeroShot(model.visual, torch.zeros_like(state[1][TEXTS]), torch.ones(()), torch.zeros(()))
        load_all(classifier, *state)
        return classifier
    if state is not None:
        load_all(model, *state)
    scale, bias = model.logit_scale.detach().exp(), getattr(model, "logit_bias", None)
    bias = torch.zeros(()) if bias is None else bias.detach().clone()
    return ZeroShot(model.visual, _encoded(clip, model, architecture), scale, bias)


def _encoded(clip: Any, model: Any, architecture: Architecture) -> Tensor:  # noqa: ANN401 - open_clip's
    """Return the text embeddings (K,D) of the classes, averaged over the prompts."""
    details, name = architecture.head_details, architecture.name
    if not details:
        raise ValueError(
            f"clip:{name} is a zero-shot classifier and cannot be trained; evaluate.py and harmonizer.load take its "
            "prompts and class_names. To train, try an image tower of timm: --model vit_base_patch32_clip_224 "
            "--pretrained"
        )
    # Functions instead of strings: str.format would give access to the attributes of its argument.
    templates = [partial(template.replace, "{}") for template in details["prompts"]]
    try:
        with cache_only_when_offline():
            tokenizer = clip.get_tokenizer(name)
    except (OSError, ImportError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        hint = "; try pip install transformers" * isinstance(error, ImportError)
        raise ValueError(f"cannot load the tokenizer of clip:{name}: {reason}{hint}") from error
    weights: Tensor = clip.build_zero_shot_classifier(model, tokenizer, details["class_names"], templates)
    return weights.T.contiguous()


def _open_clip() -> Any:  # noqa: ANN401 - a module without types
    """Import open_clip, an optional dependency."""
    try:
        import open_clip
    except ImportError as error:
        raise ValueError(f"clip:NAME needs open_clip ({error}); try pip install 'neural-harmonizer[clip]'") from None
    return open_clip


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress open_clip's warning about random weights, and the handler that logging adds for it."""
    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers = before


def _lines(given: str | Path | Sequence[str], setting: str) -> list[str]:
    """Return a list unchanged, one prompt as a list, or the lines of a file."""
    if isinstance(given, str) and "{}" in given:
        return [given]
    if not isinstance(given, str | Path):
        return [str(text) for text in given]
    path = Path(given)
    if not path.is_file():
        raise FileNotFoundError(f"{setting}={given}: expected a list, or a file with one per line")
    return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
