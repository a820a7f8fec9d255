/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_WS_OP_H
#define HOST_WS_OP_H

/* One change that the host asked for, on its way: to the agent and back (live), or to the store (stopped). */
#include "host/ws/state.h"

enum op_kind { OP_MAKE, OP_LINK, OP_REMOVE, OP_RENAME, OP_SETATTR, OP_WRITE, OP_XATTR, OP_ALLOC, OP_RESTORE, OP_GRAFT };

struct op {
	enum op_kind kind;
	struct ws *ws; /* a reference */
	uint64_t fid, parent, to_parent, offset, len;
	uint32_t mode, flags;
	bool append, live; /* live: the agent has performed it */
	bool is_shown;	   /* by who asks: WS_SHOWN */
	bool is_own;	   /* who asks is the mount: it does not wait for the disk, and knows what its change did */
	bool is_gone;	   /* an extended attribute: it is to be taken away */
	char *name, *to_name; /* owned */
	char *xattr;	      /* owned: the name of one, a user's; @data is its value, @flags those of setxattr(2) */
	struct span target;   /* owned bytes */
	struct span data;     /* owned bytes */
	struct ws_attr attr;
	bool keep_top; /* of what is grafted: the attributes of the place stay; @len: what the store took for it */
	char *path; /* owned, as the next: what is restored or grafted, and what the journal says of it */
	char *words;
	char **ret_place; /* borrowed: where a graft could not go on; yours */
	struct digest from, to;
	ws_done_fn *fn;
	void *ctx;

	int result; /* what the agent said */
	bool has_node;
	struct msg_NODE told; /* by the agent, without its target; its extended attributes are owned */
	struct msg_NODE dirs[2]; /* in which a name changed, as told; likewise */
	unsigned n_dirs;
	unsigned tries;		  /* how often the agent did not find it, and was asked again */
	struct loop_timer *timer; /* until then; the loop's */
	struct node node;	  /* as committed */
};

/* op.c: by whom and how it is performed now; and give the answer, which ends it. */
void op_start(struct op *op);
void op_answer(struct op *op);
/* retry.c: the agent did not find it where the store knows it: ask again soon. Return: false: no, that is the answer.
 */
bool op_retry(struct op *op);
/* local.c: perform it in the store alone, inside the pass. Return: 0 and op->node (when has_node); -errno. */
int op_local(struct ws_pass *p, struct op *op);
/* known.c: put those of the pass's changes first that the kernel has to be told; of the others, which it made itself,
 * inodes are told once more later. Before the commit. Return: how many are first. known_drop(): forget the others. */
size_t known_part(struct ws_pass *p, const struct op *op);
void known_drop(ws_changes *list, size_t n);
/* kept.c: may it be done to a live workspace? @other as op_ask() has it. Return: 0; -EPERM. */
int kept_allow(const struct op *op, struct txn *t, const char *path, const char *other);
/* Lay what fallocate() does over a content. @size: that of the file behind it. Return: as content_finish(). */
int op_allocate(struct ws_pass *p, const struct op *op, struct content *c, uint64_t size);
/* past.c: the workspace, sealed as op->from, becomes op->to at op->path. Return: 0; -EAGAIN: it is not op->from. */
int local_restore(struct ws_pass *p, struct op *op);
/* graft.c: the tree op->to is laid over what is at op->path. Return: 0; -ENOENT; -ENOTDIR, -EISDIR, -EEXIST
 * where something else stands, with the path in *op->ret_place; -EDQUOT; -EMLINK. */
int local_graft(struct ws_pass *p, struct op *op);
/* local.c: a name in a directory came or went; @links: how many directories. And it is taken away from an inode whose
 * link count follows. */
void local_touch(struct ws_pass *p, uint64_t fid, int links);
void local_unname(struct ws_pass *p, uint64_t parent, const char *name, struct node *n);
/* Unpack a directory inside the pass, when it is a stub. */
int pass_unpack(struct ws_pass *p, uint64_t fid);

#endif
