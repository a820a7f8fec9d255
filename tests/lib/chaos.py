# SPDX-License-Identifier: Apache-2.0
"""The plan of tests/flow/chaos.sh: chaos.py SEED KILLS BERTHD ARGUMENTS... Everything random comes from the seed. Each turn
begins some actions, kills one process a moment later, lets the actions end as they may, starts a daemon when there is none,
and looks at everything."""
import collections
import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time

from berthtest import Api, until

STATE, MNT, LOG = os.environ["STATE"], os.environ["MNT"], os.environ["LOG"]
SEED, KILLS, ARGV = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
BOXES_MAX = 4
# How often which process; a victim that is not there at that moment is replaced by the daemon.
VICTIMS = ["daemon"] * 5 + ["priv"] * 4 + ["maker"] * 2 + ["keeper"] * 2 + ["notify"] + ["agent"] * 4 + ["crun"] * 4 + \
    ["copier"] * 2
# What is done to sandboxes. A new verb needs a function "do_VERB" and its row here.
VERBS = ["create"] * 4 + ["run"] * 5 + ["write"] * 3 + ["pause"] * 2 + ["resume"] * 3 + ["kill"] * 2 + ["remove"] * 2 + \
    ["snapshot"] * 3 + ["fork"] * 2 + ["begin"] * 2 + ["restore"] * 2 + ["gc"] * 2 + \
    ["whole"] * 4 + ["spawn"] * 3 + ["copy"] * 3 + ["rest"] * 3 + ["forget"]


