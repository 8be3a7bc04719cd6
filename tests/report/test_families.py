"""Families guessed from names whose family is known."""

import pytest

from harmonizer.report.style import COLORS, MARKERS
from harmonizer.results.families import FAMILIES, guess_family

KNOWN = {
    "CNN": "resnet50.a1_in1k convnext_tiny.fb_in1k tf_efficientnet_b0.ap_in1k vgg16 convmixer_768_32 regnety_016 "
    "legacy_seresnet18 repvgg_b0.rvgg_in1k resnet18_l2_eps0 wide_resnet50_2_linf_eps0 hf-hub:timm/resnet50.a1_in1k",
    "transformer": "vit_base_patch16_224.augreg_in1k deit3_small_patch16_224 swinv2_cr_small_224 twins_svt_base "
    "eva02_large_patch14_448 xcit_tiny_12_p8_224 vit_relpos_medium_patch16_rpn_224 pit_s_224 "
    "vit_small_patch14_dinov2.lvd142m",
    "hybrid": "maxvit_tiny_tf_224.in1k coatnet_0_rw_224 mobilevit_xs vit_large_r50_s32_384 vit_tiny_r_s16_p8_224 "
    "levit_128 caformer_s18 edgenext_xx_small mobilenetv4_hybrid_medium visformer_small halonet50ts",
    "adversarially robust": "resnet50_l2_eps3 resnet18_l2_eps0.01 wide_resnet50_2_linf_eps8.0 inception_v3.tf_adv_in1k",
    "other": "mixer_b16_224 resmlp_12_224 my_own_net <script>",
}
CASES = [(family, name) for family, names in KNOWN.items() for name in names.split()]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_known_names_get_the_right_family(family, name):
    assert guess_family(name) == family


def test_every_family_has_its_own_color_and_marker():
    for look in (COLORS, MARKERS):
        assert tuple(look) == FAMILIES
        assert len(set(look.values())) == len(FAMILIES)
