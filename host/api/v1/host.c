/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What protects and serves the sandboxes of this host, without hopes: "on" is only said of what is in use at this
 * moment (a sandbox of kind oci cannot start without its fences), "untested" of what is there and was not used yet.
 */
#include "host/api/v1/v1.h"

#include "base/str.h"
#include "host/net/network.h"
#include "host/fs/fs.h"
#include "json/json.h"

#include <stdio.h>
#include <sys/prctl.h>

struct seen {
	unsigned boxes, fanotify, inotify;
};

static int look(void *ctx, const struct hub_info *i)
{
	struct seen *s = ctx;

	if (i->state != SANDBOX_RUNNING)
		return 0;
	s->boxes++;
	s->fanotify += str_starts(i->watcher, "fanotify");
	s->inotify += str_starts(i->watcher, "inotify");
	return 0;
}

static void part(struct json_writer *w, const char *group, const char *name, const char *state, const char *words)
{
	jw_open(w, '{');
	jw_kstr(w, "group", group);
	jw_kstr(w, "name", name);
	jw_kstr(w, "state", state);
	jw_kstr(w, "words", words);
	jw_close(w, '}');
}

/* A fence without which an oci sandbox does not start. */
static void fence(struct json_writer *w, const struct api *api, const struct seen *s, const char *name, bool there,
		  const char *words)
{
	bool oci = str_eq(api->box, "oci");

	part(w, "isolation", name, !oci ? "off" : !there ? "missing" : s->boxes ? "on" : "untested",
	     !oci    ? "sandbox.box is fake: no isolation at all, for tests only"
	     : there ? words
		     : "the host does not have it: no sandbox can start");
}

static void put_isolation(struct json_writer *w, const struct api *api, const struct seen *s)
{
	const struct facts *f = api->facts;
	char words[128];

	snprintf(words, sizeof(words), "version %s runs the sandboxes", f->crun);
	fence(w, api, s, "crun", f->crun[0], words);
	fence(w, api, s, "user-namespaces", f->user_namespaces, "65536 ids of its own for each sandbox");
	fence(w, api, s, "idmapped-mounts", true, "one copy of a template serves all; needs ext4, xfs or btrfs");
	fence(w, api, s, "seccomp-sandbox", true, "a list of allowed system calls");
	part(w, "isolation", "seccomp-daemon", prctl(PR_GET_SECCOMP) == 2 ? "on" : "missing",
	     "the daemon's own list of system calls");
	snprintf(words, sizeof(words),
		 f->landlock >= 2 ? "version %d: fences tar when a template is made from an archive"
				  : "version %d, 2 is needed: tar is fenced by capabilities alone",
		 f->landlock);
	part(w, "isolation", "landlock", f->landlock >= 2 ? "on" : "missing", words);
}

static void put_limit(struct json_writer *w, const struct api *api, const char *name, const char *version)
{
	char words[64];

	snprintf(words, sizeof(words), *version ? "control groups %s" : "no control group limits it%s", version);
	part(w, "limits", name, !*version ? "missing" : str_eq(api->box, "oci") ? "on" : "off", words);
}

/* The kinds of networks, and why one is not there. */
static void put_network(struct json_writer *w, const struct api *api)
{
	static const char *const kinds[] = { "veth", "pasta" };
	const char *why, *is = network_words(api->network, &why);
	bool none = str_eq(is, "none"), switched_off = str_starts(why, "switched off");
	size_t i;

	for (i = 0; i < ARRAY_LEN(kinds); i++)
		part(w, "network", kinds[i], str_eq(is, kinds[i]) ? "on" : none && !switched_off ? "missing" : "off",
		     str_eq(is, kinds[i]) || none ? why : "another one is used");
	part(w, "network", "internet", none ? "off" : network_default(api->network) ? "on" : "off",
	     "what holds for a sandbox that does not say");
}

static void put_backends(struct json_writer *w, const struct api *api)
{
	const struct facts *f = api->facts;
	static const char *const later[] = { "qemu", "firecracker", "docker" };
	char words[128];
	size_t i;

	part(w, "backend", "oci", str_eq(api->box, "oci") ? "on" : "off", "sandboxes by crun on this kernel");
	part(w, "backend", "fake", str_eq(api->box, "fake") ? "on" : "off", "for tests only");
	for (i = 0; i < ARRAY_LEN(later); i++)
		part(w, "backend", later[i], "not-built", "this version has no such kind of sandbox");
	snprintf(words, sizeof(words),
		 f->kvm > 0    ? "/dev/kvm can be used, and nothing does"
		 : f->kvm == 0 ? "there is no /dev/kvm"
			       : "/dev/kvm cannot be used: %s",
		 err_name(f->kvm));
	part(w, "backend", "kvm", f->kvm > 0 ? "off" : "missing", words);
	part(w, "backend", "vhost-vsock", f->vhost_vsock ? "off" : "missing",
	     f->vhost_vsock ? "/dev/vhost-vsock is there, and nothing uses it" : "there is no /dev/vhost-vsock");
}

/* Whether people who work on the mount outlive the daemon. */
static void put_mount(struct json_writer *w, const struct api *api)
{
	bool can = fs_survives(api->fs);
	char words[128];

	part(w, "mount", "fuse", "on", api->mount_dir);
	snprintf(words, sizeof(words), "who works on it waits up to %llu s for the next daemon and goes on",
		 (unsigned long long)(api->takeover_ms + 999) / 1000);
	part(w, "mount", "takeover",
	     !can		? "missing"
	     : api->takeover_ms ? "on"
				: "off",
	     !can ? "Linux 6.9 is needed: the mount ends with the daemon (ENOTCONN), the next one makes it anew"
	     : api->takeover_ms ? words
				: "mount.takeover is 0: the mount ends with the daemon, the next one makes it anew");
}

static void put_pool(void *ctx, const struct hub_pool_state *s)
{
	const char *why = s->ready >= s->want ? "" : s->lacks_template ? "there is no such template" : s->why;
	char words[320];

	snprintf(words, sizeof(words), "%u of %u sandboxes are ready%s%s; %llu were taken, %llu times there was none",
		 s->ready, s->want, why[0] ? ": " : "", why, (unsigned long long)s->taken,
		 (unsigned long long)s->missed);
	part(ctx, "pool", s->template_, !s->want ? "off" : s->lacks_template ? "missing" : "on", words);
}

int v1_host(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct json_writer w = { .b = &res->body };
	struct seen s = { .boxes = 0 };

	(void)req;
	(void)e;
	(void)!hub_each(api->hub, false, look, &s);
	jw_open(&w, '{');
	jw_key(&w, "parts");
	jw_open(&w, '[');
	put_isolation(&w, api, &s);
	put_limit(&w, api, "memory", api->facts->memory);
	put_limit(&w, api, "cpu", api->facts->cpu);
	put_limit(&w, api, "processes", api->facts->pids);
	part(&w, "watcher", "fanotify", s.fanotify ? "on" : s.inotify ? "missing" : "untested",
	     s.fanotify	 ? "a mark on each workspace's file system"
	     : s.inotify ? "the sandboxes that run do not have it"
			 : "no sandbox runs that could tell");
	part(&w, "watcher", "inotify", s.inotify ? "on" : s.fanotify ? "off" : "untested",
	     "directory by directory, where fanotify does not work");
	put_mount(&w, api);
	put_network(&w, api);
	put_backends(&w, api);
	hub_pools(api->hub, put_pool, &w);
	jw_close(&w, ']');
	jw_close(&w, '}');
	buf_append(&res->body, "\n", 1);
	return 0;
}