def comm(pid):
    try:
        return open(f"/proc/{pid}/comm").read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def state_of(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def parent(pid):
    try:
        return int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def lives(pid):
    return state_of(pid) not in "XZ"


def ours():
    """Processes of this state directory by name."""
    found = collections.defaultdict(list)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if STATE.encode() in open(f"/proc/{pid}/cmdline", "rb").read():
                found[comm(pid)].append(int(pid))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


class Chaos:
    def __init__(self):
        self.rnd = random.Random(SEED)
        self.daemon = None
        self.acked = collections.defaultdict(set)  # sandbox -> lines that a command has said it wrote
        self.outside = collections.defaultdict(set)  # the same, in a file outside of /workspace
        self.snapshots = collections.defaultdict(dict)  # sandbox -> name -> lines that must be in it
        self.whole = {}  # "sandbox:name" of a whole one -> lines, and those outside
        self.doomed = set()
        self.problems, self.killed, self.seen = [], collections.Counter(), collections.Counter()
        self.ends = collections.Counter()
        self.n = 0
        self.starts, self.stop = [], False
        self.reads = self.stall = 0
        self.what = ''

    def problem(self, words):
        self.problems.append(words)
        print(f"FAILED: turn {self.n}: {words}", flush=True)

    # --- the daemon

    def start(self):
        at = time.monotonic()
        with open(LOG, "ab") as log:
            self.daemon = subprocess.Popen(ARGV, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(lambda: self.daemon.poll() is not None or self.healthy(), 60, "the daemon does not answer")
        if self.daemon.poll() is not None:
            self.problem(f"the daemon does not start ({self.daemon.returncode}): {open(LOG).read().splitlines()[-3:]}")
            sys.exit(1)
        self.starts.append(time.monotonic() - at)
        if self.starts[-1] > 5:
            print(f"turn {self.n}: a start took {self.starts[-1]:.1f} s:", *open(LOG).read().splitlines()[-6:], sep="\n  ")

    def healthy(self):
        try:
            return Api().call("GET", "/health")[0] == 200
        except OSError:
            return False

    def boxes(self):
        return {s["id"]: s for s in Api().good("GET", "/v1/sandboxes?all=1")}

    # --- what is done; it may fail when something dies meanwhile

    def pick(self, boxes, *states):
        ids = sorted(i for i, s in boxes.items() if s["state"] in states)
        return self.rnd.choice(ids) if ids else None

    def plan(self, boxes):
        verb = self.rnd.choice(VERBS)
        want = {"run": ["running"], "write": ["running"], "pause": ["running"], "resume": ["paused"],
                "kill": ["running", "paused"], "remove": ["stopped", "failed"], "snapshot": ["running", "paused", "stopped", "failed"],
                "fork": ["running", "paused", "stopped"], "begin": ["running", "paused", "stopped"],
                "restore": ["running", "stopped"], "whole": ["running", "paused"], "copy": ["running"], "rest": ["running"]}.get(verb)
        room = len([s for s in boxes.values() if s["state"] != "removed"]) < BOXES_MAX
        if verb in ("fork", "begin", "copy") and not room:
            verb, want = "snapshot", ["running", "paused", "stopped"]
        if verb == "gc" or (verb in ("spawn", "forget") and self.whole and (room or verb == "forget")):
            return verb, None, self.rnd.random()
        if want is None:
            return ("create", None, self.rnd.random()) if room else \
                ("remove", self.pick(boxes, "stopped", "failed") or self.pick(boxes, "running", "paused"), self.rnd.random())
        box = self.pick(boxes, *want)
        return (verb, box, self.rnd.random()) if box else ("create", None, self.rnd.random()) if room else None

    def act(self, verb, box, number):
        try:
            getattr(self, f"do_{verb}")(box, number)
            self.ends[f"{verb} done"] += 1
        except (OSError, AssertionError, KeyError, ValueError, SystemExit, subprocess.SubprocessError) as e:
            self.ends[f"{verb} failed"] += 1
            self.last = e

    def promise(self, box, what):
        if box not in self.going_back:
            self.acked[box].add(what)

    def lines_of(self, box):
        return set() if box in self.going_back else {a for a in self.acked[box] if not a.startswith("mount ")}

    def do_create(self, _, number):
        Api().good("POST", "/v1/sandboxes", {"template": "base", "name": f"n{int(number * 1e6)}"})

    def do_run(self, box, _):
        line = f"{self.n}-{threading.get_ident()}"
        r = subprocess.run(["berth", "run", box, "--", "sh", "-c", f"echo {line} >>log; echo {line} >>~/log"], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=90)
        if r.returncode != 0:
            raise ValueError(r.returncode)
        self.promise(box, line)
        self.outside[box].add(line)

    def do_write(self, box, number):
        path = f"{MNT}/{box}/h{int(number * 1e6)}"
        os.mkdir(path)
        with open(f"{path}/x", "x") as f:
            f.write("written\n")
        os.rename(f"{path}/x", f"{path}/y")
        assert open(f"{path}/y").read() == "written\n"
        self.promise(box, f"mount {path}/y")

    def do_snapshot(self, box, number):
        known, name = self.lines_of(box), f"s{int(number * 1e6)}"
        Api().good("POST", f"/v1/sandboxes/{box}/snapshots", {"name": name, "freeze": number < 0.8})
        self.snapshots[box][name] = known

    def do_fork(self, box, _):
        known = self.lines_of(box)
        for f in Api().good("POST", f"/v1/sandboxes/{box}/fork", {}):
            self.acked[f["id"]] |= known

    def do_begin(self, box, number):
        # Of two with the same files the second makes a base of them, and begins with a copy.
        for _ in range(1 if number < 0.4 else 2):
            known = self.lines_of(box)
            self.acked[Api().good("POST", "/v1/sandboxes", {"from": box})["id"]] |= known

    def do_restore(self, box, number):
        names = sorted(self.snapshots[box])
        if not names:
            raise ValueError("no snapshot")
        name = names[int(number * len(names))]
        self.acked[box].clear()  # what a restore was about to take back is promised no longer, done or not
        Api().good("POST", f"/v1/sandboxes/{box}/restore", {"snapshot": name, "keep": number < 0.5})
        self.acked[box] |= self.snapshots[box][name]

    def do_whole(self, box, number):
        known, out, name = self.lines_of(box), set(self.outside[box]), f"w{int(number * 1e6)}"
        snap = Api().good("POST", f"/sandboxes/{box}/snapshots", {"name": name})["snapshotID"]
        if box not in self.doomed:
            self.whole[snap] = known, out
            self.snapshots[box][name] = known

    def which(self, number):
        names = sorted(self.whole)
        if not names:
            raise ValueError("no snapshot")
        return names[int(number * len(names))]

    def do_spawn(self, _, number):
        snap = self.which(number)
        lines, out = self.whole[snap]
        new = Api().good("POST", "/v2/sandboxes", {"templateID": snap, "timeout": 3600})["sandboxID"]
        self.acked[new] |= lines
        self.outside[new] |= out

    def do_forget(self, _, number):
        snap = self.which(number)
        del self.whole[snap]
        box, name = snap.split(":")
        self.snapshots[box].pop(name, None)
        Api().good("DELETE", f"/templates/{snap}")

    def do_copy(self, box, number):
        known, out = self.lines_of(box), set(self.outside[box])
        for f in Api().good("POST", f"/sandboxes/{box}/fork", {"count": 1 + int(number * 2), "timeout": 3600}):
            if "sandbox" in f:
                self.acked[f["sandbox"]["sandboxID"]] |= known
                self.outside[f["sandbox"]["sandboxID"]] |= out

    def do_rest(self, box, _):
        Api().good("POST", f"/v1/sandboxes/{box}/pause", {"memory": False})

    def do_gc(self, *_):
        Api().good("POST", "/v1/gc")

    def do_pause(self, box, _):
        Api().good("POST", f"/v1/sandboxes/{box}/pause")

    def do_resume(self, box, _):
        Api().good("POST", f"/v1/sandboxes/{box}/resume")

    def do_kill(self, box, _):
        Api().good("POST", f"/v1/sandboxes/{box}/kill", {"grace_ms": 0})

    def do_remove(self, box, number):
        if self.boxes()[box]["state"] in ("running", "paused"):
            self.do_kill(box, 0)
        self.snapshots.pop(box, None)
        if number < 0.5:
            self.whole = {s: v for s, v in self.whole.items() if not s.startswith(f"{box}:")}
        Api().good("DELETE", f"/v1/sandboxes/{box}" + ("?snapshots=1" if number < 0.5 else ""))
        self.acked.pop(box, None)

    # --- the killing

    def victim(self, boxes):
        kind = self.rnd.choice(VICTIMS)
        which = self.rnd.random()
        found = ours()
        pids = {"priv": [p for p in found["berth-priv"] if parent(p) == self.daemon.pid],
                "maker": [p for p in found["berth-priv"] if parent(p) != self.daemon.pid], "keeper": found["berth-keeper"], "notify": found["berth-notify"],
                "agent": [s["pid"] for s in boxes.values() if s.get("pid")], "crun": found["crun"],
                "copier": found["berth-layer"] + found["berth-base"]}.get(kind, [])
        end = time.monotonic() + 0.1
        while kind in ("crun", "maker", "copier") and not pids and time.monotonic() < end:  # they live for some milliseconds
            found = ours()
            pids = found["crun"] if kind == "crun" else found["berth-layer"] + found["berth-base"] if kind == "copier" else \
                [p for p in found["berth-priv"] if parent(p) != self.daemon.pid]
        if not pids:
            return "daemon", self.daemon.pid
        return kind, sorted(pids)[int(which * len(pids))]

    def kill(self, kind, pid):
        try:
            os.kill(pid, signal.SIGKILL)
            self.killed[kind] += 1
        except ProcessLookupError:
            self.killed["(gone already)"] += 1
        if kind == "agent":
            until(lambda: not lives(pid), 30, "an agent does not die")
        if kind in ("daemon", "priv"):
            try:
                self.daemon.wait(30)
            except subprocess.TimeoutExpired:
                waits = collections.Counter(open(f"/proc/{self.daemon.pid}/task/{t}/wchan").read() for t in
                                            os.listdir(f"/proc/{self.daemon.pid}/task"))
                self.problem(f"the daemon does not end after the death of {kind}: {dict(waits)}")
                self.daemon.kill()
                self.daemon.wait()

    # --- the looking

    def settle(self):
        if self.daemon.poll() is not None:
            self.start()
        if self.killed and "keeper" in self.killed:
            until(lambda: self.keeper_lives() or self.daemon.poll() is not None, 20, "no keeper")
        between = ("creating", "pausing", "resuming", "stopping")
        until(lambda: not [s for s in self.boxes().values() if s["state"] in between], 60, f"no rest: {self.boxes()}")

    def keeper_lives(self):
        try:
            return lives(int(open(f"{STATE}/keeper/pid").read()))
        except (FileNotFoundError, ValueError):
            return False

    def look(self):
        """A process that is about to die is noticed soon, not at once: look until it is right."""
        wrong = []
        for _ in range(100):
            wrong = self.wrong()
            if not wrong:
                break
            time.sleep(0.1)
        for words in wrong:
            self.problem(words)

    def wrong(self):
        boxes, wrong = self.boxes(), []
        lies = {i for i, s in boxes.items() if s["state"] == "paused" and not s["memory"]}
        alive = {i for i, s in boxes.items() if s["state"] in ("running", "paused")} - lies
        for s in boxes.values():
            if s["id"] in alive and not lives(s["pid"]):
                wrong.append(f"{s['id']} is {s['state']}, but its agent is dead")
            if s["state"] == "failed" and not s["why"]:
                wrong.append(f"{s['id']} failed without a reason")
            if s["state"] == "removed" and not Api().good("GET", f"/v1/sandboxes/{s['id']}/snapshots"):
                wrong.append(f"{s['id']} is removed, and has no snapshot")
        wrong += self.left(boxes, alive, lies)
        files = [f for f in os.listdir(f"{STATE}/layers") if f[0] != "."]
        layers = Api().good("GET", "/v1/df")["layers"]["n"]
        if len(files) != layers:
            wrong.append(f"{layers} snapshots have layers, and there are {len(files)}")
        return wrong

    def left(self, boxes, alive, lies):
        wrong = []
        for box in os.listdir(f"{STATE}/boxes"):
            if box in lies and sorted(os.listdir(f"{STATE}/boxes/{box}")) == ["root.img", "ws.img"]:
                continue
            if box[0] != "." and box not in alive and not (box in boxes and os.listdir(f"{STATE}/boxes/{box}") == ["ws.img"]):
                wrong.append(f"boxes/{box} is left: {os.listdir(f'{STATE}/boxes/{box}')}")
        wrong += [f"bases/{b} is left" for b in os.listdir(f"{STATE}/bases") if b.startswith(".laid-") and not boxes.get(b[6:])]
        wrong += [f"crun/{box} is left" for box in os.listdir(f"{STATE}/crun") if box not in alive]
        wrong += [f"store/ws/{box} is left" for box in os.listdir(f"{STATE}/store/ws")
                  if box not in boxes and not box.startswith(".view-")]
        loops = subprocess.run(["losetup", "-n", "-O", "BACK-FILE"], stdout=subprocess.PIPE, text=True).stdout
        for line in loops.splitlines():
            if line.strip().startswith(f"{STATE}/boxes/") and line.strip()[len(STATE) + 7:].split("/")[0] not in alive:
                wrong.append(f"a loop device of {line.strip()} is left")
        for line in open("/proc/self/mountinfo"):
            at = line.split()[4]
            if at.startswith(f"{STATE}/") and at not in (MNT, f"{MNT}/by-name"):
                wrong.append(f"a mount is left: {at}")
        st = os.stat(STATE)
        name = f"berth-{st.st_dev:x}-{st.st_ino:x}"
        for top in ["/sys/fs/cgroup"] + [f"/sys/fs/cgroup/{d}" for d in os.listdir("/sys/fs/cgroup")]:
            if os.path.isdir(f"{top}/{name}"):
                for d in os.listdir(f"{top}/{name}"):
                    if os.path.isdir(f"{top}/{name}/{d}") and d not in alive:
                        wrong.append(f"group {top}/{name}/{d} is left")
        found = ours()
        for kind, most in (("berth-priv", 1), ("berth-keeper", 1), ("berth-notify", 1)):
            # A child of the privileged process has its name; one whose parent is gone must not stay.
            mine = [p for p in found[kind] if lives(p) and (kind != "berth-priv" or parent(p) in (1, self.daemon.pid))]
            if len(mine) > most:
                wrong.append(f"{kind}: {found[kind]}")
        return wrong

    def use(self):
        """What is said to run, runs; what was said to be done, is there."""
        for i, s in sorted(self.boxes().items()):
            self.seen[s["state"]] += 1
            if s["state"] in ("failed", "removed"):
                continue
            if s["state"] == "running":
                r = subprocess.run(["berth", "run", i, "--", "sh", "-c", "cat log 2>/dev/null; echo out; cat ~/log 2>/dev/null; echo end"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=90,
                                   stdin=subprocess.DEVNULL)
                if r.returncode != 0 or not r.stdout.endswith("end\n"):
                    if self.is_over(i):
                        continue
                    self.problem(f"{i} is running and runs nothing: {r.returncode} {r.stderr}")
                    continue
                words = r.stdout.split()[:-1]
                self.same(i, words[:words.index("out")])
                lost = self.outside[i] - set(words[words.index("out"):])
                if lost:
                    self.problem(f"{i}: lost lines outside of its workspace: {sorted(lost)}")
            self.compare(i)
            self.compare_past(i)
        for snap in sorted(self.whole):
            box, name = snap.split(":")
            if not Api().good("GET", f"/snapshots?sandboxID={box}&name={name}"):
                self.problem(f"the snapshot {snap} is not there any more")

    def compare_past(self, box):
        for name, lines in sorted(self.snapshots[box].items()):
            try:
                there = set(open(f"{MNT}/{box}/.berth/snapshots/{name}/log").read().split()) if lines else set()
            except OSError as e:
                there = set()
                self.problem(f"{box}@{name}: log: {e}")
            if lines - there:
                self.problem(f"{box}@{name}: lost lines {sorted(lines - there)}")

    def is_over(self, box):
        """Its agent was killed a moment ago: the daemon was about to notice."""
        for _ in range(50):
            if self.boxes()[box]["state"] != "running":
                return True
            time.sleep(0.02)
        return False

    def same(self, box, inside):
        try:
            outside = open(f"{MNT}/{box}/log").read().split()
        except FileNotFoundError:
            outside = []
        if inside != outside:
            self.problem(f"{box}: the log inside has {len(inside)} lines, on the mount {len(outside)}")

    def compare(self, box):
        lines = {a for a in self.acked[box] if not a.startswith("mount ")}
        try:
            there = set(open(f"{MNT}/{box}/log").read().split()) if lines else set()
        except OSError as e:
            there = set()
            self.problem(f"{box}: log: {e}")
        if lines - there:
            self.problem(f"{box}: lost lines {sorted(lines - there)}")
        for a in self.acked[box] - lines:
            try:
                if open(a[6:]).read() != "written\n":
                    self.problem(f"{a}: other content")
            except OSError as e:
                self.problem(f"{a}: {e}")

    def reader(self):
        """Somebody who looks at everything all the time and must never be told that the mount is gone."""
        fine = (errno.ENOENT, errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EBUSY, errno.EPIPE)
        while not self.stop:
            at = time.monotonic()
            try:
                for top, _, files in os.walk(MNT, onerror=self.walk_error):
                    for f in files:
                        with open(os.path.join(top, f), "rb") as g:
                            g.read()
                        self.reads += 1
            except OSError as e:
                if e.errno not in fine:
                    self.problem(f"a reader: {e!r}")
                    return
            self.stall = max(self.stall, time.monotonic() - at)
            time.sleep(0.002)

    def walk_error(self, e):
        if e.errno in (errno.ENOTCONN, errno.ECONNABORTED):
            raise e

    # --- all of it

    def turn(self):
        self.n += 1
        boxes = self.boxes()
        plans = [p for p in (self.plan(boxes) for _ in range(self.rnd.randrange(1, 4))) if p and (p[0] in ("create", "gc", "spawn", "forget") or p[1])]
        # What else is done to a sandbox that goes back at the same moment is taken back or not: nothing is promised of it.
        self.going_back = {p[1] for p in plans if p[0] == "restore"}
        self.doomed = {p[1] for p in plans if p[0] == "remove"}
        threads = [threading.Thread(target=self.act, args=p) for p in plans]
        delay = self.rnd.choice([0, 0.003, 0.01, 0.02, 0.04, 0.08, 0.15]) * (0.5 + self.rnd.random())
        for t in threads:
            t.start()
        time.sleep(delay)
        kind, pid = self.victim(boxes)
        self.kill(kind, pid)
        self.what = f"{kind} {pid} after {delay * 1000:.0f} ms in {[p[0] for p in plans]}"
        if self.daemon.poll() is not None:
            self.start()
        for t in threads:
            t.join(120)
            if t.is_alive():
                self.problem("an action has no end")
        self.settle()
        self.look()
        self.use()
        if self.daemon.poll() is not None:
            self.problem("the daemon has ended by itself")
            self.start()

    def run(self):
        self.start()
        watcher = threading.Thread(target=self.reader, daemon=True)
        watcher.start()
        while self.n < KILLS and not self.problems:
            self.turn()
            if self.problems:
                print("the kill:", self.what, flush=True)
            if self.n % 25 == 0:
                print(f"{self.n} kills", flush=True)
        self.stop = True
        watcher.join(60)
        self.finish()
        print("killed:", dict(self.killed), "states seen after:", dict(self.seen))
        print("actions:", dict(sorted(self.ends.items())))
        starts = sorted(self.starts[1:]) or [0]
        print(f"starts: {len(starts)}, p50 {starts[len(starts) // 2] * 1000:.0f} ms, most {starts[-1] * 1000:.0f} ms;"
              f" a reader read {self.reads} files, longest look at all {self.stall * 1000:.0f} ms")
        return 1 if self.problems else 0

    def finish(self):
        if os.environ.get("KEEP") == "1" and self.problems:
            return
        fsck = subprocess.run(["berth", "fsck"], stdout=subprocess.PIPE, text=True)
        if fsck.returncode != 0:
            self.problem(f"fsck: {fsck.stdout}")
        for i, s in self.boxes().items():
            if s["state"] in ("running", "paused"):
                Api().call("POST", f"/v1/sandboxes/{i}/kill", {"grace_ms": 0})
            Api().call("DELETE", f"/v1/sandboxes/{i}?snapshots=1")
        left = self.boxes() or [f for f in os.listdir(f"{STATE}/layers") if f[0] != "."] or os.listdir(f"{MNT}/by-name") or [b for b in os.listdir(f"{STATE}/boxes") if b[0] != "."]
        if left:
            self.problem(f"not removed: {left}")
        self.daemon.terminate()
        if self.daemon.wait(60) != 0:
            self.problem(f"the daemon ended with {self.daemon.returncode}")


if __name__ == "__main__":
    sys.exit(Chaos().run())
