"""Training: the loop, the engine below it, checkpoints, preflight, report, self-test. `whet.train(...)` starts it."""

from whet.entrance import callable_room

callable_room(__name__, "whet.api", "train")
