# SPDX-License-Identifier: Apache-2.0
"""Is the host's copy what the guest has? Random operations, from a seed, are performed inside; after each round both sides are
compared: names, kinds, modes, times, links, targets, attributes, bytes, holes. What differs is shrunk to the fewest operations that show it.

	equal.py TEMPLATE MOUNT SEED ROUNDS OPERATIONS [OPTIONS]
	equal.py many COUNT TEMPLATE MOUNT SEED ROUNDS OPERATIONS [OPTIONS]: that for COUNT seeds, each in a sandbox of its own
	equal.py play FILE MOUNT [OPTIONS]
	equal.py with FILE

--host: somebody writes through the mount at the same time, in a directory of its own and in one that both use.
--kill FILE: each round has somebody who dies; FILE is made with who (KILLED) and when (ms). Whoever sees it kills that one, starts
  another daemon when that one is gone then, and removes FILE.
--past: behind each round something is done to the whole of it (PAST): a snapshot, going back to one, whole or in part, a fork, a pause,
  another sandbox that begins with what there is. What comes of it is what was seen when the snapshot was taken.
--agent: the sandbox's agent dies in the end, behind the last comparison; else the sandbox is killed by the daemon.
--with AGENT: the agent of the daemon, which the plan remembers ("with FILE" says it).
--alone: nothing gets a second name. --keep: with rules of what is kept; the guest's side is what they keep.
--in ID: one round in a sandbox that is there. --scenes FILES, --flood EVENTS: one round of that (equal_guest.py).
--fault: both sides are taken to differ when two names begin with "fault"; an operation in each round makes one. Tries the shrinking.
What fails is written into BERTH_PLANS (/var/tmp), before and after it was shrunk (BERTH_SHRINK seconds at most, 60); "play" plays such a
file again, BERTH_TRIES times (1, with a host or deaths 3), and shrinks it further."""
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import shrink
from berthtest import Api, differences, fail, manifest, until

OPERATIONS = """create create create create create create append append append overwrite overwrite overwrite truncate punch mapped unlink unlink
mkdir mkdir rmdir remove_tree rename_file rename_file rename_file rename_dir rename_dir rename_dir exchange link link symlink fifo chmod chmod
utime again replace held stays many move_out move_in xattr xattr xattr_link""".split()
KILLED = ["daemon", "daemon", "daemon", "priv", "notify", "keeper"]
PAST = ["snapshot", "back", "back", "back_in_part", "fork", "pause", "begin_with", "begin_with_stored"]

# What kept() says. A file that is in both classes' reach is in the lower one.
RULES = "[names]\na\ndir/\n[none]\nb\nb?\nb??\nc/\n/a/dir\n"


def kept(path, mode):
    """The same without the code that is tried."""
    parts = os.fsdecode(bytes.fromhex(path)).split("/")
    for i, name in enumerate(parts):
        if re.fullmatch(r"b.{0,2}", name, re.S) or (name == "c" and (i + 1 < len(parts) or mode[0] == "d")):
            return False
    return parts[:2] != ["a", "dir"]


HERE = os.path.dirname(os.path.abspath(__file__))


