/* SPDX-License-Identifier: Apache-2.0
 *
 * What call.c and giveup.c share of a call.
 */
#ifndef QUORUMFS_CLIENT_CALL_H
#define QUORUMFS_CLIENT_CALL_H

#include "fs/client/client_internal.h"

#define TRY_AGAIN_MS 100u /* after a lack of memory */

/* ---- call.c ---- */

/* Into the table by its number, and out of it; both count. */
void call_enter(struct client *client, struct call *call);
void call_leave(struct client *client, struct call *call);
void call_free(struct call *call);

/* Takes a call out of its list and the table; done comes in the next turn. A call whose caller has
 * its answer already, or that never had one, is freed. */
void call_end(struct client *client, struct call *call, enum err err);

/* The same with an answer at hand: done is called now. */
void call_finish(struct client *client, struct call *call, enum err err,
                 const Wire__Answer *answer);

/* Deadlines are looked at not later than at_ms. */
void call_wake(struct client *client, uint64_t at_ms);

/* The slot of the next sequence is free. */
bool call_window_is_open(const struct client *client);

/* Packs the request with the numbers that the call has now. ERR_MEMORY, ERR_TOO_BIG: no frame. */
enum err call_pack(struct client *client, struct call *call, Wire__Request *request);

/* ---- giveup.c ---- */

/* The answer of a cancel: the end of its write, and of itself. */
void giveup_canceled(struct client *client, struct call *cancel, enum err err,
                     const Wire__Answer *answer);

/* The own answer of a write has come. False: its cancel decides. */
bool giveup_may_end(struct client *client, struct call *call, enum err err);

#endif
