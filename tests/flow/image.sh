#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Images of registries as bases of builds: from Debian's registry, on this machine's loopback and with TLS at an address of the
# internet, by E2B's SDK and by the API; with credentials; from registries that send what they should not, hang, or lead elsewhere; the
# cache; without the tool. All in a network and a mount namespace of its own, where 93.184.216.34 is the internet and 10.20.0.2 is not.
if [ -z "${BERTH_IMAGE_WORLD:-}" ]; then
	[ "$(id -u)" = 0 ] || { echo "needs root"; exit 77; }
	unshare --net --mount true 2>/dev/null || { echo "needs namespaces"; exit 77; }
	export BERTH_IMAGE_WORLD=1
	exec unshare --net --mount --propagation private -- bash "$0" "$@"
fi
. "$(dirname "$0")/../lib/flow.sh"
. "$SRC/tests/lib/clients.sh"
need_root
for tool in skopeo docker-registry busybox zstd openssl; do command -v $tool >/dev/null || skip "needs $tool"; done
TAKEOVER=0
HELPERS=()
at_end() {
	local p
	for p in "${HELPERS[@]}"; do kill "$p" 2>/dev/null || :; done
	wait 2>/dev/null || :
}
ip link set lo up
ip addr add 93.184.216.34/32 dev lo
ip addr add 10.20.0.2/32 dev lo

# A root that their clients can use: busybox and bash.
mkdir "$TOP/extra"
for f in /bin/bash $(ldd /bin/bash | grep -o '/[^ ]*'); do cp -L --parents "$f" "$TOP/extra"; done
mini_tar "$TOP/mini.tar"
tar -C "$TOP/extra" -rf "$TOP/mini.tar" .
python3 "$SRC/tests/lib/oci.py" make "$TOP/oci" "$TOP/mini.tar"

# registry PORT ADDRESS [MORE]: Debian's.
registry() {
	cat >"$TOP/registry-$1.yml" <<-END
		version: 0.1
		log: { level: error }
		storage: { filesystem: { rootdirectory: $TOP/registry-$1 } }
		http: { addr: "$2:$1"${3:-} }
	END
	docker-registry serve "$TOP/registry-$1.yml" >"$TOP/registry-$1.log" 2>&1 &
	HELPERS+=($!)
}
answers() { curl -sk --max-time 2 "$1/v2/" >/dev/null; }
push() { skopeo copy -q --all "$@" >"$TOP/push" 2>&1 || fail "push: $(tail -n 3 "$TOP/push")"; }
registry 5000 127.0.0.1
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=registry -addext subjectAltName=IP:93.184.216.34 \
	-keyout "$TOP/key.pem" -out "$TOP/cert.pem" 2>/dev/null
registry 5443 93.184.216.34 ", tls: { certificate: $TOP/cert.pem, key: $TOP/key.pem }"
python3 "$SRC/tests/lib/oci.py" serve 5001 "$TOP/mini.tar" "$TOP/asked" 2>"$TOP/bad.err" &
HELPERS+=($!)
# What must never be asked: at an address that is not of the internet.
python3 -c 'import http.server as h, sys
class H(h.BaseHTTPRequestHandler):
    def do_GET(self): pass
h.HTTPServer(("10.20.0.2", int(sys.argv[1])), H).serve_forever()' 443 2>"$TOP/inside" &
HELPERS+=($!)
mount -t tmpfs certs /etc/containers
mkdir -p "/etc/containers/certs.d/93.184.216.34:5443"
cp "$TOP/cert.pem" "/etc/containers/certs.d/93.184.216.34:5443/ca.crt"
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >/etc/containers/policy.json
for url in http://127.0.0.1:5000 http://127.0.0.1:5001 https://93.184.216.34:5443; do wait_for 20 "$url" answers "$url"; done
push --dest-tls-verify=false oci:"$TOP/oci:good" docker://127.0.0.1:5000/team/good:1
push oci:"$TOP/oci:good" docker://93.184.216.34:5443/far:1

