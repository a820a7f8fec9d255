/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_LINK_LINK_H
#define HOST_LINK_LINK_H

/*
 * The host end of one agent: a control connection, a connection for shipped contents, and dials for streams. The link
 * lives on the daemon's loop; calls may come from any thread. When a connection breaks the link dials again until it is
 * closed; calls under way fail with -EPIPE and are not repeated (the callers know which of them may be).
 *
 * The agent is hostile: it can make a link hold at most LINK_IN_MAX unread bytes and LINK_CALLS_MAX open calls.
 */
#include "base/err.h"
#include "loop/loop.h"
#include "loop/pool.h"
#include "wire/msg.h"

#include <stdbool.h>

/* The agent is of generation 1 or 2: what it does not know is not sent to it (wire_since()); a call then fails with
 * -ENOSYS, slug "agent-too-old". */
enum { LINK_CALLS_MAX = 4096, LINK_OUT_MAX = 128 * 1024 * 1024, LINK_DIAL_MS = 10000 };

struct link;

/* Called on the loop's thread. Payloads are borrowed for the call. */
struct link_events {
	/** both connections stand; @boot tells a restarted agent from the same one, @disk another file system */
	void (*up)(void *ctx, uint64_t boot, uint64_t disk);
	/** a connection broke; calls under way have failed; the link goes on dialling */
	void (*down)(void *ctx, const char *why);
	/** a frame that is no reply: CHANGES and SHIP, SHIP_DATA, SHIP_END */
	void (*frame)(void *ctx, unsigned type, struct span payload);
	void *ctx;
};

/** link_new() - begin to dial @address (xport.h) on the threads of @dial. @token: WIRE_TOKEN_LEN bytes, copied. Any
 * thread. */
struct link *link_new(struct loop *loop, struct pool *dial, const char *address, const char *id, const void *token,
		      const struct link_events *events);
/** link_hangup() - close the connections for good; calls under way fail with -EPIPE, later ones too. Any thread. */
void link_hangup(struct link *link);
/** link_sleep() - close the connections and do not dial until link_wake(); calls meanwhile fail with -EPIPE. When it
 * returns the agent's end may still have to notice. Any thread. */
void link_sleep(struct link *link);
void link_wake(struct link *link);
/** link_close() - hang up and release; when it returns no callback runs or will run. Destructor; not on the loop's
 * thread while the loop runs. */
void link_close(struct link **link);

/**
 * The end of a call, on the loop's thread.
 * @result: 0, and @msg is the reply's struct (its spans borrowed for the call); or -errno with words in @e:
 *	    what the agent answered, -ETIMEDOUT, -EPIPE (no connection)
 */
typedef void link_reply_fn(void *ctx, int result, unsigned type, const void *msg, const struct err *e);

/** link_call() - send a request whose first field is the call id (set here) and have @fn called exactly once. Any
 * thread.
 * @msg: the struct of @type; encoded before we return. */
void link_call(struct link *link, enum msg_type type, void *msg, uint64_t until, link_reply_fn *fn, void *ctx);
/** link_call_now() - the same, but sent from the caller's thread when nothing is to go before it: that spares waking
 * the loop. That its deadline passed is seen in link_tick(), which whoever uses this calls about once a second, on the
 * loop. */
void link_call_now(struct link *link, enum msg_type type, void *msg, uint64_t until, link_reply_fn *fn, void *ctx);
void link_tick(struct link *link);
/** link_send() - a frame on the control connection that has no reply (FETCH, CHANGES_ACK). Dropped when it is down. */
void link_send(struct link *link, enum msg_type type, const void *msg);
/** link_send_ship() - a frame on the ship connection (WINDOW, SHIP_ACK). */
void link_send_ship(struct link *link, enum msg_type type, const void *msg);
/** link_speaks() - does the agent that answered last know this message? Any thread. */
bool link_speaks(const struct link *link, enum msg_type type);
/** link_send_ships() - whole frames for it, of the first generation; @frames is empty afterwards. */
void link_send_ships(struct link *link, struct buf *frames);
/** link_pause() - stop or go on reading what the agent tells (replies to calls wait too): backpressure. Loop thread. */
void link_pause(struct link *link, bool on);

/** link_restart() - hang up, with @why as the reason, and dial anew after @delay_ms: the agent then tells everything
 * that was not acknowledged. Any thread. */
void link_restart(struct link *link, unsigned delay_ms, const char *why);

/** link_wait() - a call made to wait for: as link_call(), but blocks the caller until the reply; not on the loop's
 * thread.
 * @reply: called with the reply on the loop's thread before we return, may be NULL. Return: 0 or -errno as above. */
int link_wait(struct link *link, enum msg_type type, void *msg, uint64_t until, link_reply_fn *reply, void *ctx,
	      struct err *e);
/** link_wait_up() - block until both connections stand. Return: 0; -ETIMEDOUT; -EACCES (hello refused). */
int link_wait_up(struct link *link, uint64_t until, struct err *e);
/** link_dial() - a new connection for a stream (WIRE_EXEC, WIRE_TUNNEL), hello done; blocking, not on the loop's
 * thread. The descriptor is non-blocking and yours. Return: 0; -ENOSYS slug "agent-too-old"; -errno. */
int link_dial(struct link *link, unsigned kind, uint64_t until, int *ret_fd, struct err *e) MUST_CHECK;
/** link_dial_to() - the same without a link: for tests and tools. */
int link_dial_to(const char *address, const char *id, const void *token, unsigned kind, uint64_t until,
		 uint64_t *ret_boot, int *ret_fd, struct err *e) MUST_CHECK;

/*
 * Services: streams that the guest asks for. An ASK of a name that nobody serves is refused.
 */
struct link_service {
	/** loop's thread: somebody inside connected; open a WIRE_TUNNEL with TUNNEL_TAKE, or link_refuse() */
	void (*ask)(void *ctx, uint64_t ask);
	/** loop's thread: the link was hung up, the service is forgotten; nothing is called after this */
	void (*gone)(void *ctx);
	void *ctx;
};

/** link_serve() - answer for @name; not on the loop's thread. Return: 0; -EEXIST; -EPIPE (hung up, or no connection);
 * -EAGAIN (too many). */
int link_serve(struct link *link, const char *name, const struct link_service *service, struct err *e) MUST_CHECK;
/** link_unserve() - answer no longer, and have the agent stop listening under this name. Loop's thread, and not after
 * gone(). */
void link_unserve(struct link *link, const char *name);
/** link_refuse() - nobody takes this stream. Loop's thread. */
void link_refuse(struct link *link, uint64_t ask);

#endif
