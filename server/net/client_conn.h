/* SPDX-License-Identifier: Apache-2.0
 *
 * The connections of clients, of one replica. Hands their messages to the conductor; gives the
 * conductor's answers to their streams. Thread: that of the loop.
 */
#ifndef QUORUMFS_NET_CLIENT_CONN_H
#define QUORUMFS_NET_CLIENT_CONN_H

#include <stdint.h>
#include <uv.h>

#include "common/wire.h"
#include "server/net/stream.h"
#include "server/replica.h"

struct client_conns;

/* NULL: no memory. Both outlive it. */
struct client_conns *client_conns_new(struct stream_hub *hub, struct replica *replica);

/* Closes all. They are gone, and this may be freed, when client_conns_count is 0. */
void client_conns_close(struct client_conns *conns);
size_t client_conns_count(const struct client_conns *conns);
void client_conns_free(struct client_conns *conns);

/* Takes a connection that waits at `server`; `arg` is the struct client_conns (for
 * listener_start). */
void client_conns_accept(void *arg, uv_stream_t *server);

/* To be called about once a second: closes those that are silent from the start, and those that do
 * not take the end of what was sent. */
void client_conns_sweep(struct client_conns *conns, uint64_t now_ms);

/* ---- struct replica_env ---- */

void client_conn_send(struct client_conn *conn, const Wire__ToClient *message);
void client_conn_end(struct client_conn *conn, const char *reason);
void client_conn_resume(struct client_conn *conn);

#endif
