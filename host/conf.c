/* SPDX-License-Identifier: Apache-2.0 */
/* One table has every option with its kind, bounds, default and words; file, environment, flags and help all use it. */
#include "host/conf.h"

#include "base/log.h"
#include "base/str.h"
#include "host/http/http.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>

enum { POOL_MAX = 256, POOL_NAME_MAX = 64 };
enum kind { KIND_TEXT, KIND_PATH, KIND_WORD, KIND_NUMBER, KIND_SIZE, KIND_TIME };

struct option {
	const char *section, *key;
	enum kind kind;
	size_t offset;
	uint64_t min, max;
	const char *standard;
	const char *words; /* KIND_WORD: the allowed ones, separated by '|' */
	const char *doc;
};

#define AT(member) offsetof(struct conf, member)
#define GIB (1ULL << 30)
#define MIB (1ULL << 20)

static const struct option options[] = {
	{ "daemon", "state-dir", KIND_PATH, AT(state_dir), 0, 0, "/var/lib/berth", NULL,
	  "directory of everything that is kept" },
	{ "daemon", "socket", KIND_PATH, AT(socket), 0, 0, "", NULL,
	  "Unix socket of the API; empty: STATE-DIR/run/api.sock" },
	{ "daemon", "agent", KIND_PATH, AT(agent), 0, 0, AGENT_PATH, NULL,
	  "the agent program that goes into sandboxes" },
	{ "daemon", "user", KIND_TEXT, AT(user), 0, 0, "berth", NULL, "account that the daemon runs as" },
	{ "daemon", "log-level", KIND_WORD, AT(log_level), 0, 0, "info", "error|warn|info|debug",
	  "how much is logged" },
	{ "daemon", "log-form", KIND_WORD, AT(log_form), 0, 0, "text", "text|json|journal",
	  "key=value lines, JSON lines, or lines for systemd's journal" },
	{ "mount", "dir", KIND_PATH, AT(mount_dir), 0, 0, "", NULL,
	  "where the workspaces are shown; empty: STATE-DIR/mnt" },
	{ "mount", "owner", KIND_TEXT, AT(guest_user), 0, 0, "berth-guest", NULL, "account that is shown as owner" },
	{ "mount", "group", KIND_TEXT, AT(group), 0, 0, "berth", NULL,
	  "group that is shown, and that may use the API" },
	{ "mount", "open-timeout", KIND_TIME, AT(open_timeout), 100, 3600000, "30s", NULL,
	  "how long an open waits for content" },
	{ "mount", "takeover", KIND_TIME, AT(takeover), 0, 3600000, "30s", NULL,
	  "how long the mount waits for another daemon when this one is gone; 0: it goes at once" },
	{ "mount", "calm-rate", KIND_SIZE, AT(calm_rate), 0, GIB, "1M", NULL,
	  "bytes a second, for each processor, of large files of a sandbox while others are looked into; 0: all" },
	{ "mount", "threads", KIND_NUMBER, AT(fuse_threads), 1, 64, "8", NULL, "handler threads of the mount" },
	{ "sandbox", "box", KIND_WORD, AT(box), 0, 0, "oci", "oci|fake", "where commands run; fake is for tests only" },
	{ "sandbox", "at-stop", KIND_WORD, AT(at_stop), 0, 0, "leave", "leave|kill",
	  "what an orderly end of the daemon does with running sandboxes: leave them to the next one, or end them" },
	{ "sandbox", "max", KIND_NUMBER, AT(sandboxes), 1, 4096, "256", NULL, "sandboxes that run at a time" },
	{ "sandbox", "memory", KIND_SIZE, AT(memory), 16 * MIB, 1024 * GIB, "1G", NULL,
	  "memory of a sandbox that asks for none" },
	{ "sandbox", "memory-max", KIND_SIZE, AT(memory_max), 16 * MIB, 1024 * GIB, "8G", NULL,
	  "most that may be asked for" },
	{ "sandbox", "workspace", KIND_SIZE, AT(workspace), 16 * MIB, 1024 * GIB, "8G", NULL, "size of /workspace" },
	{ "sandbox", "workspace-max", KIND_SIZE, AT(workspace_max), 16 * MIB, 1024 * GIB, "64G", NULL,
	  "most that may be asked for" },
	{ "sandbox", "cpu", KIND_NUMBER, AT(cpu), 10, 64000, "2000", NULL, "thousandths of a processor" },
	{ "sandbox", "pids", KIND_NUMBER, AT(pids), 16, 32768, "1024", NULL, "processes and threads" },
	{ "sandbox", "bases", KIND_NUMBER, AT(bases), 0, 4096, "64", NULL,
	  "disks that are kept so that others with the same files begin with a copy; 0: none" },
	{ "sandbox", "bases-size", KIND_SIZE, AT(bases_size), 0, 65536 * GIB, "32G", NULL,
	  "most that they may take together" },
	{ "sandbox", "layers-size", KIND_SIZE, AT(layers_size), 0, 65536 * GIB, "64G", NULL,
	  "most that snapshots may keep of what sandboxes wrote outside of their workspaces, all together" },
	{ "sandbox", "timeout", KIND_TIME, AT(timeout), 0, UINT64_MAX, "0", NULL,
	  "life of a sandbox that asks for none; 0: for ever" },
	{ "sandbox", "cgroup-parent", KIND_TEXT, AT(cgroup_parent), 0, 0, "", NULL,
	  "control group below which those of sandboxes are made, berth.slice; empty: the root" },
	{ "sandbox", "ids-first", KIND_NUMBER, AT(ids_first), 65536, 4000000000U, "1000000", NULL,
	  "first host id of the ranges of 65536 that sandboxes get" },
	{ "network", "mode", KIND_WORD, AT(net_mode), 0, 0, "auto", "auto|veth|pasta|none",
	  "how sandboxes reach the world: by way of this host, by pasta, or not at all; auto: what works" },
	{ "network", "internet", KIND_WORD, AT(net_internet), 0, 0, "off", "on|off",
	  "whether a sandbox that does not say may use it" },
	{ "network", "private", KIND_TEXT, AT(net_private), 0, 0, "", NULL,
	  "addresses and ranges behind the fence, by commas, that a sandbox may reach when it asks for them" },
	{ "network", "dns", KIND_TEXT, AT(net_dns), 0, 0, "", NULL,
	  "addresses of the resolvers that are asked for sandboxes, by commas; empty: those of /etc/resolv.conf" },
	{ "network", "ready", KIND_NUMBER, AT(net_ready), 0, 256, "4", NULL,
	  "networks that are kept ready for sandboxes to come" },
	{ "api", "listen", KIND_TEXT, AT(api_listen), 0, 0, "", NULL,
	  "TCP address of the API, 127.0.0.1:7070, where every request needs a key; empty: none" },
	{ "api", "tls-listen", KIND_TEXT, AT(tls_listen), 0, 0, "", NULL,
	  "the same with TLS, 127.0.0.1:7443; empty: none" },
	{ "api", "tls-cert", KIND_PATH, AT(tls_cert), 0, 0, CONF_DIR "/tls/cert.pem", NULL,
	  "its certificate with what leads to the authority; read anew when it changes" },
	{ "api", "tls-key", KIND_PATH, AT(tls_key), 0, 0, CONF_DIR "/tls/key.pem", NULL, "the key of that" },
	{ "api", "domain", KIND_TEXT, AT(domain), 0, 0, "", NULL,
	  "name (and :PORT) below which E2B's clients find ports of sandboxes, PORT-ID.DOMAIN; empty: they decide" },
	{ "api", "head-timeout", KIND_TIME, AT(head_timeout), 100, 3600000, "30s", NULL,
	  "how long a client may take for the head of a request, or for 4 KiB of its body" },
	{ "api", "body-max", KIND_SIZE, AT(body_max), MIB, 1024 * GIB, "16G", NULL, "longest request body" },
	{ "api", "connections", KIND_NUMBER, AT(connections), 1, 16384, "1024", NULL, "connections at a time" },
	{ "api", "failures", KIND_NUMBER, AT(failures), 0, 100000, "60", NULL,
	  "requests without a valid key a minute and address; 0: any number" },
	{ "api", "threads", KIND_NUMBER, AT(api_threads), 2, 256, "32", NULL, "requests worked on at a time" },
	{ "api", "interpreter", KIND_PATH, AT(interpreter), 0, 0, INTERPRETER_DIR, NULL,
	  "directory of the code interpreter that is started in sandboxes for E2B's clients" },
	{ "broker", "program", KIND_PATH, AT(broker), 0, 0, BROKER_PATH, NULL,
	  "the program that holds the values of secrets and speaks to services" },
	{ "broker", "user", KIND_TEXT, AT(broker_user), 0, 0, "berth-broker", NULL,
	  "account that it runs as; when there is none of that name, daemon.user" },
	{ "broker", "services", KIND_TEXT, AT(services), 0, 0, SERVICES_DIR ":" CONF_DIR "/services", NULL,
	  "directories of policies of services, by colons; a file in a later one replaces one of that name" },
	{ "images", "tool", KIND_WORD, AT(image_tool), 0, 0, "auto", "auto|off",
	  "whether images of registries are fetched, with skopeo where it is installed" },
	{ "images", "allow", KIND_TEXT, AT(image_allow), 0, 0, "docker.io", NULL,
	  "registries that images may be fetched from, by blanks: docker.io ghcr.io; *: any of the internet" },
	{ "images", "user", KIND_TEXT, AT(image_user), 0, 0, "berth-image", NULL,
	  "account that the tool runs as; when there is none of that name, nobody" },
	{ "images", "size-max", KIND_SIZE, AT(image_size), 16 * MIB, 1024 * GIB, "8G", NULL,
	  "largest image, unpacked" },
	{ "images", "room", KIND_SIZE, AT(image_room), 0, 65536 * GIB, "32G", NULL,
	  "most that images may take together; the one that was used least recently goes first" },
	{ "images", "timeout", KIND_TIME, AT(image_timeout), 1000, 12 * 3600000, "30m", NULL,
	  "how long fetching one may take" },
	{ "log", "commands", KIND_WORD, AT(log_commands), 0, 0, "full", "full|name|off",
	  "what the log of a workspace keeps of commands: up to a KiB of their words, the first, or nothing" },
	{ "secrets", "watch-output", KIND_WORD, AT(watch_output), 0, 0, "warn", "warn|mask|off",
	  "what is done when a sandbox puts out a value that it was given: told, or covered by stars too" },
	{ "secrets", "watch-files", KIND_WORD, AT(watch_files), 0, 0, "warn", "warn|off",
	  "whether values that a sandbox was given are looked for in the files that it writes" },
	{ "store", "disk-low", KIND_SIZE, AT(disk_low), 0, 1024 * GIB, "1G", NULL,
	  "free bytes of the disk below which no sandbox is made" },
	{ "store", "disk-stop", KIND_SIZE, AT(disk_stop), 0, 1024 * GIB, "256M", NULL,
	  "free bytes below which sandboxes are frozen, so that they lose nothing; 0: never" },
	{ "store", "gc-interval", KIND_TIME, AT(gc_interval), 0, UINT64_MAX, "1h", NULL,
	  "longest time between two collections of what nothing refers to; 0: only when asked for" },
	{ "store", "keep-stopped", KIND_TIME, AT(keep_stopped), 0, UINT64_MAX, "0", NULL,
	  "how long a stopped sandbox is kept; 0: for ever" },
	{ "store", "keep-stopped-count", KIND_NUMBER, AT(keep_stopped_count), 0, 1000000, "0", NULL,
	  "how many stopped sandboxes are kept, the youngest; 0: all" },
	{ "store", "keep-snapshots", KIND_TIME, AT(keep_snapshots), 0, UINT64_MAX, "0", NULL,
	  "how long a snapshot of a whole sandbox is kept; 0: for ever" },
	{ "store", "map-size", KIND_SIZE, AT(map_size), 16 * MIB, 65536 * GIB, "64G", NULL,
	  "most bytes of each environment of the store (virtual)" },
};

