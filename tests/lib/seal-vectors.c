/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the files of tests/fixtures/seal anew: they change when the format does, and then only. */
#include "base/io.h"
#include "base/str.h"
#include "seal/sealed.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static struct seal_key *key_from(int first)
{
	struct secret *seed = secret_new(32);
	struct seal_key *k = NULL;
	int i;

	for (i = 0; i < 32; i++) {
		secret_use(seed)[i] = (uint8_t)(first + i);
		secret_rest(seed);
	}
	if (seal_key_of(seed, &k) < 0)
		abort();
	secret_free(&seed);
	return k;
}

static void must(int r)
{
	if (r < 0)
		abort();
}

static void put(const char *name, const struct seal_job *job, struct secret *value)
{
	struct buf b;
	struct err e = ERR_NULL;

	buf_init(&b, 0);
	must(seal_secret(job, value, &b, &e));
	must(io_write_file(AT_FDCWD, name, buf_span(&b).p, buf_len(&b), 0644));
	buf_fini(&b);
}

static struct seal_policy everything(void)
{
	struct seal_policy p = { .name = "deploy.key", .delivery = SEAL_FILE, .created_ms = 1700000000000,
				 .expires_ms = 4102444800000, .owner = "user" };

	must(seal_policy_add(&p, SEAL_TEMPLATE, "ci-fix", NULL));
	must(seal_policy_add(&p, SEAL_TEMPLATE, "base", NULL));
	must(seal_policy_add(&p, SEAL_SANDBOX, "b2mg8zv0q6jd1x4k", NULL));
	must(seal_policy_add(&p, SEAL_HOST, "api.github.com", NULL));
	must(seal_policy_add(&p, SEAL_HOST, "*.example.org", NULL));
	must(seal_policy_add(&p, SEAL_HOST, "git.example.org:8443", NULL));
	return p;
}

/* Of version 2. */
static struct seal_policy requests(void)
{
	struct seal_policy p = { .name = "GITHUB_TOKEN", .delivery = SEAL_BROKER, .created_ms = 1700000000000,
				 .per_minute = 120, .body_max = 65536, .answer_max = 1048576, .header = "Authorization",
				 .prefix = "token " };

	must(seal_policy_add(&p, SEAL_HOST, "api.github.com", NULL));
	must(seal_policy_add(&p, SEAL_HOST, "*", NULL));
	must(seal_policy_add(&p, SEAL_METHOD, "GET", NULL));
	must(seal_policy_add(&p, SEAL_METHOD, "PATCH", NULL));
	must(seal_policy_add(&p, SEAL_PATH, "/repos/*/*/issues", NULL));
	must(seal_policy_add(&p, SEAL_PATH, "/user", NULL));
	must(seal_policy_add(&p, SEAL_PATH, "/search/**", NULL));
	return p;
}

static void put_requests(const struct seal_pub *pubs, struct seal_key *signer, struct secret *value)
{
	struct seal_policy p = requests();
	struct seal_job job = { .policy = &p, .to = pubs, .n_to = 1, .form = SEAL_BINARY };

	put("requests.bin", &job, value);
	job = (struct seal_job){ .policy = &p, .to = pubs, .n_to = 2, .signer = signer };
	put("requests.sealed", &job, value);
	seal_policy_fini(&p);
}

int main(int argc, char **argv)
{
	struct seal_key *keys[2];
	struct seal_pub pubs[2];
	struct seal_policy plain = { .name = "GITHUB_TOKEN", .delivery = SEAL_ENV, .created_ms = 1700000000000 }, all;
	struct seal_job job = { .policy = &plain, .to = pubs, .n_to = 1 };
	struct secret *value, *big;
	struct buf b;
	size_t i;

	if (argc != 2 || chdir(argv[1]) < 0 || secret_process() < 0)
		return 2;
	buf_init(&b, 0);
	for (i = 0; i < 2; i++) {
		struct seal_id id;
		char text[SEAL_ID_TEXT];

		keys[i] = key_from(32 * (int)i);
		pubs[i] = *seal_key_pub(keys[i]);
		id = seal_pub_id(&pubs[i]);
		seal_id_text(&id, text);
		buf_printf(&b, "# %s\n", text);
		seal_pub_text(&pubs[i], &b);
		buf_printf(&b, "\n");
	}
	must(io_write_file(AT_FDCWD, "keys", buf_span(&b).p, buf_len(&b), 0644));
	buf_fini(&b);
	value = secret_of(span_str("ghp_0123456789abcdef"));
	job.form = SEAL_BINARY;
	put("plain.bin", &job, value);
	{ /* the same file in its other clothes */
		char command[200];

		snprintf(command, sizeof(command),
			 "(echo '-----BEGIN BERTH SEALED FILE-----'; base64 -w 76 plain.bin; "
			 "echo '-----END BERTH SEALED FILE-----') >plain.sealed; "
			 "printf %%s \"berth-sealed:$(base64 -w 0 plain.bin | tr -d =)\" >plain.word");
		must(system(command) == 0 ? 0 : -1);
	}
	all = everything();
	job = (struct seal_job){ .policy = &all, .to = pubs, .n_to = 2, .signer = keys[1] };
	put("signed.sealed", &job, value);
	put_requests(pubs, keys[1], value);
	job = (struct seal_job){ .policy = &plain, .to = pubs, .n_to = 1, .form = SEAL_BINARY };
	big = secret_new(0);
	put("empty.bin", &job, big);
	secret_free(&big);
	big = secret_new(131073);
	for (i = 0; i < 131073; i++) {
		secret_use(big)[i] = (uint8_t)(i * 7 % 251);
		secret_rest(big);
	}
	put("chunks.bin", &job, big);
	secret_free(&big);
	secret_free(&value);
	seal_policy_fini(&all);
	seal_key_free(&keys[0]);
	seal_key_free(&keys[1]);
	return 0;
}
