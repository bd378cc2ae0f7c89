"""Messages to ids and targets, rows to packs.

`template` renders a conversation and says which tokens are learnt; `pack` lays the rows of a step out as token tries.
"""
