"""open_clip's CLIP and SigLIP models as zero-shot classifiers: ``clip:ViT-B-32.openai``.

The logits are an image's scaled cosines with the texts that stand for the classes. The texts are encoded once, when the
model is built; the text tower is not kept.
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
CROP_MODES = {"squash": "squash", "longest": "border"}  # timm's names of open_clip's; its "shortest" is "center"
TEXTS = "texts"  # name in the state of a zero-shot classifier


class ZeroShot(nn.Module):
    """An image tower whose logits are scaled cosines with the embeddings of texts.

    Args:
        visual: Maps normalised images (B,3,H,W) to embeddings (B,D).
        texts: (K,D) of norm 1, one for each class.
        scale: () of the cosines.
        bias: () SigLIP's.
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
    """Return what open_clip's name stands for, ``ViT-B-32`` or with the tag of its weights, ``ViT-B-32.openai``.

    Images are prepared as these weights ask for, or those of the first tag.

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
    if tag and images.get("quick_gelu") and f"{model}{QUICK}" in known:  # OpenAI's activation, another architecture
        model += QUICK
    size = clip.get_model_config(model)["vision_cfg"]["image_size"]
    if not isinstance(size, int):
        raise ValueError(f"expected a model of square images, got clip:{model} of {size} pixels")
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
    """Return the architecture with the texts that stand for the classes.

    Args:
        architecture: Of :func:`resolve`.
        classes: Class names of the data; None asks for ``class_names``.
        prompts: Texts with ``{}`` in the place of the class name, whose embeddings are averaged: one, several, a file
            with one per line, or ``"openai"``, the 80 of Radford et al. 2021. None takes :data:`PROMPT`.
        class_names: What to write there for each class, in the data's order: a list, or a file with one per line. None
            takes the data's names, and open_clip's for ImageNet's identifiers.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A prompt has no ``{}``, or there are more or fewer names than classes.
    """
    clip = _open_clip()
    if prompts == "openai":
        prompts = [template("{}") for template in clip.OPENAI_IMAGENET_TEMPLATES]
    templates = _lines(PROMPT if prompts is None else prompts, "prompts")
    if not templates or not all("{}" in template for template in templates):
        wrong = next((template for template in templates if "{}" not in template), "none")
        raise ValueError(f"expected prompts with {{}} in the place of the class name, got {wrong!r}; try {PROMPT!r}")
    if class_names is not None:
        names = _lines(class_names, "class_names")
    elif classes is not None:
        labels, words = number_names(imagenet_classes()), clip.IMAGENET_CLASSNAMES
        names = [words[labels[name]] if name in labels else name.replace("_", " ") for name in classes]
    else:
        raise ValueError(f"expected class_names for the texts of {architecture.name}, got none; try a list of them")
    if classes is not None and len(names) != len(classes):
        raise ValueError(f"expected {len(classes)} class_names, as many as the data have classes, got {len(names)}")
    return replace(architecture, head_details={"prompts": templates, "class_names": names})


def build(
    architecture: Architecture,
    num_classes: int | None,
    image_size: int | None,
    state: tuple[str, Mapping[str, Tensor]] | None,
) -> nn.Module:
    """Return the zero-shot classifier.

    Args:
        architecture: Of :func:`with_texts`.
        num_classes: Of the data; only needed for a state that holds the embeddings of texts.
        image_size: Input height and width in pixels; None takes the model's own.
        state: A file's name and content: weights of the CLIP model, or those of a zero-shot classifier.

    Raises:
        ValueError: There are no texts, the weights do not fit or are not to be had, or the model cannot be used.
    """
    clip, name = _open_clip(), resolve(architecture.name).name  # a folder may have named it
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
            raise ValueError(f"clip:{name} of {state[0]} tells {rows} classes apart and the data have {num_classes}")
        classifier = ZeroShot(model.visual, torch.zeros_like(state[1][TEXTS]), torch.ones(()), torch.zeros(()))
        load_all(classifier, *state)
        return classifier
    if state is not None:
        load_all(model, *state)
    scale, bias = model.logit_scale.detach().exp(), getattr(model, "logit_bias", None)
    bias = torch.zeros(()) if bias is None else bias.detach().clone()
    return ZeroShot(model.visual, _encoded(clip, model, architecture), scale, bias)


def _encoded(clip: Any, model: Any, architecture: Architecture) -> Tensor:  # noqa: ANN401 - open_clip's
    """Return the embeddings (K,D) of the classes, each the mean over the prompts."""
    details, name = architecture.head_details, architecture.name
    if not details:
        raise ValueError(
            f"clip:{name} tells apart what texts say; evaluate.py and harmonizer.load take prompts and class_names. It "
            "is not trained: timm has the image towers, for example --model vit_base_patch32_clip_224 --pretrained"
        )
    # Functions, not texts: str.format would look into the attributes of its argument.
    templates = [partial(template.replace, "{}") for template in details["prompts"]]
    try:
        with cache_only_when_offline():
            tokenizer = clip.get_tokenizer(name)
    except (OSError, ImportError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        hint = "; try pip install transformers" * isinstance(error, ImportError)
        raise ValueError(f"the tokenizer of clip:{name} is not to be had: {reason}{hint}") from error
    weights: Tensor = clip.build_zero_shot_classifier(model, tokenizer, details["class_names"], templates)
    return weights.T.contiguous()


def _open_clip() -> Any:  # noqa: ANN401 - a module without types
    """Import open_clip, which is an extra."""
    try:
        import open_clip
    except ImportError as error:
        raise ValueError(f"clip:NAME needs open_clip ({error}); try pip install 'neural-harmonizer[clip]'") from None
    return open_clip


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop open_clip's warning of random weights, and the handler that logging adds for it."""
    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers = before


def _lines(given: str | Path | Sequence[str], setting: str) -> list[str]:
    """Return texts: a list as it is, a text with a place for a name alone, or the lines of a file."""
    if isinstance(given, str) and "{}" in given:
        return [given]
    if not isinstance(given, str | Path):
        return [str(text) for text in given]
    path = Path(given)
    if not path.is_file():
        raise FileNotFoundError(f"{setting}={given}: expected a list, or a file with one per line")
    return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
