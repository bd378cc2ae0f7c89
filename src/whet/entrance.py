"""`whet.train(...)` trains, and `whet.train.run` is a module of the room `train`: one name for both.

Python puts a subpackage into its package under its own name, where a function of that name would stand. So such a room
is a module that can be called.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def callable_room(room: str, module: str, function: str) -> None:
    """Make the module `room` callable: a call goes to `function` of `module`, which is imported then."""

    class Room(ModuleType):
        def __call__(self, *args: Any, **settings: Any) -> Any:
            return getattr(import_module(module), function)(*args, **settings)

    sys.modules[room].__class__ = Room
