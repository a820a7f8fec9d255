# SPDX-License-Identifier: Apache-2.0
"""Runs code for the clients of E2B's code interpreter: contexts, which are kernels of Jupyter, and streams of what they say.

berthd starts it in a sandbox when something is asked of port 49999 there: docs/e2b-door.md. Arguments: the text of kernel.py,
which prepares each kernel. It says "listening" when it does.
"""
import asyncio
import json
import os
import re
import secrets
import sys
import time

import tornado.iostream
import tornado.web
from jupyter_client.manager import AsyncKernelManager

PORT = 49999
CONTEXTS_MAX, CODE_MAX = 32, 16 << 20
START_S, KEEPALIVE_S, LOOK_S, STOP_S = 60, 5, 1, 5
MEMBERS = {
    "text/plain": "text", "text/html": "html", "text/markdown": "markdown", "image/svg+xml": "svg", "image/png": "png",
    "image/jpeg": "jpeg", "application/pdf": "pdf", "text/latex": "latex", "application/json": "json",
    "application/javascript": "javascript", "application/vnd.berth.data+json": "data",
    "application/vnd.berth.chart+json": "chart",
}
PREPARE = sys.argv[1] if len(sys.argv) > 1 else ""


class Refused(Exception):
    """What is answered instead, with its status."""

    def __init__(self, status, words):
        super().__init__(words)
        self.status = status


def result_of(content, is_main):
    """What was displayed, as its clients read it: a member for each kind, the rest in "extra"."""
    out, extra = {"type": "result", "is_main_result": is_main}, {}
    for mime, value in content["data"].items():
        if isinstance(value, list):
            value = "".join(value)
        if mime.startswith("image/") and isinstance(value, str):
            value = value.strip()
        if mime == "text/plain" and len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        if mime in MEMBERS:
            out[MEMBERS[mime]] = value
        else:
            extra[mime] = value
    if extra:  # JavaScript's client looks for it in one place, others in the other
        out.update(extra, extra=extra)
    return out


class Context:
    """One kernel. Its executions take turns."""

    def __init__(self, cwd):
        self.id, self.cwd = secrets.token_hex(16), cwd
        self.turn, self.kernel, self.client = asyncio.Lock(), None, None

    def told(self):
        return {"id": self.id, "language": "python", "cwd": self.cwd}

    async def start(self):
        self.kernel = AsyncKernelManager(kernel_name="python3")
        await self.kernel.start_kernel(cwd=self.cwd)
        await self.connect()

    async def connect(self):
        self.client = self.kernel.client()
        self.client.start_channels()
        await self.client.wait_for_ready(timeout=START_S)
        await self.silently(PREPARE)

    async def stop(self):
        if self.client:
            self.client.stop_channels()
        if self.kernel and self.kernel.has_kernel:
            await self.kernel.shutdown_kernel(now=True)

    async def restart(self):
        self.client.stop_channels()
        await self.kernel.restart_kernel(now=True)
        await self.connect()

    async def silently(self, code):
        if code:
            await self.until_idle(self.client.execute(code, silent=True, store_history=False), lambda _: None)

    async def message(self):
        try:
            return await self.client.get_iopub_msg(timeout=LOOK_S)
        except Exception as e:  # queue.Empty, in a kind that differs between versions
            if type(e).__name__ == "Empty":
                return None
            raise

    async def until_idle(self, request, on_message, is_left=lambda: False):
        """Return: False when the kernel died. Who has gone interrupts it; one that does not let itself be begins anew."""
        left_at = None
        while True:
            m = await self.message()
            if is_left() and left_at is None:
                left_at = time.monotonic()
                await self.kernel.interrupt_kernel()
            if left_at is not None and time.monotonic() - left_at > STOP_S:
                await self.restart()
                return True
            if m is None:
                if not await self.kernel.is_alive():
                    return False
                on_message(None)
                continue
            if m["parent_header"].get("msg_id") != request:
                continue
            if m["msg_type"] == "status" and m["content"]["execution_state"] == "idle":
                return True
            on_message(m)

    async def execute(self, code, env, say, is_left):
        async with self.turn:
            if is_left():
                return
            if not await self.kernel.is_alive():
                await self.dead(say)
                return
            if env:
                await self.silently(f"_berth_env({env!r})")
            alive = await self.until_idle(self.client.execute(code, allow_stdin=False, stop_on_error=True), say, is_left)
            if not alive:
                await self.dead(say)
            elif env:
                await self.silently("_berth_env(None)")

    async def dead(self, say):
        say({"msg_type": "error", "content": {
            "ename": "KernelDied", "evalue": "the kernel died, what it had in memory is lost; the next one is new",
            "traceback": ["KernelDied: the kernel died, what it had in memory is lost; the next one is new"]}})
        await self.restart()