static int bad(const struct option *o, const char *value, const char *want, struct err *e)
{
	return err_set(e, -EINVAL, "bad-config", "%s.%s: \"%.60s\" is not right: %s", o->section, o->key, value, want);
}

static bool has_word(const char *words, const char *value)
{
	size_t len = strlen(value);

	for (; *words; words += strcspn(words, "|"), words += *words == '|')
		if (strcspn(words, "|") == len && memcmp(words, value, len) == 0)
			return true;
	return false;
}

static int put(struct conf *c, const struct option *o, const char *value, struct err *e)
{
	char *field = (char *)c + o->offset;
	uint64_t n = 0;
	char want[96];
	int r = 0;

	switch (o->kind) {
	case KIND_PATH:
		if (value[0] && value[0] != '/')
			return bad(o, value, "an absolute path", e);
		break;
	case KIND_WORD:
		if (!has_word(o->words, value))
			return bad(o, value, o->words, e);
		break;
	case KIND_NUMBER:
		r = num_u64(value, UINT64_MAX, &n);
		break;
	case KIND_SIZE:
		r = num_size(value, &n);
		break;
	case KIND_TIME:
		r = num_duration_ms(value, &n);
		break;
	case KIND_TEXT:
		break;
	}
	if (o->kind == KIND_TEXT || o->kind == KIND_PATH || o->kind == KIND_WORD)
		return str_copy(field, CONF_TEXT_MAX, value) < 0 ? bad(o, value, "at most 255 bytes", e) : 0;
	if (r < 0 || n < o->min || n > o->max) {
		snprintf(want, sizeof(want), "%s from %llu to %llu%s",
			 o->kind == KIND_SIZE	? "bytes, with K, M, G or T,"
			 : o->kind == KIND_TIME ? "a time like 30s or 5m,"
						: "a number",
			 (unsigned long long)o->min, (unsigned long long)o->max, o->kind == KIND_TIME ? " ms" : "");
		return bad(o, value, want, e);
	}
	memcpy(field, &n, sizeof(n));
	return 0;
}

