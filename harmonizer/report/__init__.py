"""From results to tables, figures and one web page: ``python -m harmonizer.report RESULTS --out DIR``; never torch.

In reading order: ``data`` (one row of the table), ``published`` (CSV files in), ``sensitivity`` (rank correlations),
``paired`` (two models image by image), ``tables`` (tables out), ``style``, ``label_placement``, ``scatter``,
``survival`` and ``grid`` (figures), ``replay`` (the 2023 protocol), ``page`` (the HTML file), ``build`` (all of it).
"""
