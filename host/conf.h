/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_CONF_H
#define HOST_CONF_H

/*
 * The configuration: defaults, then one ini file, then the environment (BERTHD_SECTION_KEY), then flags
 * (--set section.key=value). It is checked completely before anything starts and constant afterwards.
 * libinih's only home is conf.c. berthd.conf(5) is the page for people; a test holds both together.
 */
#include "base/err.h"

#include <stdint.h>

enum { CONF_TEXT_MAX = 256, CONF_POOLS_MAX = 16 };

struct conf {
	char state_dir[CONF_TEXT_MAX];
	char mount_dir[CONF_TEXT_MAX];	/* "": STATE/mnt */
	char socket[CONF_TEXT_MAX];	/* "": STATE/run/api.sock */
	char agent[CONF_TEXT_MAX];
	char interpreter[CONF_TEXT_MAX];
	char broker[CONF_TEXT_MAX], broker_user[CONF_TEXT_MAX], services[CONF_TEXT_MAX];
	char user[CONF_TEXT_MAX], guest_user[CONF_TEXT_MAX], group[CONF_TEXT_MAX];
	char log_level[CONF_TEXT_MAX], log_form[CONF_TEXT_MAX], log_commands[CONF_TEXT_MAX];
	char watch_output[CONF_TEXT_MAX], watch_files[CONF_TEXT_MAX];
	char box[CONF_TEXT_MAX], at_stop[CONF_TEXT_MAX], cgroup_parent[CONF_TEXT_MAX];
	uint64_t sandboxes, memory, memory_max, workspace, workspace_max, cpu, pids, timeout, bases, bases_size,
		layers_size;
	uint64_t ids_first;
	uint64_t open_timeout, fuse_threads, takeover, calm_rate;
	char api_listen[CONF_TEXT_MAX];
	char tls_listen[CONF_TEXT_MAX], tls_cert[CONF_TEXT_MAX], tls_key[CONF_TEXT_MAX], domain[CONF_TEXT_MAX];
	uint64_t body_max, connections, failures, api_threads, head_timeout;
	uint64_t map_size, disk_low, disk_stop;
	char net_mode[CONF_TEXT_MAX], net_internet[CONF_TEXT_MAX], net_private[CONF_TEXT_MAX], net_dns[CONF_TEXT_MAX];
	uint64_t net_ready;
	struct {
		char template_[65]; /* str_is_id */
		unsigned want;
	} pools[CONF_POOLS_MAX]; /* of section [pool], whose keys are names of templates */
	unsigned n_pools;
	char image_tool[CONF_TEXT_MAX], image_allow[CONF_TEXT_MAX], image_user[CONF_TEXT_MAX];
	uint64_t image_room, image_size, image_timeout;
	uint64_t gc_interval, keep_stopped, keep_stopped_count, keep_snapshots;
};

/** conf_default() - what holds when nothing is said. */
void conf_default(struct conf *c);
/** conf_file() - read an ini file over it. Return: 0; -EINVAL with file, line, and what would be right; -errno. */
int conf_file(struct conf *c, const char *path, struct err *e) MUST_CHECK;
/** conf_environment() - BERTHD_* variables; unknown ones are errors. */
int conf_environment(struct conf *c, char *const *env, struct err *e) MUST_CHECK;
/** conf_set() - "section.key=value". */
int conf_set(struct conf *c, const char *assignment, struct err *e) MUST_CHECK;
/** conf_finish() - fill what depends on other values and check them together. */
int conf_finish(struct conf *c, struct err *e) MUST_CHECK;
/** conf_each() - every option with its documentation and present value, for --help and the man page's test. */
void conf_each(const struct conf *c, void (*fn)(void *ctx, const char *section, const char *key, const char *value,
						const char *doc), void *ctx);

#endif
