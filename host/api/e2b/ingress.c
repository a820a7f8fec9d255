/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How what listens inside is reached from outside: by everybody or with a token, and under which name. It is chosen
 * when a sandbox is made, and remembered with it. The token is derived like that of its door, so it needs no place.
 */
#include "host/api/e2b/e2b.h"

#include "base/str.h"
#include "seal/digest.h"
#include "seal/secret.h"

#include <errno.h>
#include <stdio.h>

enum { MASK_MAX = 253, HTTPS_PORTS_MAX = 64 };

#define HEADER "e2b-traffic-access-token"
#define PORT "${PORT}"

static bool is_mask(const char *s)
{
	AUTO(str_free) char *rest = must_strdup(s);
	char *at;

	while ((at = strstr(rest, PORT)))
		memset(at, '0', strlen(PORT));
	return strlen(s) <= MASK_MAX &&
	       strspn(rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]") == strlen(rest);
}

static int check_ports(const struct json *ports, struct err *e)
{
	size_t i;

	if (ports && !json_len(ports) && !json_is_empty(ports))
		return err_set(e, -EINVAL, "bad-network", "httpsPorts is an array of ports");
	if (json_len(ports) > HTTPS_PORTS_MAX)
		return err_set(e, -EINVAL, "bad-network", "httpsPorts: at most %d", HTTPS_PORTS_MAX);
	for (i = 0; i < json_len(ports); i++)
		if (json_number(json_at(ports, i), 0) - 1 >= UINT16_MAX)
			return err_set(e, -EINVAL, "bad-network", "httpsPorts: a port is a number from 1 to 65535");
	return 0;
}

static void put_ports(struct json_writer *w, const struct json *ports)
{
	size_t i;

	jw_key(w, "httpsPorts");
	jw_open(w, '[');
	for (i = 0; i < json_len(ports); i++)
		jw_u64(w, json_number(json_at(ports, i), 0));
	jw_close(w, ']');
}

int e2b_read_ingress(const struct json *network, struct json_writer *w, struct err *e)
{
	const char *mask = json_get_str(network, "maskRequestHost", "");
	int r;

	r = check_ports(json_get(network, "httpsPorts"), e);
	if (r < 0)
		return r;
	if (!is_mask(mask))
		return err_set(e, -EINVAL, "bad-network",
			       "maskRequestHost: \"%.80s\" is no name of a host, with " PORT " in it or not", mask);
	jw_key(w, "ingress");
	jw_open(w, '{');
	jw_key(w, "closed");
	jw_bool(w, !json_get_bool(network, "allowPublicTraffic", true));
	jw_kstr(w, "mask", mask);
	put_ports(w, json_get(network, "httpsPorts"));
	jw_close(w, '}');
	return 0;
}

void e2b_put_ingress(struct json_writer *w, const struct json *memory)
{
	const struct json *ingress = json_get(memory, "ingress");
	const char *mask = json_get_str(ingress, "mask", "");

	jw_key(w, "allowPublicTraffic");
	jw_bool(w, !json_get_bool(ingress, "closed", false));
	if (*mask)
		jw_kstr(w, "maskRequestHost", mask);
	if (json_len(json_get(ingress, "httpsPorts")))
		put_ports(w, json_get(ingress, "httpsPorts"));
}

static int token_of(struct e2b *e2b, const char *id, char ret[E2B_TOKEN + 1], struct err *e)
{
	struct digest d;
	int r = hub_derive(e2b->hub, id, "traffic", &d, e);

	if (r == 0)
		str_hex(d.b, E2B_TOKEN / 2, ret);
	return r;
}

void e2b_put_traffic(struct e2b *e2b, struct json_writer *w, const char *id)
{
	AUTO(json_free) struct json *memory = NULL;
	char token[E2B_TOKEN + 1];

	if (e2b_memory(e2b, id, &memory, NULL) == 0 && json_get_bool(json_get(memory, "ingress"), "closed", false) &&
	    token_of(e2b, id, token, NULL) == 0)
		jw_kstr(w, "trafficAccessToken", token);
}

int e2b_admit_traffic(struct e2b *e2b, struct http_req *req, const char *id, struct err *e)
{
	AUTO(json_free) struct json *memory = NULL;
	const char *given = http_header(req, HEADER);
	char right[E2B_TOKEN + 1];
	int r = e2b_memory(e2b, id, &memory, e);

	if (r == 0 && !json_get_bool(json_get(memory, "ingress"), "closed", false))
		return 0;
	if (r == 0)
		r = token_of(e2b, id, right, e);
	if (r < 0)
		return r;
	if (!given || !*given)
		return err_set(e, -EACCES, "traffic-token",
			       "Sandbox is secured with traffic access token. Token header '" HEADER "' is missing");
	if (strlen(given) != E2B_TOKEN || !secret_eq(given, right, E2B_TOKEN))
		return err_set(e, -EACCES, "traffic-token",
			       "Sandbox is secured with traffic access token. Provided token in header '" HEADER
			       "' is invalid");
	return 0;
}

bool e2b_speaks_tls(struct e2b *e2b, const char *id, uint64_t port)
{
	AUTO(json_free) struct json *memory = NULL;
	const struct json *ports;
	size_t i;

	if (e2b_memory(e2b, id, &memory, NULL) < 0)
		return false;
	ports = json_get(json_get(memory, "ingress"), "httpsPorts");
	for (i = 0; i < json_len(ports); i++)
		if (json_number(json_at(ports, i), 0) == port)
			return true;
	return false;
}

char *e2b_mask_host(struct e2b *e2b, const char *id, uint64_t port)
{
	AUTO(json_free) struct json *memory = NULL;
	AUTO(buf_fini) struct buf b;
	const char *mask, *at;

	buf_init(&b, 4096);
	if (e2b_memory(e2b, id, &memory, NULL) < 0)
		return NULL;
	mask = json_get_str(json_get(memory, "ingress"), "mask", "");
	if (!*mask)
		return NULL;
	while ((at = strstr(mask, PORT))) {
		buf_printf(&b, "%.*s%llu", (int)(at - mask), mask, (unsigned long long)port);
		mask = at + strlen(PORT);
	}
	buf_printf(&b, "%s", mask);
	return must_strdup(buf_str(&b));
}
