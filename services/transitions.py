"""States as data: which action leads from which states to which, for whatever goes through some."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.refusal import Refusal

S = TypeVar("S", bound=enum.Enum)


@dataclass(frozen=True)
class Transition(Generic[S]):
    """One action, from where it may be taken, and where it leads."""

    action: str
    sources: frozenset[S]
    target: S


class StateMachine(Generic[S]):
    """The transitions of one sort of thing, and the refusal of whatever is not among them."""

    def __init__(self, refusal: str, *transitions: tuple[str, Iterable[S], S]) -> None:
        self.refusal = refusal
        self.transitions = {
            action: Transition(action, frozenset(sources), target) for action, sources, target in transitions
        }

    def __getitem__(self, action: str) -> Transition[S]:
        return self.transitions[action]

    def lead(self, status: S, action: str, field: str = "id") -> S:
        """Where the action leads from a state; the machine's refusal, of the field that named the thing, where it does
        not lead on from there."""
        transition = self.transitions[action]
        if status not in transition.sources:
            raise Refusal(self.refusal, field, status=status.name, action=action)
        return transition.target
