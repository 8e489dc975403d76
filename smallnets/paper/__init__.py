"""From frozen rows to a paper: numbers, tables, figures and statements, none typed by hand.

A paper is a folder: ``rows/`` holds studies that are frozen, ``queries.toml`` names every number,
table and figure, ``main.tex`` is the text, and ``generated/`` what is made of the rows. Never loads
JAX. ``smallnets paper --help`` lists what can be done with such a folder.
"""

QUERIES, GENERATED, MAIN = "queries.toml", "generated", "main.tex"
