# SPDX-License-Identifier: Apache-2.0
"""The broker alone, and rules of sandboxes: for tests/flow/e2b-rules.sh. Arguments: BUILD TOP."""
import base64
import json
import os
import sys
import urllib.parse

import brokerage
import tls_service

BUILD, TOP = sys.argv[1:3]
SERVICES = os.path.join(TOP, "services")
RULES = 8
TOKEN, SECOND = ("s3cr3t/%d" % int.from_bytes(os.urandom(6), "big") for _ in range(2))
checks = 0


def equal(what, got, want):
    global checks
    checks += 1
    if got != want:
        raise SystemExit(f"broker-rules: {what}: {got!r} instead of {want!r}")


def forms(value):
    return [value, urllib.parse.quote(value, safe=""), value.encode().hex(), base64.b64encode(value.encode()).decode()]


def seen(what, data):
    for form in forms(TOKEN) + forms(SECOND):
        if form.encode() in data:
            raise SystemExit(f"broker-rules: {what}: a value comes back: {data[:300]}")


class Conn(brokerage.Conn):
    def __init__(self, *who, **more):
        super().__init__(lambda: b.connect(*who, **more), seen)

    def rule(self, *a, **k):
        r, data = self.ask(*a, **k)
        return r.status, json.loads(data)["error"]["rule"] if r.getheader("X-Berth-Rule") else None


def fields(sent, name):
    return [v for k, v in sent["fields"] if k.lower() == name.lower()]


service, other = (tls_service.Service(os.path.join(TOP, "cert.pem"), os.path.join(TOP, "key.pem"), TOKEN) for _ in range(2))
host, fenced = f"localhost:{service.port}", f"localhost:{other.port}"


def policy(name, **more):
    with open(os.path.join(SERVICES, name + ".json"), "w") as f:
        json.dump({"secrets": ["NOBODYS"], "private": True, "ca": os.path.join(TOP, "ca.pem"), **more}, f)


route = {"methods": ["GET"], "paths": ["/**"], "credential": {"as": "none"}}
policy("lead", rules=True, routes=[{"upstream": f"https://{host}/api/", "prefix": "/v1/", **route}, {"upstream": "https://elsewhere.example/", **route}],
       vars={"LEAD_URL": "{base}/v1", "LEAD_OTHER": "{base}/x", "LEAD_KEY": "by-the-broker"}, git={"from": "https://code.example/", "prefix": "/v1/git/"},
       pip=["[global]", "index-url = {base}/v1/simple/"])
policy("closed", routes=[{"upstream": f"https://{fenced}/", **route}], vars={"CLOSED_KEY": "by-the-broker"})
b = brokerage.Broker(BUILD, TOP, SERVICES)
b.keep("key.k1.tok", TOKEN, "--host", "*")
b.keep("key.k1.second", SECOND, "--host", "*")
b.keep("key.k2.tok", "another-value", "--host", "*")
b.keep("key.k1.narrow", TOKEN, "--host", "*", "--path", "/echo", "--method", "GET")
b.keep("key.k1.placed", TOKEN, "--host", "*", "--header", "X-Api-Key")
b.keep("key.k1.template", TOKEN, "--host", "*", "--for", "template=other")
b.keep("GIVEN", TOKEN, "--host", host)
b.keep("FAR", TOKEN, "--host", "api.example.com")
b.keep("given", TOKEN, "--host", host)


def rules(sandbox, what, check=True):
    return b.ask(RULES, who=(sandbox, "", "", ""), tail=json.dumps(what).encode() if what else b"", check=check)


def bearer(word):
    return {host: {"headers": {"Authorization": "Bearer ${e2b.secrets.%s}" % word}}}


rules("s1", {**bearer("Tok"), fenced: {"headers": {"Authorization": "Bearer ${e2b.secrets.tok}"}}, "far.example": {"headers": {}},
             "shut.example": {"headers": {}, "off": True}})