static const struct option *find(const char *section, const char *key)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(options); i++)
		if (str_eq(options[i].section, section) && str_eq(options[i].key, key))
			return &options[i];
	return NULL;
}

/* [pool] NAME = n; the last word about a name counts. */
static int put_pool(struct conf *c, const char *name, const char *value, struct err *e)
{
	uint64_t n;
	unsigned i;

	if (!str_is_id(name, POOL_NAME_MAX))
		return err_set(e, -EINVAL, "bad-config", "pool.%.64s: the name of a template is wanted", name);
	if (num_u64(value, POOL_MAX, &n) < 0)
		return err_set(e, -EINVAL, "bad-config", "pool.%s: \"%.60s\" is not right: a number from 0 to %d", name,
			       value, POOL_MAX);
	for (i = 0; i < c->n_pools && !str_eq(c->pools[i].template_, name);)
		i++;
	if (i == CONF_POOLS_MAX)
		return err_set(e, -EINVAL, "bad-config", "[pool] has at most %d templates", CONF_POOLS_MAX);
	snprintf(c->pools[i].template_, sizeof(c->pools[i].template_), "%s", name);
	c->pools[i].want = (unsigned)n;
	c->n_pools = MAX(c->n_pools, i + 1);
	return 0;
}

static int set(struct conf *c, const char *section, const char *key, const char *value, struct err *e)
{
	const struct option *o = find(section, key);
	char known[160] = "";
	size_t i, used = 0;

	if (o)
		return put(c, o, value, e);
	if (str_eq(section, "pool"))
		return put_pool(c, key, value, e);
	for (i = 0; i < ARRAY_LEN(options) && used < sizeof(known); i++)
		if (str_eq(options[i].section, section))
			used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", used ? ", " : "",
						 options[i].key);
	if (used)
		return err_set(e, -EINVAL, "bad-config", "[%s] has no key %.40s; it has %s", section, key, known);
	return err_set(e, -EINVAL, "bad-config",
		       "no section [%.40s]; there are daemon, mount, sandbox, pool, network, api, broker, images, log, "
		       "secrets, store",
		       section);
}

