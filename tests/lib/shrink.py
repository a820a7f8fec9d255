# SPDX-License-Identifier: Apache-2.0
"""The smallest part of a plan that still fails. A plan is a dictionary with "rounds", a list of {"guest": [operation…], "host":
[operation…], "kill": something or null}; what else it has is kept. Operations must not depend on each other's presence."""


def fewer(items, fails):
    """Drop chunks, halves first, single ones last, as long as what remains fails. Return: what remains."""
    size = max(1, len(items) // 2)
    while items:
        at, before = 0, len(items)
        while at < len(items):
            trial = items[:at] + items[at + size:]
            if fails(trial):
                items = trial
            else:
                at += size
        if size == 1 and len(items) == before:
            break
        size = max(1, size // 2)
    return items


def with_only(plan, part, items):
    """The plan with these (round, operation) of one part, whose rounds stay."""
    rounds = [dict(one, **{part: [op for n, op in items if n == k]}) for k, one in enumerate(plan["rounds"])]
    return dict(plan, rounds=rounds)


def size(plan):
    return sum(len(one["guest"]) + len(one["host"]) + bool(one["kill"]) for one in plan["rounds"])


def shrink(plan, fails, smaller=lambda plan: None):
    """fails(PLAN) plays it. smaller(PLAN) is told each one that is smaller and still fails. Return: the smallest."""
    best = plan

    def tried(trial):
        nonlocal best
        if not fails(trial):
            return False
        best = trial
        smaller(trial)
        return True

    while True:
        before = size(best)
        if any(one["kill"] for one in best["rounds"]):
            if not tried(dict(best, rounds=[dict(one, kill=None) for one in best["rounds"]])):
                kept = fewer([k for k, one in enumerate(best["rounds"]) if one["kill"]],
                             lambda ks: tried(dict(best, rounds=[dict(one, kill=one["kill"] if k in ks else None) for k, one in enumerate(best["rounds"])])))
                assert kept == [k for k, one in enumerate(best["rounds"]) if one["kill"]]
        for part in ("host", "guest"):
            now = best
            if part == "guest":
                fewer(now["rounds"], lambda rounds: tried(dict(best, rounds=rounds)))
                now = best
            items = [(k, op) for k, one in enumerate(now["rounds"]) for op in one[part]]
            if items and part == "host" and tried(with_only(now, part, [])):
                continue
            fewer(items, lambda ops: tried(with_only(now, part, ops)))
        if size(best) == before:
            return best


if __name__ == "__main__":
    # A fault that takes one operation of each side and a kill, in the right order, among two hundred.
    many = {"name": "x", "rounds": [{"guest": [[k, i] for i in range(30)], "host": list(range(k, k + 10)), "kill": ["daemon", k]} for k in range(5)]}
    told = []

    def bad(plan):
        at = [k for k, one in enumerate(plan["rounds"]) if [1, 17] in one["guest"]]
        return bool(at) and any([3, 29] in one["guest"] and 12 in one["host"] for one in plan["rounds"][at[0] + 1:]) and any(
            one["kill"] == ["daemon", 2] for one in plan["rounds"])

    found = shrink(many, bad, told.append)
    assert size(found) == 4 and bad(found) and found["name"] == "x" and told[-1] == found, found
    assert sorted(op for one in found["rounds"] for op in one["guest"]) == [[1, 17], [3, 29]], found
    assert fewer([1, 2, 3], lambda items: True) == [] and fewer([1, 2, 3], lambda items: 2 in items) == [2]
    print("shrink: ok")
