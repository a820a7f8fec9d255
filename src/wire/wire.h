/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

/* Numbers that both ends of the wire share, beside the messages of msg.def. */

enum { WIRE_GENERATION = 7, WIRE_TOKEN_LEN = 32 };

enum wire_kind { WIRE_CONTROL = 1, WIRE_EXEC = 2, WIRE_SHIP = 3, WIRE_TUNNEL = 4, WIRE_FILL = 5, WIRE_PLACE = 6 };
/* of PLACE_DO */
enum wire_place {
	WIRE_PLACE_STAT = 1,
	WIRE_PLACE_LIST = 2,
	WIRE_PLACE_MAKE = 3,
	WIRE_PLACE_MOVE = 4,
	WIRE_PLACE_REMOVE = 5,
	WIRE_PLACE_READ = 6,
	WIRE_PLACE_WRITE = 7,
	WIRE_PLACE_WATCH = 8
};
enum wire_stream { WIRE_IN = 0, WIRE_OUT = 1, WIRE_ERR = 2 };
enum wire_stdin { WIRE_STDIN_NONE = 0, WIRE_STDIN_CLOSED = 1, WIRE_STDIN_STREAM = 2 }; /* /dev/null; closed fd; pipe */
enum wire_exit { WIRE_EXITED = 0, WIRE_SIGNALED = 1, WIRE_TIMED_OUT = 2, WIRE_LOST = 3, WIRE_OOM = 4 };

enum { WIRE_FS_CREATE = 1, WIRE_FS_EXCL = 2, WIRE_FS_TRUNC = 4, WIRE_FS_APPEND = 8, WIRE_FS_REPLACE = 16 };
enum { WIRE_FS_DIR = 1, WIRE_FS_TREE = 2 };
enum {
	WIRE_ATTR_MODE = 1,
	WIRE_ATTR_UID = 2,
	WIRE_ATTR_GID = 4,
	WIRE_ATTR_SIZE = 8,
	WIRE_ATTR_MTIME = 16,
	WIRE_ATTR_ATIME = 32,
	WIRE_ATTR_MTIME_NOW = 64,
	WIRE_ATTR_ATIME_NOW = 128,
};
enum { WIRE_XATTR_CREATE = 1, WIRE_XATTR_REPLACE = 2, WIRE_XATTR_NODE = 4 };
enum { WIRE_CHG_SCAN = 1, WIRE_CHG_SCAN_END = 2, WIRE_CHG_OVERFLOW = 4 };
enum { WIRE_CMD_FIRST = 1, WIRE_CMD_LAST = 2 };
enum { WIRE_ENT_GONE = 1, WIRE_ENT_WRITTEN = 2, WIRE_ENT_ONLY = 4, WIRE_ENT_NAMES = 8 };

enum {
	WIRE_STDIN_WINDOW = 256 * 1024, /* standard input under way beyond what was acknowledged */
	WIRE_SHIP_WINDOW = 4 * 1024 * 1024,
	WIRE_SHIP_LARGE = 1024 * 1024, /* a longer file may wait for its credit, and leaves so much of it to others */
	WIRE_UMASK_SET = 01000,
	WIRE_TUNNEL_WINDOW = 256 * 1024, /* data of a tunnel under way, each direction */
	WIRE_RING = 256 * 1024, /* output kept for replay, per stream */
	WIRE_CHANGES_UNACKED = 64,
};

/** wire_since() - the generation that a message came with: it is sent to no peer that speaks an older one. */
static inline unsigned wire_since(unsigned type)
{
	if (type == 0x29)
		return 7;
	if (type == 0x27 || type == 0x28)
		return 6;
	if (type == 0x1b || type == 0x26)
		return 5;
	if (type == 0x54 || (type >= 0x7a && type <= 0x7e))
		return 4;
	return type == 0x79 ? 3 : (type >= 0x60 && type < 0x80) || type == 0x2e ? 2 : 1;
}

#endif