void conf_default(struct conf *c)
{
	size_t i;

	memset(c, 0, sizeof(*c));
	for (i = 0; i < ARRAY_LEN(options); i++)
		if (put(c, &options[i], options[i].standard, NULL) < 0)
			abort();
}

struct reading {
	struct conf *c;
	struct err *e;
	int line;
};

static int on_line(void *ctx, const char *section, const char *name, const char *value)
{
	struct reading *r = ctx;
	struct err mine = ERR_NULL;

	if (set(r->c, section, name, value, &mine) == 0)
		return 1;
	if (r->e && !r->e->code)
		*r->e = mine;
	return 0;
}

int conf_file(struct conf *c, const char *path, struct err *e)
{
	struct err mine = ERR_NULL;
	struct reading r = { .c = c, .e = &mine };
	int line = ini_parse(path, on_line, &r);

	if (line == -1)
		return err_sys(e, -errno ? -errno : -ENOENT, "cannot read %s", path);
	if (line == 0)
		return 0;
	if (!mine.code)
		err_set(&mine, -EINVAL, "bad-config", "neither [section] nor key = value");
	if (e)
		*e = mine;
	err_wrap(e, "%s line %d", path, line);
	return -EINVAL;
}

int conf_set(struct conf *c, const char *assignment, struct err *e)
{
	AUTO(str_free) char *copy = must_strdup(assignment);
	char *dot = strchr(copy, '.'), *is = strchr(copy, '=');

	if (!dot || !is || is < dot)
		return err_set(e, -EINVAL, "bad-config", "\"%.60s\": section.key=value is wanted", assignment);
	*dot = *is = '\0';
	return set(c, copy, dot + 1, is + 1, e);
}

