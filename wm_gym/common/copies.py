"""How is an object copied that shares some of its parts?"""

from __future__ import annotations

import copy
from typing import Any, Self


class CopiesWhole:
    """An environment whose `copy.copy` is a deep one: a shallow one's steps would move the original."""

    def __copy__(self) -> Self:
        return copy.deepcopy(self)


def deepcopy_sharing(thing: Any, memo: dict, *shared: Any) -> Any:
    """A deep copy of a plain object that goes on using the very same `shared` ones."""
    clone = memo[id(thing)] = object.__new__(type(thing))
    memo |= {id(one): one for one in shared}
    vars(clone).update({key: copy.deepcopy(value, memo) for key, value in vars(thing).items()})
    return clone
