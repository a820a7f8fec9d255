/* SPDX-License-Identifier: Apache-2.0 */
/* Rows and nodes of the store. First byte: which. What unpacks packs to something that unpacks alike, and what is built
 * from any fields comes back as it was. */
#include "host/store/tree-node.h"

#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int seen(void *ctx, const struct digest *tree, const struct content *content)
{
	++*(unsigned *)ctx;
	if (!tree == !content)
		abort();
	return 0;
}

static void tree(struct span node)
{
	struct tree_entry en;
	struct tree_root root;
	struct digest d;
	struct span name;
	enum tree_kind kind;
	uint32_t count, i;
	unsigned refs = 0;
	size_t at;

	(void)!tree_each_ref(node, seen, &refs);
	if (tree_head_check(node, &kind, &count) < 0)
		return;
	for (at = TREE_HEAD, i = 0; i < count && tree_entry_unpack(node, &at, &en) == 0; i++)
		if (at > node.len || en.name.len > 255)
			abort();
	for (at = TREE_HEAD, i = 0; i < count && tree_index_unpack(node, &at, &d, &name) == 0; i++)
		if (at > node.len)
			abort();
	(void)!tree_root_unpack(node, &root);
}

/* An entry made of these bytes, in a leaf of its own. */
static void build(struct span s)
{
	static uint8_t node[TREE_HEAD + TREE_ENTRY_MAX];
	struct tree_entry en = { .mode = S_IFLNK | 0777 }, back;
	size_t at = TREE_HEAD, len, n = s.len < 2 ? 0 : ((const uint8_t *)s.p)[0];

	if (n == 0 || n + 2 > s.len || s.len - n - 1 > 4095 || memchr(s.p, '/', s.len) || memchr(s.p, 0, s.len))
		return;
	en.name = SPAN((const uint8_t *)s.p + 1, n);
	en.extra = SPAN((const uint8_t *)s.p + 1 + n, s.len - n - 1);
	en.mtime_ns = (int64_t)s.len * 7919;
	tree_head(node, TREE_LEAF, 0, 1);
	len = tree_entry_pack(&en, node + TREE_HEAD);
	if (tree_entry_unpack(SPAN(node, TREE_HEAD + len), &at, &back) < 0 || at != TREE_HEAD + len ||
	    !span_eq(back.name, en.name) || !span_eq(back.extra, en.extra) || back.mtime_ns != en.mtime_ns)
		abort();
}

static void journal(struct span s)
{
	static uint8_t out[JOURNAL_HEAD + JOURNAL_NAME_MAX];
	struct journal_row row, again;
	size_t len;

	if (journal_unpack(s, 7, &row) != 0)
		return;
	len = journal_pack(&row, out);
	if (journal_unpack(SPAN(out, len), 7, &again) != 0 || again.fid != row.fid || again.kind != row.kind ||
	    !span_eq(again.name, row.name))
		abort();
}

static void inode(struct span s)
{
	uint8_t out[NODE_REC_MAX];
	struct node n, again;
	size_t len;

	if (node_unpack(s, 5, &n) != 0)
		return;
	len = node_pack(&n, out);
	if (node_unpack(SPAN(out, len), 5, &again) != 0 || again.mode != n.mode || again.size != n.size ||
	    again.content.size != n.content.size)
		abort();
}

static void keys(struct span s)
{
	struct access_key access;
	uint64_t a, b;
	struct span name;
	uint32_t count;

	(void)!key_u64_parse(s, &a);
	(void)!key_entry_parse(s, &a, &name);
	(void)!key_name_parse(s, &a, &b, &name);
	(void)!list_check(s, 1, &count);
	(void)!access_unpack(s, s, &access);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const what[])(struct span) = { tree, build, journal, inode, keys };

	if (size)
		what[data[0] % ARRAY_LEN(what)](SPAN(data + 1, size - 1));
	return 0;
}
