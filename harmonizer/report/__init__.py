"""From results to tables, figures and one web page: ``python -m harmonizer.report RESULTS --out DIR``; never torch.

In reading order: ``models`` (what a row of the table is), ``tables`` (CSV files in), ``correlations``, ``text`` (tables
out), ``style``, ``labels``, ``scatter``, ``curves`` and ``grid`` (figures), ``page`` (the HTML file).
"""
