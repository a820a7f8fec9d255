#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Snapshots, forks, differences, going back, and sandboxes that begin with stored files, for ten thousand and a hundred thousand
files; beside cp -a, rsync and tar on a plain directory. One part of tests/bench/run. Times are those of the call as a client sees it."""
import os
import shutil
import time

from bench import GIB, TOP, note, report, sh, spent

MAKE = """
import os, sys
for d in range(int(sys.argv[1]) // 100):
    at = f"/workspace/t/{d // 100}/{d}"
    os.makedirs(at)
    for f in range(100):
        with open(f"{at}/{f}", "w") as o:
            o.write(f"{d} {f}\\n" * 20)
"""
AGAIN = 20


def one(make_box, api, files):
    box = make_box(workspace_b=3 * GIB)
    at = f"/v1/sandboxes/{box.id}"
    tail = f"_{files // 1000}k"
    n = [0]

    def snapshot(freeze=True):
        n[0] += 1
        api.good("POST", at + "/snapshots", {"name": f"s{n[0]}", "freeze": freeze})

    def change():
        box.run("sh", "-c", f"echo {n[0]} > /workspace/t/0/0/0")

    def changed(which):
        change()
        return spent(which)

    note(f"{files} files")
    box.run("python3", "-c", MAKE, str(files))
    box.sync()
    report("snapshot_live_first" + tail, "-", "ms", [spent(snapshot)], words="every directory is built")
    report("snapshot_live_one_changed" + tail, "-", "ms", [changed(snapshot) for _ in range(AGAIN)], with_p99=True,
           words="workload frozen, drained, sealed, recorded")
    report("snapshot_live_no_freeze" + tail, "-", "ms", [changed(lambda: snapshot(False)) for _ in range(AGAIN)], with_p99=True)
    # what differs, and going back, while it runs
    diff = [spent(lambda: api.good("GET", f"/v1/diff?from={box.id}@s1&to={box.id}@s2")) for _ in range(AGAIN)]
    report("diff_one_changed" + tail, "what differs", "ms", diff, with_p99=True)
    report("restore_live_one_changed" + tail, "what differs", "ms",
           [changed(lambda: api.good("POST", at + "/restore", {"snapshot": "s2", "keep": False})) for _ in range(5)])
    api.good("POST", at + "/kill", {"grace_ms": 0})
    report("snapshot_stopped" + tail, "5", "ms", [spent(snapshot) for _ in range(AGAIN)], with_p99=True)
    # the peer's copy is made from the mount, so both have the same files
    plain = f"{TOP}/plain"
    sh("cp", "-a", f"{box.mnt}/t", plain)
    copies = [spent(lambda k=k: sh("cp", "-a", plain, f"{plain}-{k}")) for k in range(3)]
    dry = [spent(lambda: sh("rsync", "-an", "--delete", plain + "/", plain + "-0/")) for _ in range(3)]
    forks, api = [], type(api)()  # the connection was idle for long

    def fork(count=1):
        forks.extend(f["id"] for f in api.good("POST", at + "/fork", {"count": count, "snapshot": "s1"}))

    report("fork_stored" + tail, "20", "ms", [spent(fork) for _ in range(AGAIN)], "cp -a", copies, with_p99=True)
    report("fork_stored_20" + tail, "-", "ms", [spent(fork, 20)], "cp -a, one", copies)
    report("diff_of_forks" + tail, "what differs", "ms",
           [spent(lambda: api.good("GET", f"/v1/diff?from={forks[0]}&to={forks[1]}")) for _ in range(AGAIN)], "rsync -an --delete", dry)
    mount = os.path.dirname(box.mnt)
    report("find_in_a_fork_fresh" + tail, "-", "ms", [spent(lambda: sh("find", f"{mount}/{forks[0]}", "-type", "f"))], "find, plain",
           [spent(lambda: sh("find", plain, "-type", "f")) for _ in range(3)], words="each directory is unpacked once")
    report("find_in_a_fork_again" + tail, "-", "ms", [spent(lambda: sh("find", f"{mount}/{forks[0]}", "-type", "f")) for _ in range(3)])
    # one more sandbox on the same files
    archive = f"{TOP}/plain.tar"
    sh("tar", "-C", plain, "-cf", archive, ".")

    def untar():
        os.mkdir(f"{plain}-x")
        t = spent(lambda: sh("tar", "-C", f"{plain}-x", "-xf", archive))
        shutil.rmtree(f"{plain}-x")
        return t

    again = []

    def begin():
        again.append(api.good("POST", "/v1/sandboxes", {"from": f"{box.id}@s1"})["id"])

    empty = []

    def begin_empty():
        empty.append(api.good("POST", "/v1/sandboxes", {"template": "base", "workspace_b": 3 * GIB})["id"])

    whole, bare, peer = [spent(begin) for _ in range(3)], [spent(begin_empty) for _ in range(3)], [untar() for _ in range(3)]
    rates = [files / max(t - min(bare), 1) * 1000 for t in whole]
    report("create_from" + tail, ">= 20000", "files/s", rates, "tar -x on the host", [files / t * 1000 for t in peer],
           words="until commands can be run and the mount shows it, less an empty create")
    for box_id in again + empty:
        api.good("POST", f"/v1/sandboxes/{box_id}/kill", {"grace_ms": 0})
    for box_id in again + empty + forks + [box.id]:
        api.good("DELETE", f"/v1/sandboxes/{box_id}")
    for name in os.listdir(TOP):
        if name.startswith("plain"):
            path = f"{TOP}/{name}"
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def bench_past(box, _peer):
    from berthtest import Api
    api = Api()
    api.good("POST", f"/v1/sandboxes/{box.id}/sync")
    one(type(box), api, 10_000)
    one(type(box), api, 100_000)


def stored(part=""):
    """KiB of the disk that the store takes, or a part of it."""
    return int(sh("du", "-sk", os.environ["STATE"] + "/store" + part).split()[0])


def bench_share(box, _peer):
    """A workspace with the packages of a program, twenty forks of it, and the same packages brought again by another sandbox."""
    from berthtest import Api
    from engine import npm_tree
    api = Api()
    note("what twenty forks take in the store")
    if not npm_tree(f"{TOP}/share"):
        return
    sh("sh", "-c", f"cd {TOP}/share/app && npm ci --offline --no-audit --no-fund --ignore-scripts --cache {TOP}/share/cache")
    sh("tar", "-C", f"{TOP}/share/app", "-cf", f"{TOP}/share.tar", "node_modules")
    api.good("POST", f"/v1/sandboxes/{box.id}/sync")

    def brought():
        b = type(box)(workspace_b=3 * GIB)
        with open(f"{TOP}/share.tar", "rb") as packages:
            sh("berth", "run", b.id, "--", "tar", "-x", stdin=packages)
        b.sync()
        api.good("POST", f"/v1/sandboxes/{b.id}/kill", {"grace_ms": 0})
        sh("berth", "gc")
        return b

    before = stored()
    first = brought()
    one = stored() - before
    files = int(sh("sh", "-c", f"find {first.mnt} -type f | wc -l"))
    forks = [f["id"] for f in api.good("POST", f"/v1/sandboxes/{first.id}/fork", {"count": 20})]
    all_20 = stored() - before
    mount = os.path.dirname(first.mnt)
    sh("find", *(f"{mount}/{f}" for f in forks), "-type", "f")
    walked = stored() - before
    contents = stored("/content")
    second = brought()
    contents = stored("/content") - contents
    report("forks_20_stored", "<= 1.1", "MiB", [all_20 / 1024], "one", [one / 1024], words=f"node_modules of {files} files; the disk's blocks")
    report("forks_20_walked_stored", "-", "MiB", [walked / 1024], "one", [one / 1024], words="after a find over all of each")
    report("brought_again_stored", "-", "MiB", [(stored() - before - walked) / 1024], "the first time", [one / 1024], words=f"the same packages by another sandbox; {contents / 1024:.1f} MiB of it contents")
    for each in [*forks, first.id, second.id]:
        api.good("DELETE", f"/v1/sandboxes/{each}")
    shutil.rmtree(f"{TOP}/share")
    os.unlink(f"{TOP}/share.tar")


PARTS = dict(past=bench_past, share=bench_share)
