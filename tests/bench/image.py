#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What it costs that a sandbox's workspace is an ext4 in a file, on a loop device, and not a directory of the host: nobody watches either.
Part of tests/bench/run: image."""
import os
import shutil
import statistics

from bench import GIB, GIT_ENV, MIB, TOP, Image, note, report, sh, spawn, spent

APPEND = "f = open('log', 'ab', 0)\nfor i in range(20000): f.write(b'%09d a line of a log, sixty-four bytes of it with its end, so.....\\n' % i)\n"


def untar(at):
    sh("tar", "-C", at, "--no-same-owner", "-xf", f"{TOP}/tree.tar")


def untar_durable(at):
    untar(at)
    sh("sync", "-f", at)


def clone(at):
    spawn([shutil.which("git"), "-c", "safe.directory=*", "clone", "-q", "--no-local", f"{TOP}/image-source/repo", f"{at}/clone"], GIT_ENV)


def append(at):
    sh("python3", "-c", APPEND, cwd=at)


def write_large(at):
    piece = memoryview(LARGE)
    with open(f"{at}/large", "wb", 0) as f:
        for _ in range(GIB // len(piece)):
            f.write(piece)
        os.fsync(f.fileno())


def read_large(at):
    with open(f"{at}/large", "rb", 0) as f:
        while f.readinto(ROOM):
            pass


def uncached(at):
    fd = os.open(f"{at}/large", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def small_durable(at):
    with open(f"{at}/small", "wb", 0) as f:
        for i in range(200):
            os.pwrite(f.fileno(), PIECE, i * len(PIECE))
            os.fsync(f.fileno())


LARGE, ROOM, PIECE = os.urandom(8 * MIB), bytearray(MIB), os.urandom(4096)
# name, job, what is done before it and not measured: then the large file stays
JOBS = (("untar", untar, None), ("untar_durable", untar_durable, None), ("git_clone", clone, None), ("append_20000", append, None),
        ("write_1_gib_durable", write_large, None), ("read_1_gib", read_large, uncached), ("fsync_200", small_durable, None))


def bench_image(_box, _peer):
    note("what the disk image costs beside a directory of the host")
    image, plain, source = Image("image-cost"), f"{TOP}/image-plain", f"{TOP}/image-source"
    os.mkdir(plain)
    os.mkdir(source)
    sh("tar", "-C", source, "--no-same-owner", "-xf", f"{TOP}/both.tar")
    for name, job, before in JOBS:
        took = ([], [])
        for turn in range(8 if name != "write_1_gib_durable" and name != "read_1_gib" else 4):
            for k in (0, 1) if turn % 2 else (1, 0):
                at = (image.at, plain)[k]
                work = f"{at}/{name}" if not before else f"{at}/kept"
                os.makedirs(work, exist_ok=True)
                if before:
                    if turn == 0:
                        write_large(work)
                    before(work)
                ms = spent(lambda job=job, work=work: job(work))
                if turn:
                    took[k].append(ms)
                if not before:
                    shutil.rmtree(work)
                    sh("sync", "-f", at)
        pairs = statistics.median(a / b for a, b in zip(*took))
        report(f"image_{name}", "-", "ms", took[0], "a directory of the host", took[1], f"an ext4 in a file of the same disk, direct I/O of its loop device; median of the pairs' ratios {pairs:.2f}")
    sh("umount", image.at)
    shutil.rmtree(plain)
    shutil.rmtree(source)


PARTS = dict(image=bench_image)