ALLOW="127.0.0.1:5000 localhost:5000 127.0.0.1:5001 127.0.0.1:5002 127.0.0.1:5999 93.184.216.34:5443"
need_clients
start_e2b --set "images.allow=$ALLOW" --set images.size-max=64M --set images.timeout=20s
field() { grep -o "\"$1\":\"[^\"]*\"" | head -n 1 | cut -d '"' -f 4; } # of what is asked often
ask() { curl -s --max-time 20 -X "$1" -H "X-API-Key: ${3:-$E2B_API_KEY}" ${4:+-d "$4"} "$E2B_API_URL$2"; }
# begin NAME IMAGE [MORE [KEY]]: a build of it without steps; its template and id are in $t and $b.
begin() {
	local said
	said=$(ask POST /v3/templates "${4:-}" "{\"name\": \"$1\"}")
	t=$(field templateID <<<"$said") b=$(field buildID <<<"$said")
	ask POST "/v2/templates/$t/builds/$b" "${4:-}" "{\"fromImage\": \"$2\", \"steps\": []${3:-}}"
}
status() { ask GET "/templates/$t/builds/$b/status" "${KEY:-}"; }
ended() { [[ $(status | field status) =~ ready|error ]]; }
# built NAME IMAGE [MORE]; fails NAME IMAGE WORDS [MORE]
built() {
	begin "$1" "$2" "${3:-}" "${KEY:-}"
	wait_for 60 "the build of $2" ended
	equal "$2" "$(status | field status)" ready
}
fails() {
	begin "$1" "$2" "${4:-}" "${KEY:-}"
	wait_for 60 "the build of $2" ended
	status >"$TOP/status"
	equal "$2" "$(field status <"$TOP/status")" error
	grep -qE -- "$3" "$TOP/status" || fail "$2: no \"$3\" in $(cut -c 1-900 "$TOP/status")"
}
images() { find "$STATE/templates" -maxdepth 1 -name 'e2b-image-*' | wc -l; }
has_images() { [ "$(images)" = "$1" ]; }
log_of() { status | grep -qF -- "$1" || fail "the log says no $1: $(status)"; }

# With TLS, by way of the gate; what is the same image by another name is there then, and for another key too.
built far 93.184.216.34:5443/far:1
equal "one" "$(images)" 1
built near localhost:5000/team/good:1 # a name, which the confined daemon looks up
log_of "CACHED [base] sha256:"
other=$(berth key create other)
KEY=$other built near 127.0.0.1:5000/team/good:1
KEY=$other log_of "CACHED [base] sha256:"
equal "still one" "$(images)" 1

# What is in it, as their SDK finds it.
timeout 100 node "$TOP/image.mjs" e2b-2.51 127.0.0.1:5000/team/good:1 127.0.0.1:5001/private:1 >"$TOP/sdk" 2>"$TOP/sdk-err" ||
	fail "their SDK: $(tail -n 25 "$TOP/sdk-err")"
equal "private ones are another" "$(images)" 2

# With credentials: not for who has none, or others; and in no file, no log, no words of the build.
private='"fromImageRegistry": {"type": "registry", "username": "me", "password": "'
KEY=$other fails private 127.0.0.1:5001/private:1 'unauthorized|authentication required|401'
KEY=$other fails private 127.0.0.1:5001/private:1 'unauthorized|authentication required|401' ", ${private}pass-wrong\"}"
KEY=$other built private 127.0.0.1:5001/private:1 ", ${private}pass-word\"}"
equal "each has its own" "$(images)" 3
fails private 127.0.0.1:5001/private:1 'berth knows user names' ', "fromImageRegistry": {"type": "aws", "awsAccessKeyId": "x"}'
for word in pass-word "$(printf me:pass-word | base64)" "$(printf me:pass-wrong | base64)"; do
	! grep -rqF -- "$word" "$LOG" "$STATE/builds" "$STATE/store" || fail "a password was written: $word"
done

# What is not to be believed, or too much; and registries that lead to where only the operator may.
cat >"$TOP/bad" <<-'END'
	127.0.0.1:5001/digest:1	igest
	127.0.0.1:5001/unpacked:1	another digest|not what its configuration says
	127.0.0.1:5001/config:1	does not match|onfig
	127.0.0.1:5001/layers:1	1 to 128 layers
	127.0.0.1:5001/huge:1	too long for a manifest|exceeded maximum
	127.0.0.1:5001/bomb:1	no space left|larger than|too large
	127.0.0.1:5001/up:1	a name with '..' in the image
	127.0.0.1:5001/device:1	a device in the image: sda
	127.0.0.1:5001/machine:1	not for linux/
	127.0.0.1:5001/garbage:1	.
	127.0.0.1:5001/none:1	no such
	127.0.0.1:5001/away:1	not of the internet
	127.0.0.1:5001/sneaky:1	not of the internet
	127.0.0.1:5001/plain:1	without TLS
	127.0.0.1:5001/port:1	another port than 443
	127.0.0.1:5002/token:1	not of the internet
	127.0.0.1:5999/none:1	does not answer|refused|reset|EOF
	debian:12	images are not fetched from docker.io
	10.20.0.2/x:1	images are not fetched from 10.20.0.2
	127.0.0.1:5001/../x:1	no name of an image
END
python3 "$SRC/tests/lib/oci.py" fail "$E2B_API_URL" "$E2B_API_KEY" <"$TOP/bad" >"$TOP/said" || fail "$(grep FAILED "$TOP/said")"
cat "$TOP/said"
[ ! -s "$TOP/inside" ] || fail "the inside was asked: $(cat "$TOP/inside")"
built through 127.0.0.1:5001/through:1
R=$(find "$STATE/templates" -maxdepth 1 -newer "$TOP/status" -name 'e2b-image-*')/root
equal "a name through a link stays inside" "$(cat "$R/etc/through" "$R/tmp/through")" xx
[ ! -e /etc/through ] && [ ! -e /tmp/through ] && [ ! -e /etc/up ] || fail "something got out"
equal "nothing half" "$(images)" 4

