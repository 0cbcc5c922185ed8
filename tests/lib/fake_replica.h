/* SPDX-License-Identifier: Apache-2.0
 *
 * A replica for the tests of fs/client: listens on a unix socket on the loop of the test, writes
 * down what it is sent and answers as its fields say.
 */
#ifndef QUORUMFS_TESTS_FAKE_REPLICA_H
#define QUORUMFS_TESTS_FAKE_REPLICA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "common/wire.h"

#define FAKE_REQUESTS_MAX 1024u
#define FAKE_NODES_MAX    64u

struct fake_conn;

/* What is kept of a Request. */
struct fake_request {
    uint64_t call;
    uint64_t sequence;
    uint64_t answered_below;
    uint64_t zxid_seen;
    Wire__Request__BodyCase body;
    Wire__Op__BodyCase op;
    uint64_t cancel_sequence;
    size_t connection; /* on which it came, from 1 */
};

struct fake_replica {
    uv_loop_t *loop;
    uv_pipe_t listener;
    char path[96];
    struct fake_conn *conn; /* the newest connection; NULL: none */

    /* How it behaves. */
    bool mute;       /* answers nothing at all */
    bool answering;  /* requests: with OK */
    bool confirming; /* pongs confirm their ping */
    bool old;        /* does not know watches */
    uint64_t leader;
    uint8_t ensemble; /* its id is so many times this byte */
    int32_t open_err;
    int32_t answer_err;
    uint64_t session; /* given to OpenSession with session 0 */
    uint32_t timeout_ms;
    uint64_t zxid; /* of answers; goes up with each */

    /* What it saw. */
    size_t connections;
    size_t hellos;
    size_t opens;
    uint64_t open_session; /* of the last OpenSession */
    uint64_t open_zxid_seen;
    uint64_t epoch;
    size_t pings;
    struct fake_request request[FAKE_REQUESTS_MAX];
    size_t request_count;
    size_t forget_messages;
    size_t forget_nodes;
    size_t reclaim_messages;
    size_t reclaim_nodes;
    uint64_t reclaim_batch; /* newest */
    size_t watches;
    uint64_t watch; /* of the newest Watch */
    bool watch_has_since;
    uint64_t watch_zxid;
    uint32_t watch_skip;
    size_t watch_mores;
    size_t unwatches;
};

/* Listens in `folder`. Defaults: answers all, leader 1, session 7, timeout 10 s. */
void fake_start(struct fake_replica *fake, uv_loop_t *loop, const char *folder, int number);
/* Closes the listener and the connection; run the loop afterwards. */
void fake_stop(struct fake_replica *fake);
/* Breaks the newest connection. */
void fake_break(struct fake_replica *fake);

void fake_answer(struct fake_replica *fake, uint64_t call, int32_t err);
void fake_pong(struct fake_replica *fake);
void fake_event(struct fake_replica *fake, uint64_t zxid, uint64_t ino);
void fake_reclaimed(struct fake_replica *fake, uint64_t batch);
void fake_send(struct fake_replica *fake, const Wire__ToClient *message);
void fake_bytes(struct fake_replica *fake, const void *bytes, size_t len);

#endif
