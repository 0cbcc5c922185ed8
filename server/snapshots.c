/* SPDX-License-Identifier: Apache-2.0
 *
 * The joint of the snapshots: the conductor says who needs one, the store makes the checkpoint, the
 * giving side streams it, the taking side of the other replica gathers it, and daemon.c installs it
 * when it begins anew.
 *
 * Invariant: `pinned` is the entry behind which a taker under way will go on: entries above it stay
 * in the log (CONSENSUS 12).
 */
#include "server/snapshots.h"

#include <openssl/rand.h>
#include <stdlib.h>

#include "common/limits.h"
#include "common/logging.h"
#include "server/net/snapshot_send.h"
#include "server/net/snapshot_take.h"

#define BYTES_PER_S ((uint64_t)64 * MIB) /* to one taker */

struct snapshots {
    const char *data;
    void (*complete)(void *arg);
    void *arg;
    struct replica *replica;
    struct store *store;
    struct snapshot_sender *sender;
    struct snapshot_taker *taker;
    uint64_t pinned; /* UINT64_MAX: nothing is */
    bool started;
};

/* ---- struct snapshot_sender_env ---- */

static enum err checkpoint(void *context, const char *folder, uint64_t *out_index,
                           uint64_t *out_term)
{
    struct snapshots *snapshots = context;

    *out_index = replica_applied(snapshots->replica, out_term);
    return store_checkpoint_start(snapshots->store, folder);
}

static void pin(void *context, uint64_t index)
{
    ((struct snapshots *)context)->pinned = index;
}

static void ended(void *context, uint64_t replica, uint64_t index)
{
    replica_snapshot_ended(((struct snapshots *)context)->replica, replica, index);
}

/* Names a snapshot: two of one replica must differ. */
static uint64_t random_name(void *context)
{
    uint64_t name = 0;

    (void)context;
    (void)RAND_bytes((unsigned char *)&name, sizeof(name));
    return name != 0 ? name : 1;
}

/* ---- struct bulk_events ---- */

static enum err on_offer(void *arg, uint64_t from, const Wire__SnapshotOffer *offer)
{
    struct snapshots *snapshots = arg;
    uint64_t term = 0;

    if (!snapshots->started) {
        return ERR_OK; /* it is offered again */
    }
    return snapshot_taker_offer(snapshots->taker, from, offer,
                                replica_applied(snapshots->replica, &term));
}

static enum err on_end(void *arg, uint64_t from, const Wire__SnapshotEnd *end)
{
    return snapshot_sender_end(((struct snapshots *)arg)->sender, from, end);
}

static void on_opened(void *arg, struct peer_conn *conn)
{
    snapshot_taker_opened(((struct snapshots *)arg)->taker, conn);
}

static enum err on_read(void *arg, struct peer_conn *conn, const Wire__SnapshotRead *read)
{
    return snapshot_sender_read(((struct snapshots *)arg)->sender, conn, read);
}

static enum err on_chunk(void *arg, struct peer_conn *conn, const Wire__SnapshotChunk *chunk,
                         const uint8_t *bytes, size_t len)
{
    return snapshot_taker_chunk(((struct snapshots *)arg)->taker, conn, chunk, bytes, len);
}

static void on_closed(void *arg, struct peer_conn *conn)
{
    struct snapshots *snapshots = arg;

    snapshot_sender_closed(snapshots->sender, conn);
    snapshot_taker_closed(snapshots->taker, conn);
}

struct bulk_events snapshots_events(struct snapshots *snapshots)
{
    return (struct bulk_events){
        .arg = snapshots,
        .offer = on_offer,
        .end = on_end,
        .opened = on_opened,
        .read = on_read,
        .chunk = on_chunk,
        .closed = on_closed,
    };
}

/* ---- life ---- */

struct snapshots *snapshots_new(const char *data, void (*complete)(void *arg), void *arg)
{
    struct snapshots *snapshots = calloc(1, sizeof(*snapshots));

    if (snapshots != NULL) {
        snapshots->data = data;
        snapshots->complete = complete;
        snapshots->arg = arg;
        snapshots->pinned = UINT64_MAX;
    }
    return snapshots;
}

enum err snapshots_open(struct snapshots *snapshots, uv_loop_t *loop, struct replica *replica,
                        struct store *store, struct peer_conns *peers)
{
    const struct snapshot_sender_env env = {
        .context = snapshots,
        .checkpoint = checkpoint,
        .pin = pin,
        .ended = ended,
        .random = random_name,
    };

    snapshots->replica = replica;
    snapshots->store = store;
    snapshots->sender = snapshot_sender_new(loop, peers, snapshots->data, BYTES_PER_S, &env);
    snapshots->taker =
        snapshot_taker_new(loop, peers, snapshots->data, snapshots->complete, snapshots->arg);
    return snapshots->sender != NULL && snapshots->taker != NULL ? ERR_OK : ERR_MEMORY;
}

void snapshots_wanted(struct snapshots *snapshots, uint64_t replica)
{
    snapshot_sender_wanted(snapshots->sender, replica);
}

uint64_t snapshots_compactable(const struct snapshots *snapshots, uint64_t index)
{
    return snapshots->pinned != UINT64_MAX && index > snapshots->pinned + 1 ? snapshots->pinned + 1
                                                                            : index;
}

void snapshots_start(struct snapshots *snapshots)
{
    snapshots->started = true;
}

void snapshots_turn(struct snapshots *snapshots, uint64_t now_ms)
{
    enum err err = ERR_OK;

    if (store_checkpoint_poll(snapshots->store, &err)) {
        snapshot_sender_checkpointed(snapshots->sender, err);
    }
    snapshot_sender_turn(snapshots->sender, now_ms);
    snapshot_taker_turn(snapshots->taker, now_ms);
}

void snapshots_stop(struct snapshots *snapshots)
{
    snapshot_sender_stop(snapshots->sender);
    snapshot_taker_stop(snapshots->taker);
}

void snapshots_free(struct snapshots *snapshots)
{
    if (snapshots != NULL) {
        snapshot_sender_free(snapshots->sender);
        snapshot_taker_free(snapshots->taker);
        free(snapshots);
    }
}