# The tool: what it may, while a registry hangs; and its end.
tools() { local p; for p in /proc/[0-9]*; do { tr '\0' ' ' <"$p/cmdline" | grep -q "^skopeo .*:5001/hangs"; } 2>/dev/null && echo "${p#/proc/}"; done; return 0; }
has_tool() { [ -n "$(tools)" ]; }
no_tool() { [ -z "$(tools)" ]; }
begin hangs 127.0.0.1:5001/hangs:1 ", ${private}pass-word\"}"
wait_for 20 "the tool" has_tool
wait_for 20 "it to ask" grep -q hangs "$TOP/asked"
P=$(tools)
proc() { sed -n "s/^$1:\t*//p" "/proc/$P/status"; }
[ "$(proc Uid | cut -f 1)" != 0 ] && [ "$(proc Uid | cut -f 1)" != "$(id -u berth)" ] || fail "its account: $(proc Uid)"
equal "its capabilities" "$(proc CapEff) $(proc CapBnd) $(proc NoNewPrivs)" "0000000000000000 0000000000000000 1"
filters() { sed -n "s/^Seccomp_filters:\t*//p" "/proc/$1/status"; }
[ "$(filters "$P")" -gt "$(filters self)" ] || fail "its filters of system calls: $(filters "$P")"
equal "its network" "$(nsenter -t "$P" -n ip -o addr | awk '{print $2, $4}' | sort -u | tr '\n' ' ')" "lo 127.0.0.1/8 lo ::1/128 "
equal "its processes" "$(proc NSpid | awk '{print $NF}')" 1
equal "its root" "$(cd "/proc/$P/root" && printf "%s\n" * | grep -vE "^(lib.*|s?bin)$" | tr '\n' ' ')" "dev etc proc run tmp usr var work "
equal "what it may write" "$(nsenter -t "$P" -m -p setpriv --reuid 65534 --regid 65534 --clear-groups find / -xdev -writable -type d 2>/dev/null | sort | tr '\n' ' ')" "/work /work/image /work/tmp "
equal "the credentials" "$(stat -c '%a %u' "/proc/$P/root/run/auth.json")" "400 $(proc Uid | cut -f 1)"
! cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep -qE 'pass-word|bWU6cGFzcy13b3Jk' || fail "a password is in a command line"
ask DELETE "/templates/$t"
wait_for 20 "its end" no_tool
begin hangs 127.0.0.1:5001/hangs:1
wait_for 20 "the tool" has_tool
groups=$(groups_of_state)
[ -n "$groups" ] || fail "the daemon has no control groups"
stop_daemon KILL
wait_for 20 "its end with the daemon" no_tool
# Its control group may be left, depending on who dies first.
for g in $groups; do mkdir -p "$g/fetch.1"; done
no_groups() { local g; for g in $groups; do [ ! -e "$g/fetch.1" ] || return 1; done; }
must_fail no_groups

# Room for one: what was used least recently goes, but for what a build names. And a registry that hangs is not waited for for ever.
again() {
	start_daemon --set "api.listen=${E2B_API_URL#http://}" --set "api.interpreter=$SRC/templates/interpreter" \
		--set "images.allow=$ALLOW" --set images.size-max=64M "$@"
}
again --set images.room=1M --set images.timeout=2s
wait_for 20 "groups of the daemon before to go" no_groups
fails slow 127.0.0.1:5001/hangs:1 'takes too long'
begin fine 127.0.0.1:5001/fine:1 ', "startCmd": "exit 7", "readyCmd": "exit 1"'
ask DELETE "/templates/$t"
wait_for 20 "what nobody names to go" has_images 4
equal "what a build names is there" "$(berth run "$(ask POST /v2/sandboxes "" '{"templateID": "near"}' | field sandboxID)" -- cat /opt/one/stays)" stays
berth kill "$(berth ps | awk 'NR == 2 { print $1 }')" --grace 0
for name in far near private through sdk sdk-private; do ask DELETE "/templates/$name" >"$TOP/removed"; ask DELETE "/templates/$name" "$other" >"$TOP/removed"; done
built last 127.0.0.1:5001/fine:1
wait_for 20 "all others to go" has_images 1
equal "records" "$(find "$STATE/builds/images" -type f | wc -l)" 1

# Without it, and without a wish for it.
mount --bind /dev/null /usr/bin/skopeo
fails bad 127.0.0.1:5001/fine:2 'apt install skopeo'
umount /usr/bin/skopeo
stop_daemon
again --set images.tool=off
fails bad 127.0.0.1:5001/fine:1 'fetches no images here'
say ok
