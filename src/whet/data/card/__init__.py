"""A data card: one page on what a set of rows holds, and what is wrong with it.

tally   kinds, columns, lengths, values, examples: one pass over the rows
checks  the steps of curation that flag; their ledgers are the card's findings
build   both together -> Card
plots   lengths, languages, balance
page    Card -> HTML and Markdown
"""

from whet.data.card.build import Card, card
from whet.data.card.page import write

__all__ = ["Card", "card", "write"]
