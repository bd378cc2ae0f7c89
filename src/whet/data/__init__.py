"""The room of rows: from the files that people have to `Example`s, and from rows to better rows.

    read        files, folders and hub datasets -> Examples; each knows its place, each fault names it
    split       a share of the rows set aside for validation, equal rows always on one side
    duplicates  training rows whose content is in the validation set as well
    content_key what makes two rows equal

`sources` finds the files, `formats` reads them into plain objects, `columns` renames, `shapes` recognises what a row
is, `messages` and `pairs` bring it into one spelling.

    curation/   the engine of `whet data`: stages on disk, daft, ledger, output (`curate`)
    steps/      what it can do: one module a step

Nothing here knows of tokens or models.
"""

from whet.data.read import read
from whet.data.split import content_key, duplicates, split

__all__ = ["content_key", "duplicates", "read", "split"]