int conf_environment(struct conf *c, char *const *env, struct err *e)
{
	for (; *env; env++) {
		AUTO(str_free) char *copy = must_strdup(*env);
		char *is = strchr(copy, '='), *bar, *p;

		if (!str_starts(copy, "BERTHD_") || !is)
			continue;
		*is = '\0';
		for (p = copy + 7; *p; p++)
			*p = (char)(*p == '_' ? '-' : tolower((unsigned char)*p));
		bar = strchr(copy + 7, '-');
		if (!bar)
			return err_set(e, -EINVAL, "bad-config", "%.60s: BERTHD_SECTION_KEY is wanted", *env);
		*bar = '\0';
		if (set(c, copy + 7, bar + 1, is + 1, e) < 0)
			return err_wrap(e, "environment");
	}
	return 0;
}

/* At most 128 bytes of names that are no dots. */
static bool group_ok(const char *path)
{
	size_t len;

	if (strlen(path) > 128)
		return false;
	for (; *path; path += len + (path[len] == '/')) {
		len = strcspn(path, "/");
		if (len == 0 || path[0] == '.' || (path[len] == '/' && !path[len + 1]))
			return false;
	}
	return true;
}

int conf_finish(struct conf *c, struct err *e)
{
	size_t len = strlen(c->state_dir);
	struct sockaddr_storage at;
	unsigned at_len;

	while (len > 1 && c->state_dir[len - 1] == '/')
		c->state_dir[--len] = '\0';
	if (len < 2 || len > CONF_TEXT_MAX - 32)
		return err_set(e, -EINVAL, "bad-config",
			       "daemon.state-dir: a directory of its own, at most %d bytes, is wanted",
			       CONF_TEXT_MAX - 32);
	if (!c->mount_dir[0])
		snprintf(c->mount_dir, sizeof(c->mount_dir), "%.*s/mnt", CONF_TEXT_MAX - 32, c->state_dir);
	if (!c->socket[0])
		snprintf(c->socket, sizeof(c->socket), "%.*s/run/api.sock", CONF_TEXT_MAX - 32, c->state_dir);
	if ((c->api_listen[0] && http_address(c->api_listen, &at, &at_len, e) < 0) ||
	    (c->tls_listen[0] && http_address(c->tls_listen, &at, &at_len, e) < 0))
		return err_wrap(e, "api.listen");
	if (!group_ok(c->cgroup_parent))
		return err_set(e, -EINVAL, "bad-config",
			       "sandbox.cgroup-parent: a path of groups is wanted, without a slash at its ends");
	if (c->memory > c->memory_max)
		return err_set(e, -EINVAL, "bad-config", "sandbox.memory is larger than sandbox.memory-max");
	if (c->workspace > c->workspace_max)
		return err_set(e, -EINVAL, "bad-config", "sandbox.workspace is larger than sandbox.workspace-max");
	if (c->ids_first + c->sandboxes * 65536 > UINT32_MAX)
		return err_set(e, -EINVAL, "bad-config",
			       "sandbox.ids-first and sandbox.max reach beyond the ids that there are");
	return 0;
}

void conf_each(const struct conf *c, void (*fn)(void *ctx, const char *section, const char *key, const char *value,
						const char *doc), void *ctx)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(options); i++) {
		const struct option *o = &options[i];
		const char *field = (const char *)c + o->offset;
		char number[32];
		uint64_t n;

		memcpy(&n, field, sizeof(n));
		snprintf(number, sizeof(number), "%llu%s", (unsigned long long)n, o->kind == KIND_TIME ? "ms" : "");
		fn(ctx, o->section, o->key, o->kind >= KIND_NUMBER ? number : field, o->doc);
	}
}
