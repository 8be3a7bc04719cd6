"""Guess a model's family from its timm name; a table's own ``family`` column overrides the guess."""

import re
from collections.abc import Mapping
from typing import Any

FAMILIES = (
    *("CNN", "transformer", "hybrid", "adversarially robust"),
    *("control", "harmonized", "other supervision", "other"),
)

# Supervision that a training adds to the cross-entropy, with its source: the harmonizer loss or a baseline.
SUPERVISIONS = {
    "harmonizer": "Fel et al. 2022, arXiv 2211.04533",
    "rrr": "right for the right reasons, Ross et al. 2017, arXiv 1703.03717",
    "sgt": "saliency-guided training, Ismail et al. 2021, arXiv 2111.14338",
    "pag": "perceptually aligned gradients, Ganz et al. 2023, arXiv 2207.11378",
    "cyborg": "CYBORG's activation-map loss, Boyd et al. 2023, arXiv 2112.00686",
}
WITHOUT_MAPS = ("sgt", "pag")  # supervisions without human maps, on all images

# Prefixes of timm's architecture names. A hybrid has convolutional stages and attention; a transformer mixes positions
# by attention only, a CNN by local filters only. MLP mixers, state-space and recurrent models are "other".
PREFIXES = {
    "hybrid": """
        bat_resnext botnet caformer coat coatne csatv2 cvt eca_botnext eca_halonext edgenext efficientformer
        efficientvit fastvit halo iformer lambda lamhalo levit lowformer maxvit maxxvit mobilenetv4_hybrid mobilevit
        mobileclip
        nextvit sebotnet sehalonet shvit swiftformer test_coatnet test_maxvit tiny_vit uniformer visformer vitamin
    """,
    "transformer": """
        aimv2 beit cait convit crossvit davit deepseek deit dino eva flexivit gcvit gemma hiera jx_nest mvit naflexvit
        nest pe_core pit_ pvt qwen sam2 samvit swin test_vit tnt twins vit_ volo xcit
    """,
    "CNN": """
        adv_inception alexnet convformer convmixer convnext cs3 csp darknet densenet dla dm_nfnet dpn eca_nfnet
        eca_resne eca_vovnet ecaresne efficientnet ens_adv ese_vovnet fasternet fbnet focalnet gc_efficientnet gcresne
        gernet ghostnet gluon hardcorenas hgnet hrnet ig_resne inception lcnet mambaout mixnet mnasnet mobilenet
        mobileone nasnet nf_ nfnet pnasnet poolformer rdnet regnet repghostnet repvgg repvit res2ne resmobile resne
        rexnet rn101 rn50
        sedarknet selecsls semnasnet senet seresne skresne spnasnet squeezenet ssl_resne starnet swsl_resne
        test_byobnet test_convnext test_efficientnet test_mambaout test_nfnet test_resnet tinynet tresnet vgg vovnet
        wide_resnet xception
    """,
}
PLACE = re.compile(r"^((hf[-_]hub|clip|torchvision):)?([\w-]+/)?")  # hf-hub:timm/resnet50.a1_in1k
WRAPPERS = re.compile(r"^(tf_|legacy_|gluon_)")  # the origin of the weights
ROBUST_RADIUS = re.compile(r"_(?:l2|linf)_eps(\d+(?:\.\d+)?)")  # Salman et al. 2020; radius 0 is standard training
ROBUST_TAG = re.compile(r"(?:^|[_.])(?:adv|advtrain|robust)(?:[_.]|$)")
HYBRID_STEM = re.compile(r"^vit_\w*?(?:_r\d*_s\d+|_resnet\d+|_r\d+_)")  # a vision transformer on a ResNet's features


def guess_family(model: str) -> str:
    """Guess a model's family from its name.

    Args:
        model: timm's name, with or without a weights tag.

    Returns:
        One of :data:`FAMILIES`, but not "control", "harmonized" or "other supervision", which models trained here have.

    >>> guess_family("resnet50.a1_in1k"), guess_family("vit_large_r50_s32_384"), guess_family("resnet18_l2_eps3")
    ('CNN', 'hybrid', 'adversarially robust')
    """
    name = PLACE.sub("", model.strip().lower()).replace("-", "_")
    radius = ROBUST_RADIUS.search(name)
    if ROBUST_TAG.search(name) or (radius and float(radius[1]) > 0):
        return "adversarially robust"
    architecture = WRAPPERS.sub("", name)
    if HYBRID_STEM.match(architecture):
        return "hybrid"
    prefixes = [(text, family) for family, texts in PREFIXES.items() for text in texts.split()]
    matching = [(len(text), family) for text, family in prefixes if architecture.startswith(text)]
    return max(matching, default=(0, "other"))[1]  # the longest prefix is the most specific


def condition(training: Mapping[str, Any]) -> str:
    """Return the name of a training's condition, next to its control, from its settings.

    >>> condition({"harmonize": True}), condition({"harmonize": True, "supervision": "rrr"})
    ('harmonized', 'rrr')
    """
    if not training["harmonize"]:
        return "control"
    supervision = str(training.get("supervision", "harmonizer"))  # missing in older trainings
    return "harmonized" if supervision == "harmonizer" else supervision


def trained_family(training: Mapping[str, Any]) -> str:
    """Return the family of a model trained here, from the ``training`` block of its summary.

    >>> trained_family({"harmonize": False, "adversarial": "pgd"}), trained_family({"harmonize": True})
    ('adversarially robust', 'harmonized')
    """
    if training["harmonize"]:
        return "harmonized" if condition(training) == "harmonized" else "other supervision"
    return "control" if training.get("adversarial", "none") == "none" else "adversarially robust"
