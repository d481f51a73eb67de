"""All schemas that a document's root needs, with their plans; those that no finite value meets are left out.

A schema ends if one of its plans needs only schemas that end. Those are found one after the other; what remains refers
to itself without end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from pyinfer.errors import ParameterError
from pyinfer.guides.schema.places import ANYTHING, NOTHING, Key
from pyinfer.guides.schema.plans import Array, Object, Plan, Planner
from pyinfer.guides.schema.report import Report

MAX_KEYS = 30_000  # schemas, merged ones included; one takes some tenths of a millisecond


class Graph:
    """The plans of the root and of all that it needs.

    Raises ParameterError if nothing that has an end meets the root.
    """

    def __init__(self, planner: Planner, root: Key, report: Report) -> None:
        self.root = root
        self._plans: dict[Key, list[Plan]] = {}
        self._cut: set[Key] = set()  # schemas that were too many
        todo = deque([ANYTHING, root])
        while todo:
            key = todo.popleft()
            if key in self._plans or key == NOTHING:
                continue
            if len(self._plans) >= MAX_KEYS:
                self._cut.add(key)
                continue
            self._plans[key] = planner.plans(key)
            todo += (child for plan in self._plans[key] for child in _children(plan))
        if self._cut:
            report.degrade("#", f"more than {MAX_KEYS} schemas; any value is accepted for {len(self._cut)} of them")
        self._ending = self._find_ending()
        if self.resolve(root) not in self._ending:
            endless = self._plans.get(root) and self._ends_if_all_do(root)
            reason = "it requires something that contains itself without end" if endless else "nothing meets it"
            why = "" if endless or not report.reasons else f" ({report.reasons})"
            raise ParameterError(f"the JSON schema can't be met: {reason}{why}")

    def resolve(self, key: Key) -> Key:
        """The key itself, or that of any value if there were too many."""
        return ANYTHING if key in self._cut else key

    def ends(self, key: Key) -> bool:
        """Whether a finite value meets a key."""
        return self.resolve(key) in self._ending

    def plans(self, key: Key) -> Iterator[Plan]:
        """The plans of a key that a finite value meets."""
        return (plan for plan in self._plans[self.resolve(key)] if self._plan_ends(plan, self._ending))

    def _find_ending(self) -> set[Key]:
        users: dict[Key, set[Key]] = {}
        for key, plans in self._plans.items():
            for plan in plans:
                for needed in _needed(plan):
                    users.setdefault(self.resolve(needed), set()).add(key)
        ending: set[Key] = set()
        todo = list(self._plans)
        while todo:
            key = todo.pop()
            if key not in ending and any(self._plan_ends(plan, ending) for plan in self._plans[key]):
                ending.add(key)
                todo += users.get(key, ())
        return ending

    def _ends_if_all_do(self, key: Key) -> bool:
        """Whether a value meets a key, if values need not be finite."""
        alive = set(self._plans)
        while dead := {one for one in alive if not any(self._plan_ends(plan, alive) for plan in self._plans[one])}:
            alive -= dead
        return key in alive

    def _plan_ends(self, plan: Plan, ending: set[Key]) -> bool:
        return all(self.resolve(key) in ending for key in _needed(plan))


def _needed(plan: Plan) -> Iterable[Key]:
    """The keys of which each must have a finite value, so that the plan has one."""
    if isinstance(plan, Array):
        needed = [plan.item(i) for i in range(min(plan.low, len(plan.prefix) + 1))]
        # the first item that can be a hit; others may be, too
        return [*needed, plan.hit(len(plan.prefix))] if plan.hits is not None else needed
    if isinstance(plan, Object):
        needed = [member.key for member in plan.members if member.required]
        rest = plan.low - len(needed)
        if rest > 0 and not plan.others:
            optional = [member.key for member in plan.members if not member.required]
            return [*needed, *(optional if rest >= len(optional) else ())]
        return needed
    return ()


def _children(plan: Plan) -> Iterator[Key]:
    """All keys that a plan may write."""
    if isinstance(plan, Array):
        yield from plan.prefix
        if plan.high > len(plan.prefix):
            yield plan.items
        if plan.hits is not None:
            yield from (plan.hit(i) for i in range(len(plan.prefix) + 1))
    elif isinstance(plan, Object):
        yield from (member.key for member in plan.members)
        yield from (key for _, key in plan.others)
