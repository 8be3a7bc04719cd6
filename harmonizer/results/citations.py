"""What to cite, as BibTeX."""

from harmonizer import __version__

HARMONIZER = """\
@inproceedings{fel2022harmonizing,
  title = {Harmonizing the object recognition strategies of deep neural networks with humans},
  author = {Fel, Thomas and Felipe, Ivan and Linsley, Drew and Serre, Thomas},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2022},
  eprint = {2211.04533},
  archiveprefix = {arXiv}
}
"""
PAPERS = (
    HARMONIZER
    + """\
@misc{linsley2023adversarial,
  title = {Adversarial alignment: breaking the trade-off between the strength of an attack and its relevance to human
           perception},
  author = {Linsley, Drew and Feng, Pinyuan and Boissin, Thibaut and Ashok, Alekh Karkada and Fel, Thomas and
            Olaiya, Stephanie and Serre, Thomas},
  year = {2023},
  eprint = {2306.03229},
  archiveprefix = {arXiv}
}
@inproceedings{linsley2019learning,
  title = {Learning what and where to attend},
  author = {Linsley, Drew and Shiebler, Dan and Eberhardt, Sven and Serre, Thomas},
  booktitle = {International Conference on Learning Representations},
  year = {2019},
  eprint = {1805.08819},
  archiveprefix = {arXiv}
}
"""
)
FENG_2025 = """\
@inproceedings{feng2025beyond,
  title = {Beyond adversarial robustness: breaking the robustness-alignment trade-off in object recognition},
  author = {Feng, Pinyuan and Linsley, Drew and Boissin, Thibaut and Ashok, Alekh Karkada and Fel, Thomas and
            Olaiya, Stephanie and Serre, Thomas},
  booktitle = {ICLR Workshop on Representational Alignment (Re-Align)},
  year = {2025},
  url = {https://openreview.net/forum?id=oe1TzWGFjs},
  note = {Table: github.com/TonyFPY/Adversarial\\_Alignment, results/adversarial\\_alignment\\_L2FMNAttack.csv}
}
"""
SOFTWARE = f"""\
@software{{harmonizer,
  title = {{Harmonizer: neural harmonizer training, perturbation tolerance and adversarial alignment}},
  author = {{{{The Harmonizer authors}}}},
  version = {{{__version__}}}
}}
"""


def citations(tables: dict[str, str]) -> str:
    """Return BibTeX of the papers, of the published tables and of this software."""
    others = [FENG_2025 if name == "Feng et al. 2025" else f"% {name}: {text}\n" for name, text in tables.items()]
    return PAPERS + "".join(others) + SOFTWARE
