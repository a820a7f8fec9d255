/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One file, an agent, a daemon, three connections that break, a daemon that dies: docs/sync-model.md says what stands for
 * what and what is claimed. Checked by tests/model/check, also with each rule of the protocol left out (LEAVE_OUT_…),
 * which must be found.
 *
 * A version of the file is a number; every write makes a new ctime, so the number is the ctime, too.
 */
#ifndef WRITES
#define WRITES 2
#endif
#ifndef FAULTS
#define FAULTS 2
#endif

#define NONE 255

mtype = { TOLD, SYNCED, ACK, FETCH, SYNC };

/* --- what the machine in the sandbox holds ----------------------------------------------------------------------- */

byte guest = 0;          /* version of the file */
bool wrote_all = false;  /* the command has ended */

/* --- the agent: lives as long as the sandbox --------------------------------------------------------------------- */

byte a_told = NONE;      /* last version told on this connection */
byte a_acked = NONE;     /* last one acknowledged on it */
bool a_replicates = false;
bool a_wants = false;    /* the file is to be shipped */
byte a_sent = NONE;      /* the last shipment that was acknowledged as good: a difference may build on it */
byte a_exit = NONE;      /* barrier of the command's end; NONE: not ended, or its end was acknowledged */
bool a_exit_sent = false;
byte a_sync = NONE;      /* barrier of a sync */
bool a_sync_told = false;
/* the shipment under way: 0 none, 1 begun, 2 half read, 3 read, 4 sent and not acknowledged */
byte s_step = 0, s_before = 0, s_first = 0, s_second = 0, s_base = NONE;

/* --- the daemon: durable, then volatile -------------------------------------------------------------------------- */

byte d_meta = 0, d_content = 0;        /* version whose attributes, whose bytes are in the store */
byte h_queue = NONE; bool h_scan;      /* a batch that was received */
bool h_old;                            /* on a connection that is no more */
byte h_done = NONE; bool h_fetch;      /* one that is durable and not yet answered */
bool h_replicates = false;
byte h_ship_ack = NONE; bool h_ship_ok; /* a shipment to be acknowledged */

/* --- a client ---------------------------------------------------------------------------------------------------- */

byte c_since = NONE;     /* version of the file when a sync was asked for; NONE: none is under way */
byte c_step = 0;         /* 1 asked, 2 SYNC sent */
bool c_asked = false;    /* one sync a run */
bool exit_seen = false;

bool tick = false;
bool ctl_up = false, ship_up = false, up = true;
byte faults = 0;

chan to_host = [2] of { mtype, byte, bool };   /* control */
chan to_agent = [3] of { mtype, byte };
chan ended = [1] of { byte };                  /* the stream of the command, a connection of its own */
chan ship = [1] of { byte, byte, byte, byte, bool }; /* before, first half, second half, base, whether it stayed the same */
chan ship_ack = [1] of { byte, bool };

#define pending (d_meta != d_content)
#define covered(v) (a_told != NONE && a_told >= v && a_acked != NONE && a_acked >= v)

inline drain(c)
{
	do
	:: nempty(c) -> c ? _, _
	:: empty(c) -> break
	od
}

inline break_control()
{
	ctl_up = false;
	do
	:: nempty(to_host) -> to_host ? _, _, _
	:: empty(to_host) -> break
	od;
	drain(to_agent);
	h_done = NONE; /* nobody is left to be answered; what was received is still taken */
	h_old = true;
	h_replicates = false;
	a_replicates = false;
#ifndef LEAVE_OUT_SCAN
	a_told = NONE;
	a_acked = NONE;
#endif
	a_wants = (s_step > 0); /* what was to be shipped is told by the scan, and asked for */
	a_sync = NONE;
	a_sync_told = false;
	if
	:: c_step > 0 -> c_step = 1 /* asked again on the next connection */
	:: else
	fi
}

