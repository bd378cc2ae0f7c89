"""Curation: rows -> rows by steps, at any size, with a ledger of what each step did and every dropped row kept.

    contract   what a step is: rows seen apart (RowStep) or all together (SetStep)
    texts      which columns of a row hold text, and how to change them
    settings   `curate.yaml` -> Curation: seed, columns, steps
    stage      rows on disk between steps, in order, in bounded memory
    source     files of any format -> a stage; broken lines are set aside
    engine     a chain of RowSteps, or the survey of a SetStep, over a stage by daft: all cores, or a Ray cluster
    ledger     rows in, changed, dropped, added, why, ten examples; content hashes
    output     a stage -> .jsonl, .parquet or .csv, whole or not at all
    pipeline   all of them in order: `curate`

The steps themselves are in whet.data.steps.
"""
