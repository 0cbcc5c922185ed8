/* SPDX-License-Identifier: Apache-2.0
 *
 * A simulated client and its connection to a replica. Included by sim.h.
 */
#ifndef QUORUMFS_TESTS_SIM_CLIENT_H
#define QUORUMFS_TESTS_SIM_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/limits.h"
#include "common/wire.h"

struct sim;
struct sim_node;

#define SIM_CLIENTS    4u
#define SIM_WINDOW     4u /* unanswered writes of a client */
#define SIM_SESSION_MS 3000u
#define SIM_PINGS      64u /* whose send times a client remembers */

struct client_conn {
    struct client_conn *next_made;
    struct sim_client *owner;
    struct sim_node *node;
    uint64_t node_life;
    struct client *server; /* NULL: not accepted, or gone */
    bool closed;           /* by the client */
    uint64_t to_node_us;   /* FIFO: the last delivery so far */
    uint64_t to_client_us;
    uint64_t zxid;       /* the newest state that this connection has shown */
    uint64_t event_zxid; /* of the newest event */
    uint64_t zxid_floor; /* a welcome shows nothing older */
};

enum sim_write_kind {
    SIM_WRITE_SETUP,  /* the directory, then the own register */
    SIM_WRITE_CREATE, /* a sequential node */
    SIM_WRITE_SET,    /* the own register */
    SIM_WRITE_STAGE,  /* a part of the next value of the own register */
    SIM_WRITE_COMMIT, /* the own register, from its parts */
    SIM_WRITE_DROP,   /* the parts, of which some came too late */
    SIM_WRITE_MULTI,  /* a sequential node and the own register, or neither */
    SIM_WRITE_XATTR,  /* an attribute of the own register */
    SIM_WRITE_LOCK,   /* an ephemeral node that only one can have */
    SIM_WRITE_UNLOCK,
    SIM_WRITE_CLOSE, /* of the session */
};

struct sim_write {
    uint64_t sequence; /* 0: free */
    enum sim_write_kind kind;
    uint64_t value;
};

/* What a client with promises keeps of a register. */
struct sim_cached {
    bool valid;
    uint64_t ino;
    uint64_t zxid;
    uint64_t grant;
};

struct sim_client {
    struct sim *sim;
    uint64_t id;
    struct client_conn *conn;
    uint64_t silent; /* the replica that was asked last and has not welcomed; 0: none */
    bool promises;
    bool attached;
    bool reclaiming;  /* what is cached is not yet known to be fresh */
    bool closing;     /* has asked for the end of its session */
    bool holds_nonce; /* asked and not answered: may ask again with the same one */
    uint64_t session;
    uint64_t epoch;
    uint8_t password[PASSWORD_BYTES];
    uint8_t nonce[16];
    uint64_t nonce_us; /* first sent */
    uint64_t last_sequence;
    struct sim_write write[SIM_WINDOW];
    struct sim_cached cached[SIM_CLIENTS];
    bool has_lock;
    uint64_t last_call;
    uint64_t read_call; /* of the read in flight; 0: none */
    uint64_t read_of;   /* whose register */
    uint64_t read_floor;
    uint64_t zxid_seen;
    uint64_t hello_us;
    uint64_t last_heard_us;
    uint64_t ping; /* of this connection */
    uint64_t ping_at_us;
    uint64_t ping_us[SIM_PINGS];
    uint64_t lease_us; /* send time of what was last confirmed, in this session */
    uint64_t setup;    /* setup writes done */
    uint64_t values;   /* given out */
    uint64_t writes_done;
    uint64_t reads_done;
    uint64_t writes_at_heal;
};

/* ---- clients of a node (sim_serve.c) ---- */

void sim_serve_send(void *context, struct client_conn *conn, const Wire__ToClient *message);
void sim_serve_close(void *context, struct client_conn *conn, const char *reason);
void sim_serve_resume(void *context, struct client_conn *conn);
void sim_serve_crashed(struct sim_node *node);
struct client_conn *sim_serve_accept(struct sim_client *client, struct sim_node *node);
void sim_serve_post(struct client_conn *conn, const Wire__ToReplica *message); /* NULL: close */

/* ---- clients (sim_client.c) and what they ask (sim_load.c) ---- */

void sim_client_init(struct sim *sim, struct sim_client *client, uint64_t id);
void sim_client_receive(struct client_conn *conn, const Wire__ToClient *message); /* NULL: closed */
void sim_client_leave(struct sim_client *client);
bool sim_client_has_lease(const struct sim_client *client);

void sim_load_tick(struct sim_client *client);
void sim_load_resend(struct sim_client *client);
void sim_load_answered(struct sim_client *client, const Wire__Answer *answer);
void sim_load_event(struct sim_client *client, const Wire__Event *event);
void sim_load_reclaim(struct sim_client *client);
/* The connection has shown the state `zxid`: what is cached must be as fresh. */
void sim_load_shown(struct sim_client *client, uint64_t zxid);
void sim_load_close(struct sim_client *client);

#endif