inline break_ship()
{
	ship_up = false;
	do
	:: nempty(ship) -> ship ? _, _, _, _, _
	:: empty(ship) -> break
	od;
	drain(ship_ack);
	h_ship_ack = NONE;
#ifndef LEAVE_OUT_REPEAT
	if
	:: s_step > 0 -> a_wants = true /* what was not acknowledged comes again */
	:: else
	fi;
#endif
	s_step = 0
}

inline die()
{
	break_control();
	break_ship();
	h_queue = NONE;
	do
	:: nempty(ended) -> ended ? _
	:: empty(ended) -> break
	od;
	a_exit_sent = false; /* the record is kept until it was received */
	c_step = 0;
	c_since = NONE; /* the client is told that its connection is gone */
	up = false
}

proctype Command()
{
	byte n = 0;

	do
	:: atomic { n < WRITES -> guest++; n++ }
	:: atomic { n == WRITES -> wrote_all = true; a_exit = guest; break }
	od
}

proctype Agent()
{
	byte v;
	bool good;

end:	do
	/* connections are the host's to make */
	:: atomic { ctl_up && a_replicates && a_told == NONE && nfull(to_host) -> /* the scan */
		a_told = guest;
		to_host ! TOLD, a_told, true }
	:: atomic { ctl_up && a_told != NONE && a_told != guest && nfull(to_host) -> /* an event */
		a_told = guest;
		a_wants = true;
		to_host ! TOLD, a_told, false }
	:: atomic { to_agent ? [ACK, v] -> to_agent ? ACK, v; a_acked = v }
	:: atomic { to_agent ? [FETCH, v] -> to_agent ? FETCH, v; a_wants = true }
	:: atomic { to_agent ? [SYNC, v] -> to_agent ? SYNC, v; a_sync = guest; a_sync_told = false }

	/* the end of a command waits for what it changed */
#ifdef LEAVE_OUT_BARRIER
	:: atomic { a_exit != NONE && !a_exit_sent && up && nfull(ended) ->
#else
	:: atomic { a_exit != NONE && !a_exit_sent && up && covered(a_exit) && nfull(ended) ->
#endif
		a_exit_sent = true;
		ended ! a_exit }

	/* a sync waits for what was told, then for what is to be shipped by then */
	:: atomic { a_sync != NONE && !a_sync_told && covered(a_sync) -> a_sync_told = true }
#ifdef LEAVE_OUT_TICKET
	:: atomic { a_sync != NONE && a_sync_told && nfull(to_host) ->
#else
	:: atomic { a_sync != NONE && a_sync_told && !a_wants && s_step == 0 && nfull(to_host) ->
#endif
		a_sync = NONE;
		a_sync_told = false;
		to_host ! SYNCED, 0, false }

	/* a shipment: attributes, one half, the other half, attributes again */
	:: atomic { ship_up && a_wants && s_step == 0 ->
		a_wants = false;
		s_before = guest;
		s_base = a_sent;
		s_step = 1 }
	:: atomic { s_step == 1 -> s_first = guest; s_step = 2 }
	:: atomic { s_step == 2 -> s_second = guest; s_step = 3 }
	:: atomic { s_step == 3 && ship_up && nfull(ship) ->
#ifdef LEAVE_OUT_END
		ship ! s_before, s_first, s_second, s_base, true;
#else
		ship ! s_before, s_first, s_second, s_base, (guest == s_before);
		if
		:: guest != s_before -> a_wants = true /* all of it is void */
		:: else
		fi;
#endif
		s_step = 4 }
	:: atomic { ship_ack ? [v, good] -> ship_ack ? v, good;
		s_step = 0;
		if
		:: good -> a_sent = v
		:: else -> a_sent = NONE; a_wants = true
		fi }
	od
}

proctype Daemon()
{
	byte v, before, first, second, base;
	bool scan, same;

end:	do
	:: atomic { !up -> up = true }
	:: atomic { up && !ctl_up -> ctl_up = true }
	:: atomic { up && ctl_up && !h_replicates -> h_replicates = true; a_replicates = true }
	:: atomic { up && !ship_up -> ship_up = true }

	:: atomic { up && h_queue == NONE && h_done == NONE && to_host ? [TOLD, v, scan] ->
		to_host ? TOLD, v, scan;
#ifdef LEAVE_OUT_COMMIT
		h_done = v; h_fetch = scan;
#endif
		h_queue = v;
		h_old = false;
		h_scan = scan }
	/* one transaction, durable */
	:: atomic { up && h_queue != NONE ->
		d_meta = h_queue;
#ifndef LEAVE_OUT_COMMIT
		if
#ifdef LEAVE_OUT_NUMBERS
		:: ctl_up -> h_done = h_queue; h_fetch = h_scan && pending
#else
		:: ctl_up && !h_old -> h_done = h_queue; h_fetch = h_scan && pending
#endif
		:: else
		fi;
#endif
		h_queue = NONE }
	/* a file that was written unannounced is asked for before the answer that lets a barrier pass */
	:: atomic { up && h_done != NONE && ctl_up && len(to_agent) < 2 ->
#ifndef LEAVE_OUT_FETCH
		if
		:: h_fetch -> to_agent ! FETCH, 0
		:: else
		fi;
#endif
		to_agent ! ACK, h_done;
		h_done = NONE;
		h_fetch = false }

	/* the end of a command */
	:: atomic { up && ended ? [v] ->
		ended ? v;
		assert(d_meta >= v); /* run, then ls */
		exit_seen = true;
		a_exit = NONE }

	/* a shipment is a transaction of its own, and acknowledged behind it */
	:: atomic { up && h_ship_ack == NONE && ship ? [before, first, second, base, same] ->
		ship ? before, first, second, base, same;
		h_ship_ack = before;
		h_ship_ok = true;
		if
		:: !same -> h_ship_ok = false; h_ship_ack = before
#ifndef LEAVE_OUT_BASE
		:: same && base != NONE && base != d_content -> h_ship_ok = false
		:: same && (base == NONE || base == d_content) ->
#else
		:: same ->
#endif
			assert(first == before && second == before); /* never torn */
			assert(base == NONE || base == d_content);   /* a difference lies on what it was made from */
			assert(before >= d_content);                 /* never back */
			d_content = before;
			if
			:: before > d_meta -> d_meta = before /* it brings its attributes */
			:: else
			fi
		fi }
	:: atomic { up && h_ship_ack != NONE && ship_up && nfull(ship_ack) ->
		ship_ack ! h_ship_ack, h_ship_ok;
		h_ship_ack = NONE }

	/* a client's sync */
	:: atomic { up && !c_asked -> c_asked = true; c_since = guest; c_step = 1 }
	:: atomic { up && c_step == 1 && ctl_up && h_replicates && nfull(to_agent) -> to_agent ! SYNC, 0; c_step = 2 }
	:: atomic { up && to_host ? [SYNCED, v, scan] ->
		to_host ? SYNCED, v, scan;
		if
		:: c_step == 2 ->
			assert(d_content >= c_since); /* a sync that succeeds is durable */
			c_step = 0;
			c_since = NONE
		:: else
		fi }
	od
}

proctype Faults()
{
	do
	:: atomic { faults < FAULTS && ctl_up -> faults++; break_control() }
	:: atomic { faults < FAULTS && ship_up -> faults++; break_ship() }
	:: atomic { faults < FAULTS && up -> faults++; die() }
	:: break
	od
}

#ifdef LIVE
/* Time goes on: a state in which nobody can do anything is a run that stays there, and counts against what must come. */
proctype Time()
{
end:	do
	:: tick -> tick = false
	:: !tick -> tick = true
	od
}
#endif

init {
	atomic { run Command(); run Agent(); run Daemon(); run Faults() }
#ifdef LIVE
	run Time()
#endif
}

/* When nothing fails any more, the host comes to equal the guest and stays so, and the end of the command is seen. */
ltl converges { <>[] (wrote_all && exit_seen && d_meta == guest && d_content == guest) }