at = f"/rules/{host}"
c = Conn("", key="k1")
r, data = c.ask(at + "/echo?a=b", headers={"Authorization": "Bearer mine", "Cookie": "x=y", "X-Api-Key": "mine", "X-Kept": "k"})
equal("the rule's header", r.status, 200)
sent = service.seen[-1]
equal("the value", fields(sent, "authorization"), ["Bearer " + TOKEN])
equal("the sandbox's own", (fields(sent, "cookie"), fields(sent, "x-api-key"), fields(sent, "x-kept"), sent["target"]), ([], [], ["k"], "/echo?a=b"))
equal("where nothing is said back", b"****" in data, True)
b.wait_told(lambda r: r["kind"] == brokerage.FIRST and r["secret"] == "key.k1.tok" and r["service"] == "rules" and r["host"] == host, "the first use")
b.wait_told(lambda r: r["kind"] == brokerage.USED and r["secret"] == "key.k1.tok" and r["path"] == "/echo" and r["status"] == 200, "the use")
equal("a body", c.ask(at + "/echo", "POST", "some")[1].count(b'"body": "some"'), 1)

# whose it is
equal("a host that no rule names", c.rule("/rules/other.example/"), (403, "no-rule"))
equal("without a host", c.rule("/rules/"), (403, "host"))
equal("a host that the network does not allow", c.rule("/rules/shut.example/"), (403, "network"))
equal("an address of the inside", c.rule(f"/rules/{fenced}/"), (403, "private-address"))
equal("another sandbox of the key", Conn("", key="k1", sandbox="s2").rule(at + "/echo"), (403, "no-rule"))
rules("s3", bearer("tok"))
equal("another key's of that name", Conn("", key="k2", sandbox="s3").ask(at + "/echo")[0].status, 401)
equal("the other key's value", fields(service.seen[-1], "authorization"), ["Bearer another-value"])
rules("s4", bearer("key.k1.tok"))
equal("another's by its whole name", Conn("", key="k2", sandbox="s4").rule(at + "/echo"), (403, "no-secret"))
equal("the operator's, not given", (rules("s5", bearer("GIVEN")), Conn("", sandbox="s5").rule(at + "/echo"))[1], (403, "no-secret"))
equal("the operator's, given", Conn("GIVEN", sandbox="s5").ask(at + "/echo")[0].status, 200)
equal("two that are called so", Conn("GIVEN,given", sandbox="s5").rule(at + "/echo"), (403, "ambiguous-secret"))
equal("for another host", (rules("s6", bearer("far")), Conn("FAR", sandbox="s6").rule(at + "/echo"))[1], (403, "wrong-host"))
equal("for another template", (rules("s6", bearer("template")), Conn("", key="k1", sandbox="s6").rule(at + "/echo"))[1], (403, "wrong-template"))
b.wait_told(lambda r: r["kind"] == brokerage.REFUSED and r["secret"] == "FAR" and r["rule"] == "wrong-host", "the refusal")

# what a sealed file says of requests
narrow = Conn("", key="k1", sandbox="s7")
rules("s7", bearer("narrow"))
equal("its path", narrow.ask(at + "/echo")[0].status, 200)
equal("another path", narrow.rule(at + "/open"), (403, "path"))
equal("another method", narrow.rule(at + "/echo", "POST", ""), (403, "method"))
rules("s7", bearer("placed"))
equal("another header", narrow.rule(at + "/echo"), (403, "header"))
rules("s7", {host: {"headers": {"X-API-Key": "${e2b.secrets.placed}"}}})
equal("its header", narrow.ask(at + "/echo")[0].status, 200)
rules("s7", {host: {"headers": {"X-API-Key": "${e2b.secrets.placed}x"}}})
equal("something behind it", narrow.rule(at + "/echo"), (403, "header"))

# several values, and none
many = Conn("", key="k1", sandbox="s8")
rules("s8", {host: {"headers": {"authorization": "Bearer ${e2b.secrets.tok}", "X-Two": "a ${e2b.secrets.second}, ${e2b.secrets.SECOND} b", "X-Lit": "plain $ {}", "X-None": ""}}})
r, data = many.ask(at + "/echo", headers={"x-two": "mine", "X_Lit": "mine", "x-lit": "mine"})
sent = service.seen[-1]
equal("several", (fields(sent, "x-two"), fields(sent, "x-lit"), fields(sent, "x-none")), ([f"a {SECOND}, {SECOND} b"], ["plain $ {}"], [""]))
equal("a name that is nearly so", fields(sent, "x_lit"), [])
for name in ("tok", "second"):
    for kind in (brokerage.FIRST, brokerage.USED):
        b.wait_told(lambda r: r["kind"] == kind and r["secret"] == "key.k1." + name and r["sandbox"] == "s8", f"{name} of several, {kind}")