def text(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as f:
        return f.read()


GUEST = text("equal_guest.py")


def make_plan(template, seed, rounds, count, options):
    """All that follows from the seed."""
    r = random.Random(seed)
    plan = {"template": template, "seed": seed, "rounds": []}
    for name in ("keep", "alone", "agent", "fault"):
        plan[name] = "--" + name in options
    plan["with"] = options[options.index("--with") + 1] if "--with" in options else ""
    for _ in range(rounds):
        guest = [[r.choice(OPERATIONS), r.randrange(1 << 40)] for _ in range(count)]
        if "--fault" in options:
            guest.insert(r.randrange(len(guest)), ["half_of_a_fault", r.randrange(1 << 40)])
        plan["rounds"].append({
            "guest": guest,
            "host": [r.randrange(1 << 40) for _ in range(60)] if "--host" in options else [],
            "kill": [r.choice(KILLED), r.randrange(400)] if "--kill" in options else None,
            "past": [r.choice(PAST), r.randrange(1 << 40)] if "--past" in options else None})
    if "--scenes" in options:
        plan["rounds"] = [{"guest": [["scenes", int(options[options.index("--scenes") + 1])]], "host": [], "kill": None}]
    if "--flood" in options:
        plan["rounds"].append({"guest": [["flood", int(options[options.index("--flood") + 1])]], "host": [], "kill": None})
    return plan


def sides(api, box, mnt, plan):
    """What each side shows. What is inside is looked at from outside, as its root: nothing runs there for it."""
    inside = manifest(f"/proc/{api.good('GET', f'/v1/sandboxes/{box}')['pid']}/root/workspace", attrs=True)
    if plan["keep"]:
        inside = {path: one for path, one in inside.items() if kept(path, one[0])}
    outside = manifest(mnt, attrs=True)
    if plan["fault"] and sum(os.path.basename(bytes.fromhex(p)).startswith(b"fault") for p in inside) > 1:
        outside[b"a fault".hex()] = ["that was made"]
    return inside, outside


def command(plan, one):
    return ["python3", "-IS", "-c", GUEST, "/workspace", json.dumps(one["guest"]), *["alone"] * (plan["keep"] or plan["alone"])]


def round_with_a_death(plan, box, one, please):
    """By the command line, which goes on with the next daemon."""
    with open(please + ".new", "w", encoding="utf-8") as f:
        f.write("%s %d\n" % tuple(one["kill"]))
    os.rename(please + ".new", please)
    r = subprocess.run(["berth", "run", "--user", "root", box, "--", *command(plan, one)],
                       stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300, check=False)
    until(lambda: not os.path.exists(please), 120, "no new daemon")
    if r.returncode == 125 and (b"no daemon answers" in r.stderr or b"broke off" in r.stderr):
        # It died before it said that the command runs: nobody can know. What may run comes to its end, and then once more.
        api = Api()
        until(lambda: all(p["state"] == "ended" for p in api.good("GET", f"/v1/sandboxes/{box}/processes")), 120, "it does not end")
        round_of(api, plan, box, one)
        return
    if r.returncode != 0:
        fail(f"seed {plan['seed']}: {r.returncode} {r.stderr[-2000:]}")


def round_of_a_flood(api, plan, box, one):
    """More happens than the kernel has room to tell, while the agent is stopped."""
    pid = api.good("GET", f"/v1/sandboxes/{box}")["pid"]
    api.sh(box, "mkdir /workspace/flood", user="root")
    done = f"/proc/{pid}/root/workspace/flooded"
    run = subprocess.Popen(["berth", "run", "--user", "root", box, "--", *command(plan, one)], stdin=subprocess.DEVNULL)
    try:
        until(lambda: any(GUEST[:50].encode() in cmd for cmd in commands_below(pid)), 30, "nothing runs")
        os.kill(pid, signal.SIGSTOP)
        until(lambda: os.path.exists(done) or run.poll() is not None, 60, "no flood")
    finally:
        os.kill(pid, signal.SIGCONT)
    if run.wait(120) != 0:
        fail("the flood failed")


def commands_below(pid):
    """The command lines of what an agent started."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        for child in f.read().split():
            try:
                with open(f"/proc/{child}/cmdline", "rb") as line:
                    yield line.read()
            except OSError:
                pass


def round_of(api, plan, box, one):
    answer = api.run(box, *command(plan, one), user="root", timeout_ms=900000)
    if answer["code"] != 0:
        fail(f"seed {plan['seed']}: {answer['stderr'][-2000:]}")


def quick(path, flags):
    return os.open(path, flags | os.O_NONBLOCK, 0o644)


class Writer(threading.Thread):
    """Through the mount: a directory of its own, and names that the guest may take away at any moment."""

    def __init__(self, mnt, seeds):
        super().__init__(daemon=True)
        self.mnt, self.seeds, self.going, self.did = mnt, itertools.cycle(seeds), True, 0

    def one(self):
        r = random.Random(next(self.seeds))
        at = os.path.join(self.mnt, r.choice(["host", "host", "a", "dir", "."]))
        os.makedirs(os.path.join(self.mnt, "host"), exist_ok=True)
        path = os.path.join(at, f"h{r.randrange(30)}")
        what = r.randrange(6)
        if what < 3:
            with open(path, "wb", opener=quick) as f:
                f.write(r.randbytes(r.choice([0, 10, 5000, 100000])))
        elif what == 3:
            os.unlink(path)
        elif what == 4:
            os.rename(path, path + "r")
        else:
            with open(path, "ab", opener=quick) as f:
                f.write(b"more")

    def run(self):
        while self.going:
            try:
                self.one()
                self.did += 1
            except OSError:
                pass


def play_round(api, plan, box, mnt, one, please):
    """Return: what the host did; the API, which may be another daemon's."""
    writer = Writer(mnt, one["host"]) if one["host"] else None
    try:
        if writer:
            writer.start()
        if one["guest"] and one["guest"][0][0] == "flood":
            round_of_a_flood(api, plan, box, one)
        elif one["kill"]:
            round_with_a_death(plan, box, one, please)
            api = Api()
        else:
            round_of(api, plan, box, one)
    finally:
        if writer:
            writer.going = False
            writer.join()
    return writer.did if writer else 0, api


def end(api, plan, box):
    if not plan["agent"]:
        api.good("POST", f"/v1/sandboxes/{box}/kill", {"grace_ms": 0})
        return
    os.kill(api.good("GET", f"/v1/sandboxes/{box}")["pid"], signal.SIGKILL)
    until(lambda: api.good("GET", f"/v1/sandboxes/{box}")["state"] not in ("running", "stopping"), 60, "the death of an agent is not seen")


def compared(api, box, mnt, plan):
    """Return: what is inside; what differs, None."""
    inside, outside = sides(api, box, mnt, plan)
    if inside == outside:
        return inside, None
    found = differences(inside, outside)
    again = sides(api, box, mnt, plan)
    return inside, found + ["a moment later they are equal" if again[0] == again[1] else "and so a moment later"]


class Past:
    """Snapshots of a workspace that came from another one go on with it; each with what was seen when it was taken."""

    def __init__(self, mount, plan):
        self.mount, self.plan, self.kept = mount, plan, {}

    def snapshot(self, api, box, inside, r):
        name = f"s{len(self.kept)}"
        api.good("POST", f"/v1/sandboxes/{box}/snapshots", {"name": name, "freeze": r.random() < .5})
        self.kept[name] = inside
        return box, inside

    def back(self, api, box, inside, r):
        name = r.choice(sorted(self.kept)) if self.kept else None
        if not name:
            return self.snapshot(api, box, inside, r)
        api.good("POST", f"/v1/sandboxes/{box}/restore", {"snapshot": name, "keep": r.random() < .5})
        return box, self.kept[name]

    def back_in_part(self, api, box, inside, r):
        names = sorted(n for n in self.kept if any(self.kept[n].get(p, [""])[0][:1] == "d" for p in inside if p != b".".hex()))
        if not names:
            return self.snapshot(api, box, inside, r)
        name = r.choice(names)
        path = r.choice(sorted(p for p in inside if self.kept[name].get(p, [""])[0][:1] == "d" and p != b".".hex()))
        status, answer = api.call("POST", f"/v1/sandboxes/{box}/restore", {"snapshot": name, "path_hex": path, "keep": False})
        if status >= 400 and answer["error"]["slug"] not in ("no-such-path",):
            fail(f"restore of a part: {answer}")
        return box, None

    def fork(self, api, box, inside, r):
        name = r.choice(sorted(self.kept)) if self.kept and r.random() < .5 else None
        other = api.good("POST", f"/v1/sandboxes/{box}/fork", {"snapshot": name} if name else {})[0]["id"]
        want, got = unlinked(self.kept[name] if name else inside), unlinked(manifest(f"{self.mount}/{other}", attrs=True))
        api.good("DELETE", f"/v1/sandboxes/{other}")
        return box, None if want == got else {"a fork".hex(): differences(want, got)}

    def pause(self, api, box, inside, r):
        api.good("POST", f"/v1/sandboxes/{box}/pause")
        seen = manifest(f"{self.mount}/{box}", attrs=True)
        api.good("POST", f"/v1/sandboxes/{box}/resume", {})
        return box, seen

    def begin_with(self, api, box, inside, r, stored=False):
        state = box
        if stored:
            api.good("POST", f"/v1/sandboxes/{box}/kill", {"grace_ms": 0})
        other = api.good("POST", "/v1/sandboxes", {"template": self.plan["template"], "from": state, "no_wait": False})["id"]
        remove(api, box)
        self.kept = {}
        return other, inside

    def begin_with_stored(self, api, box, inside, r):
        return self.begin_with(api, box, inside, r, True)

    def one(self, api, box, what, inside):
        """Return: the sandbox that it is now; what it has to be equal to, None: only both sides to each other."""
        return getattr(self, what[0])(api, box, inside, random.Random(what[1]))


def unlinked(seen):
    """Without how many directories are in one, which a tree does not tell."""
    return {path: [v for i, v in enumerate(one) if not (one[0][0] == "d" and i == 2)] for path, one in seen.items()}


def remove(api, box):
    api.call("POST", f"/v1/sandboxes/{box}/kill", {"grace_ms": 0})
    api.good("DELETE", f"/v1/sandboxes/{box}")


def after_a_round(api, past, box, inside, one):
    """Return: the sandbox; what is inside; what differs, None."""
    box, want = past.one(api, box, one["past"], inside)
    inside, found = compared(api, box, f"{past.mount}/{box}", past.plan)
    if not found and want is not None and unlinked(inside) != unlinked(want):
        found = [f"behind {one['past'][0]}, against what was to be"] + differences(unlinked(inside), unlinked(want))
    return box, inside, found


def play(plan, mount, please, tell=True):
    """Return: what differs, and in which round; or None."""
    api = Api()
    box = api.good("POST", "/v1/sandboxes", {"template": plan["template"], "keep": RULES if plan["keep"] else ""})["id"]
    past, inside, did = Past(mount, plan), {}, 0
    try:
        for k, one in enumerate(plan["rounds"]):
            did, api = play_round(api, plan, box, f"{mount}/{box}", one, please)
            inside, found = compared(api, box, f"{mount}/{box}", plan)
            if not found and one.get("past"):
                box, inside, found = after_a_round(api, past, box, inside, one)
            if found:
                return found, k
        if tell:
            print(f"seed {plan['seed']}: {len(plan['rounds'])} rounds, {sum(len(one['guest']) for one in plan['rounds'])} operations, "
                  f"{len(inside)} names at the end" + (f", {did} changes of the host in the last" if did else ""), flush=True)
        end(Api(), plan, box)  # the one there was may have been idle for too long
        after = manifest(f"{mount}/{box}", attrs=True)
        return (differences(inside, after), "the end") if inside and after != inside else None
    finally:
        remove(Api(), box)


def write_plan(plan, name):
    path = os.path.join(os.environ.get("BERTH_PLANS", "/var/tmp"), name)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(plan, f)
    return path


def shrunk(plan, mount, please):
    """Say the smallest part that still differs."""
    until_when = time.monotonic() + float(os.environ.get("BERTH_SHRINK", "60"))
    played = 0

    def fails(trial):
        nonlocal played
        random_too = any(one["host"] or one["kill"] for one in trial["rounds"])
        for _ in range(int(os.environ.get("BERTH_TRIES", "3" if random_too else "1"))):
            if time.monotonic() > until_when:
                return False
            played += 1
            if play(trial, mount, please, False):
                return True
        return False

    name = f"equal-{plan['seed']}-shrunk.json"
    small = shrink.shrink(plan, fails, lambda plan: write_plan(plan, name))
    print(f"shrunk to {shrink.size(small)} of {shrink.size(plan)} operations after {played} plays: {write_plan(small, name)}")
    if shrink.size(small) <= 20:
        print(json.dumps(small))


def main(argv):
    if argv == ["rules"]:
        sys.stdout.write(RULES)
        return 0
    if argv[0] == "with":
        with open(argv[1], encoding="utf-8") as f:
            print(json.load(f).get("with", ""))
        return 0
    please = argv[argv.index("--kill") + 1] if "--kill" in argv else None
    if argv[0] == "many":
        for i in range(int(argv[1])):
            seed = int(argv[4]) + i
            if played(make_plan(argv[2], seed, int(argv[5]), int(argv[6]), argv[7:]), argv[3], please):
                return 1
        return 0
    if argv[0] == "play":
        mount = argv[2]
        with open(argv[1], encoding="utf-8") as f:
            plan = json.load(f)
    else:
        mount = argv[1]
        plan = make_plan(argv[0], *map(int, argv[2:5]), argv[5:])
    if "--in" in argv:
        box = argv[argv.index("--in") + 1]
        play_round(Api(), plan, box, f"{mount}/{box}", plan["rounds"][0], please)
        found = compared(Api(), box, f"{mount}/{box}", plan)[1]
        if found:
            print(f"seed {plan['seed']}: differs (inside / outside):", *found, sep="\n")
        return bool(found)
    return played(plan, mount, please)


def played(plan, mount, please):
    found = play(plan, mount, please)
    if not found:
        return 0
    print(f"seed {plan['seed']}: differs in round {found[1]} (inside / outside):", *found[0], sep="\n", flush=True)
    print("the plan:", write_plan(plan, f"equal-{plan['seed']}.json"), flush=True)
    shrunk(plan, mount, please)
    print(f"seed {plan['seed']}: differed in round {found[1]} of {len(plan['rounds'])}, {list(found[0])[-1]}:", *list(found[0])[:4],
          sep="\n", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
