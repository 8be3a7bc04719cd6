"""Tables, figures and a web page from results: ``python -m harmonizer.report RESULTS --out DIR``; without torch.

In reading order: ``data`` (models and scores), ``published`` (published tables), ``sensitivity`` (rank correlations),
``paired`` (two models image by image), ``tables``, ``style``, ``label_placement``, ``scatter``, ``survival`` and
``grid`` (figures), ``replay`` (the 2023 protocol), ``page`` (the HTML file), ``build`` (everything).
"""