rules("s8", {host: {"headers": {"X-Lit": "plain"}}})
equal("without a secret", (many.ask(at + "/open")[0].status, fields(service.seen[-1], "x-lit"), fields(service.seen[-1], "authorization")), (200, ["plain"], []))
b.wait_told(lambda r: r["kind"] == brokerage.USED and r["secret"] == "" and r["service"] == "rules" and r["sandbox"] == "s8", "a use without a secret")
b.keep("key.k1.long", "x" * 8000, "--host", "*")
rules("s8", {host: {"headers": {"X-Long": "${e2b.secrets.long}${e2b.secrets.long}${e2b.secrets.long}"}}})
equal("a header that is too long", many.rule(at + "/open"), (502, "head-too-large"))

# where answers lead
q = urllib.parse.quote
for to, place in ((f"https://{host}/x?y", f"http://berth.internal{at}/x?y"), ("/x", f"http://berth.internal{at}/x"), ("https://far.example/z", "http://berth.internal/rules/far.example/z")):
    equal(f"led to {to}", c.ask(f"{at}/redirect?to={q(to, safe='')}")[0].getheader("Location"), place)
for to in ("https://other.example/", "https://shut.example/", f"http://{host}/", f"https://{host}@other.example/", f"https://{host}.other.example/"):
    equal(f"led to {to}", c.rule(f"{at}/redirect?to={q(to, safe='')}"), (403, "redirect"))

# without a network: where an operator leads alone
rules("s9", {host: {"headers": {}, "led": True}, "far.example": {"headers": {}, "led": True}})
led = Conn("", key="k1", sandbox="s9")
equal("led there", led.ask(at + "/echo", headers={"Cookie": TOKEN})[0].status, 401)
equal("led nowhere", led.rule("/rules/far.example/"), (403, "network"))
equal("what is told of it", [s["name"] for s in json.loads(b.ask(brokerage.SERVICES, who=("s9", "base", "k1", "")))], ["rules/" + host])

# all of it in the place of what was there, at once, and nothing where it cannot be read
equal("another connection that is kept", narrow.rule(at + "/open"), (403, "header"))
rules("s7", bearer("tok"))
equal("of the new ones", narrow.ask(at + "/open")[0].status, 200)
for wrong in ({"*.example": {}}, {"10.0.0.1": {}}, {"[::1]": {}}, {"a.example/b": {}}, {host: {"headers": {"Host": "x"}}}, {host: {"headers": {"A": "x\r\nB: y"}}}, {host: {"headers": {"A: b": "x"}}},
              {host: {"headers": {"A": "${e2b.identity.tokens.x}"}}}, {host: {"headers": {"A": "${e2b.secrets.x"}}}, {host: {"headers": {"A": "x" * 2049}}}, {host: {"headers": {"A": "", "a": ""}}},
              {f"h{i}.example": {} for i in range(11)}, {host: {"headers": {f"H{i}": "" for i in range(21)}}}, {host: {"other": 1}}, [1], {"UPPER.example": {}},
              {host: {"headers": {"A": "".join("${e2b.secrets.s%d}" % i for i in range(9))}}}, {host: {"headers": {"Transfer-Encoding": "chunked"}}}):
    equal(f"what is none ({str(wrong)[:40]})", rules("s7", wrong, check=False), "bad-rules")
equal("the old ones stay", narrow.ask(at + "/open")[0].status, 200)
rules("s7", None)
equal("none", narrow.rule(at + "/open"), (403, "no-rule"))

# what a sandbox is told
listed = json.loads(b.ask(brokerage.SERVICES, who=("s1", "base", "k1", "")))
of = {s["name"]: s for s in listed}
equal("what is told", sorted(of), sorted(["rules/far.example", "rules/" + host, "rules/" + fenced]))
base = f"http://berth.internal/rules/{host}/api"
equal("variables", {v["name"]: v["value"] for v in of["rules/" + host]["vars"]}, {"LEAD_URL": base, "LEAD_KEY": "by-the-broker"})
equal("git and pip", (of["rules/" + host]["git_from"], of["rules/" + host]["git_to"], of["rules/" + host]["pip"]), ("https://code.example/", base + "/git/", f"[global]\nindex-url = {base}/simple/\n"))
equal("no addresses, no words", of["rules/" + fenced]["vars"], [])
equal("it ends", b.end(), 0)
print(f"broker-rules: {checks} checks")