class Contexts:
    def __init__(self):
        self.by_id, self.standard, self.making = {}, None, asyncio.Lock()

    async def new(self, cwd):
        if len(self.by_id) >= CONTEXTS_MAX:
            raise Refused(429, f"there are {CONTEXTS_MAX} contexts already")
        if not os.path.isdir(cwd):
            raise Refused(400, f"{cwd} is not a directory")
        c = Context(cwd)
        self.by_id[c.id] = c
        try:
            await c.start()
        except Exception as e:
            del self.by_id[c.id]
            await c.stop()
            raise Refused(500, f"no kernel could be started: {e}") from e
        return c

    async def default(self):
        async with self.making:
            if self.standard not in self.by_id:
                self.standard = (await self.new(home())).id
            return self.by_id[self.standard]

    def get(self, which):
        if which not in self.by_id:
            raise Refused(404, f"Context {which} not found")
        return self.by_id[which]


def home():
    return os.environ.get("HOME") or "/"


def check_language(language):
    if language not in (None, "", "python"):
        raise Refused(400, f"language {language} is not supported here; python is")


class Handler(tornado.web.RequestHandler):
    contexts = None

    def write_error(self, status_code, **kwargs):
        kind = kwargs.get("exc_info", (None, None, None))[1]
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        if isinstance(kind, Refused):
            self.set_status(kind.status)
        self.finish(str(kind) if kind else self._reason)

    def log_exception(self, typ, value, tb):
        if not isinstance(value, Refused):
            super().log_exception(typ, value, tb)

    def body(self):
        try:
            asked = json.loads(self.request.body or b"{}")
        except ValueError as e:
            raise Refused(400, f"the body is no JSON: {e}") from e
        if not isinstance(asked, dict):
            raise Refused(400, "the body is no object")
        return asked

    def answer(self, what):
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(what))


class Health(Handler):
    def get(self):
        self.finish("OK")


class All(Handler):
    def get(self):
        self.answer([c.told() for c in self.contexts.by_id.values()])

    async def post(self):
        asked = self.body()
        check_language(asked.get("language"))
        self.answer((await self.contexts.new(asked.get("cwd") or home())).told())


class One(Handler):
    async def delete(self, which):
        c = self.contexts.get(which)
        del self.contexts.by_id[which]
        await c.stop()
        self.finish("")


class Restart(Handler):
    async def post(self, which):
        c = self.contexts.get(which)
        async with c.turn:
            await c.restart()
        self.finish("")


class Execute(Handler):
    is_left = False

    def on_connection_close(self):
        self.is_left = True

    def put(self, **line):
        self.said = time.monotonic()
        self.lines.append(json.dumps(line, default=str) + "\n")

    def say(self, m):
        """None: nothing for a while."""
        if m is None:
            if time.monotonic() - self.said >= KEEPALIVE_S:
                self.put(type="keepalive")
        elif m["msg_type"] == "stream":
            self.put(type=m["content"]["name"], text=m["content"]["text"], timestamp=time.time_ns())
        elif m["msg_type"] in ("execute_result", "display_data"):
            self.put(**result_of(m["content"], m["msg_type"] == "execute_result"))
        elif m["msg_type"] == "error":
            self.put(type="error", name=m["content"]["ename"], value=m["content"]["evalue"],
                     traceback="\n".join(m["content"]["traceback"]))
        elif m["msg_type"] == "execute_input":
            self.put(type="number_of_executions", execution_count=m["content"]["execution_count"])
        if self.lines and not self.is_left:
            text, self.lines = "".join(self.lines), []
            self.write(text)
            self.flush().add_done_callback(lambda f: f.exception())  # who has gone is met by on_connection_close()

    async def post(self):
        asked = self.body()
        code, which, env = asked.get("code"), asked.get("context_id"), asked.get("env_vars") or {}
        if not isinstance(code, str) or len(code) > CODE_MAX:
            raise Refused(400, "code is missing, or no text, or too long")
        if not isinstance(env, dict) or not all(isinstance(v, str) for v in env.values()):
            raise Refused(400, "env_vars are texts by name")
        if which and asked.get("language"):
            raise Refused(400, "Only one of context_id or language can be provided")
        check_language(asked.get("language"))
        context = self.contexts.get(which) if which else await self.contexts.default()
        self.said, self.lines = time.monotonic(), []
        self.set_header("Content-Type", "application/json")
        await context.execute(code, env, self.say, lambda: self.is_left)
        if not self.is_left:
            self.finish()


async def main():
    Handler.contexts = Contexts()
    which = r"/contexts/([0-9a-f]{1,64})"
    app = tornado.web.Application([(r"/health", Health), (r"/execute", Execute), (r"/contexts", All), (which, One),
                                   (which + "/restart", Restart)], log_function=lambda _: None)
    try:
        app.listen(PORT, "127.0.0.1", max_body_size=CODE_MAX * 4)
    except OSError as e:
        print("listening" if re.search("in use", str(e)) else f"cannot listen: {e}", flush=True)
        return
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
