"""The graph of services: what depends on what.

`deps` maps each name to the names it depends on. A dependency that is not itself a key is ignored
where order is concerned; the desk file's check refuses it before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

Deps = Mapping[str, Collection[str]]


def find_cycle(deps: Deps) -> list[str] | None:
    """A cycle as a path that ends where it began, `["a", "b", "a"]`, or None. The same graph gives
    the same cycle."""
    done: set[str] = set()
    for root in sorted(deps):
        path: list[str] = []
        on_path: set[str] = set()
        # Depth first without recursion: a chain of 10,000 services is no reason to fail.
        stack: list[tuple[str, bool]] = [(root, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                path.pop()
                on_path.remove(name)
                done.add(name)
            elif name in on_path:
                return [*path[path.index(name) :], name]
            elif name not in done:
                path.append(name)
                on_path.add(name)
                stack.append((name, True))
                stack.extend((dep, False) for dep in sorted(deps.get(name, ()), reverse=True))
    return None


def start_order(deps: Deps) -> list[list[str]]:
    """Waves: each holds, by name, what may start at once when all waves before it are ready.
    Raises ValueError for a cycle."""
    waiting = {name: {dep for dep in needed if dep in deps} for name, needed in deps.items()}
    waves: list[list[str]] = []
    started: set[str] = set()
    while waiting:
        wave = sorted(name for name, needed in waiting.items() if needed <= started)
        if not wave:
            raise ValueError(f"dependency cycle: {' -> '.join(find_cycle(deps) or ())}")
        waves.append(wave)
        started.update(wave)
        for name in wave:
            del waiting[name]
    return waves


def stop_order(deps: Deps) -> list[list[str]]:
    """Waves of the stop: whatever depends on a service is gone before it. Raises ValueError."""
    return start_order(dependents(deps))


def dependents(deps: Deps) -> dict[str, set[str]]:
    """The graph turned around: each name with what depends on it directly."""
    turned: dict[str, set[str]] = {name: set() for name in deps}
    for name, needed in deps.items():
        for dep in needed:
            if dep in turned:
                turned[dep].add(name)
    return turned


def with_dependencies(deps: Deps, names: Iterable[str]) -> set[str]:
    """The names and all they need, directly or not."""
    return _reach(deps, names)


def with_dependents(deps: Deps, names: Iterable[str]) -> set[str]:
    """The names and all that needs them, directly or not."""
    return _reach(dependents(deps), names)


def _reach(deps: Deps, names: Iterable[str]) -> set[str]:
    reached: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in reached:
            reached.add(name)
            left.extend(deps.get(name, ()))
    return reached
