/* SPDX-License-Identifier: Apache-2.0
 *
 * The giving side of snapshots. Handed wishes and reads by daemon.c and peer_conn.c; the files are
 * those of a checkpoint of the store.
 *
 * Invariants:
 *   1. While a taker is served, the checkpoint stays and the log behind it is pinned: else the
 *      taker would need a snapshot again when it has one (CONSENSUS 12).
 *   2. At most one read of a connection is under way: a taker cannot make us hold more than one
 *      chunk for it beyond what its stream holds.
 */
#include "server/net/snapshot_send.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/logging.h"
#include "server/snapshot.h"

#define TAKER_SILENT_MS 30000u /* a taker that does not read is given up */
#define OFFER_AGAIN_MS  500u   /* the offer was lost, or the taker was not ready for it */
#define PATH_BYTES      700u
#define READS_MAX       4u /* reads of one connection that wait */

/* A replica that takes, or waits for the checkpoint. */
struct taker {
    uint64_t replica;    /* 0: free */
    bool reads;          /* it has begun */
    uint64_t offered_ms; /* 0: not yet */
    uint64_t heard_ms;
};

/* One bulk connection from a taker. */
struct reader {
    LIST_ENTRY(reader) link;
    struct snapshot_sender *sender;
    uint64_t replica;       /* the taker */
    struct peer_conn *conn; /* NULL: closed; freed when no request is under way */
    Wire__SnapshotRead wanted[READS_MAX];
    size_t wanted_count;
    bool is_busy; /* reading, or waiting for its rate */
    uv_fs_t request;
    uv_timer_t timer;
    uv_file fd;
    uint32_t fd_file; /* what is open: the position among the files; UINT32_MAX: nothing */
    uint64_t due_ms;  /* the next chunk may go then */
    uint8_t *bytes;   /* SNAPSHOT_CHUNK_BYTES */
};

struct snapshot_sender {
    uv_loop_t *loop;
    struct peer_conns *peers;
    const char *data;
    uint64_t bytes_per_s;
    struct snapshot_sender_env env;
    char folder[PATH_BYTES];
    struct snapshot snapshot; /* id 0: none */
    bool checkpointing;
    bool stopped;
    struct taker taker[MEMBERS_MAX];
    LIST_HEAD(, reader) readers;
};

/* ---- takers ---- */

static struct taker *find_taker(struct snapshot_sender *sender, uint64_t replica)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (sender->taker[i].replica == replica) {
            return &sender->taker[i];
        }
    }
    return NULL;
}

static bool has_takers(const struct snapshot_sender *sender)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (sender->taker[i].replica != 0) {
            return true;
        }
    }
    return false;
}

/* The checkpoint is of no use any more. */
static void drop_snapshot(struct snapshot_sender *sender)
{
    if (sender->snapshot.id != 0) {
        (void)snapshot_remove_folder(sender->folder); /* open files stay readable */
        snapshot_done(&sender->snapshot);
    }
    sender->env.pin(sender->env.context, UINT64_MAX);
}

static void end_taker(struct snapshot_sender *sender, struct taker *taker, uint64_t index)
{
    uint64_t replica = taker->replica;

    *taker = (struct taker){.replica = 0};
    log_info("snapshot", index != 0 ? "given" : "not_given", "peer=%" PRIu64 " index=%" PRIu64,
             replica, index);
    sender->env.ended(sender->env.context, replica, index);
    if (!has_takers(sender) && !sender->checkpointing) {
        drop_snapshot(sender);
    }
}

static void offer(struct snapshot_sender *sender, struct taker *taker)
{
    const struct snapshot *snapshot = &sender->snapshot;
    Wire__SnapshotOffer message_offer = WIRE__SNAPSHOT_OFFER__INIT;
    Wire__PeerMessage message = WIRE__PEER_MESSAGE__INIT;
    Wire__SnapshotOffer__File *files = calloc(snapshot->file_count, sizeof(*files));
    Wire__SnapshotOffer__File **list = calloc(snapshot->file_count, sizeof(*list));

    if (files != NULL && list != NULL) {
        for (size_t i = 0; i < snapshot->file_count; i++) {
            wire__snapshot_offer__file__init(&files[i]);
            files[i].name = wire_bytes(snapshot->files[i].name, strlen(snapshot->files[i].name));
            files[i].bytes = snapshot->files[i].bytes;
            list[i] = &files[i];
        }
        message_offer.snapshot = snapshot->id;
        message_offer.index = snapshot->index;
        message_offer.term = snapshot->term;
        message_offer.n_files = snapshot->file_count;
        message_offer.files = list;
        message.body_case = WIRE__PEER_MESSAGE__BODY_SNAPSHOT_OFFER;
        message.snapshot_offer = &message_offer;
        peer_conns_send(sender->peers, taker->replica, &message);
        taker->offered_ms = clock_monotonic_ms();
    }
    free(files);
    free(list);
}

static void offer_all(struct snapshot_sender *sender)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (sender->taker[i].replica != 0 && sender->taker[i].offered_ms == 0) {
            offer(sender, &sender->taker[i]);
        }
    }
}

static void end_all(struct snapshot_sender *sender)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (sender->taker[i].replica != 0) {
            end_taker(sender, &sender->taker[i], 0);
        }
    }
}

void snapshot_sender_wanted(struct snapshot_sender *sender, uint64_t replica)
{
    struct taker *taker = find_taker(sender, replica);
    enum err err = ERR_OK;

    if (sender->stopped || taker != NULL) {
        return;
    }
    taker = find_taker(sender, 0);
    if (taker == NULL) {
        sender->env.ended(sender->env.context, replica, 0);
        return;
    }
    *taker = (struct taker){.replica = replica, .heard_ms = clock_monotonic_ms()};
    if (sender->checkpointing) {
        return;
    }
    if (sender->snapshot.id != 0) {
        offer(sender, taker);
        return;
    }
    err = snapshot_remove_folder(sender->folder);
    if (err == ERR_OK) {
        err = sender->env.checkpoint(sender->env.context, sender->folder, &sender->snapshot.index,
                                     &sender->snapshot.term);
    }
    if (err != ERR_OK) {
        log_warn("snapshot", "checkpoint_failed", "folder=\"%s\" err=%s", sender->folder,
                 err_name(err));
        end_taker(sender, taker, 0);
        return;
    }
    sender->checkpointing = true;
    sender->env.pin(sender->env.context, sender->snapshot.index);
}

void snapshot_sender_checkpointed(struct snapshot_sender *sender, enum err err)
{
    sender->checkpointing = false;
    if (sender->stopped) {
        return;
    }
    if (err == ERR_OK) {
        err = snapshot_list(sender->folder, &sender->snapshot);
    }
    if (err != ERR_OK) {
        log_warn("snapshot", "checkpoint_failed", "folder=\"%s\" err=%s", sender->folder,
                 err_name(err));
        end_all(sender);
        return;
    }
    sender->snapshot.id = sender->env.random(sender->env.context);
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        sender->taker[i].heard_ms = clock_monotonic_ms(); /* the checkpoint took its time */
    }
    log_info("snapshot", "checkpoint", "index=%" PRIu64 " files=%zu", sender->snapshot.index,
             sender->snapshot.file_count);
    offer_all(sender);
    if (!has_takers(sender)) {
        drop_snapshot(sender);
    }
}

void snapshot_sender_turn(struct snapshot_sender *sender, uint64_t now_ms)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        struct taker *taker = &sender->taker[i];
        if (taker->replica == 0 || taker->offered_ms == 0) {
            continue;
        }
        if (now_ms > taker->heard_ms + TAKER_SILENT_MS) {
            end_taker(sender, taker, 0);
        } else if (!taker->reads && now_ms > taker->offered_ms + OFFER_AGAIN_MS) {
            offer(sender, taker);
        }
    }
}

enum err snapshot_sender_end(struct snapshot_sender *sender, uint64_t from,
                             const Wire__SnapshotEnd *end)
{
    struct taker *taker = find_taker(sender, from);

    if (from != 0 && taker != NULL && sender->snapshot.id == end->snapshot) {
        end_taker(sender, taker, end->installed ? sender->snapshot.index : 0);
    }
    return ERR_OK;
}

/* ---- reading ---- */

static void close_file(struct reader *reader)
{
    if (reader->fd_file != UINT32_MAX) {
        (void)close(reader->fd);
        reader->fd_file = UINT32_MAX;
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct reader *reader = handle->data;

    close_file(reader);
    LIST_REMOVE(reader, link);
    free(reader->bytes);
    free(reader);
}

/* The connection has gone: the struct goes when nothing is under way. */
static void let_go(struct reader *reader)
{
    reader->conn = NULL;
    if (!reader->is_busy) {
        uv_close((uv_handle_t *)&reader->timer, on_timer_closed);
    }
}

static void serve(struct reader *reader);

/* What was asked for cannot be given: the taker begins anew. */
static void fail(struct reader *reader, enum err err)
{
    log_warn("snapshot", "read_failed", "peer=%" PRIu64 " err=%s", peer_conn_replica(reader->conn),
             err_name(err));
    peer_conn_close_bulk(reader->conn);
    let_go(reader);
}

static void send_chunk(struct reader *reader, size_t len)
{
    const Wire__SnapshotRead *wanted = &reader->wanted[0];
    struct snapshot_sender *sender = reader->sender;
    Wire__SnapshotChunk chunk = WIRE__SNAPSHOT_CHUNK__INIT;
    Wire__PeerMessage message = WIRE__PEER_MESSAGE__INIT;
    struct taker *taker = find_taker(sender, peer_conn_replica(reader->conn));

    chunk.snapshot = wanted->snapshot;
    chunk.file = wanted->file;
    chunk.offset = wanted->offset;
    message.body_case = WIRE__PEER_MESSAGE__BODY_SNAPSHOT_CHUNK;
    message.snapshot_chunk = &chunk;
    peer_conn_send_bulk(reader->conn, &message, reader->bytes, len);
    if (taker != NULL) {
        taker->reads = true;
        taker->heard_ms = clock_monotonic_ms();
    }
    reader->due_ms = clock_monotonic_ms() + len * 1000u / sender->bytes_per_s;
    reader->wanted_count--;
    memmove(&reader->wanted[0], &reader->wanted[1],
            reader->wanted_count * sizeof(reader->wanted[0]));
}

static void on_read(uv_fs_t *request)
{
    struct reader *reader = request->data;
    ssize_t result = request->result;

    uv_fs_req_cleanup(request);
    reader->is_busy = false;
    if (reader->conn == NULL) {
        let_go(reader);
    } else if (result < 0) {
        fail(reader, err_from_errno((int)-result));
    } else {
        send_chunk(reader, (size_t)result);
        serve(reader);
    }
}

static enum err open_file(struct reader *reader, uint32_t file)
{
    const struct snapshot *snapshot = &reader->sender->snapshot;
    char path[PATH_BYTES + SNAPSHOT_NAME_BYTES + 2];

    if (reader->fd_file == file) {
        return ERR_OK;
    }
    close_file(reader);
    (void)snprintf(path, sizeof(path), "%s/%s", reader->sender->folder, snapshot->files[file].name);
    reader->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (reader->fd < 0) {
        return ERR_IO;
    }
    reader->fd_file = file;
    return ERR_OK;
}

static void on_due(uv_timer_t *timer)
{
    struct reader *reader = timer->data;

    reader->is_busy = false;
    if (reader->conn == NULL) {
        let_go(reader);
    } else {
        serve(reader);
    }
}

/* Begins the next read, or the waiting for its time. */
static void serve(struct reader *reader)
{
    const struct snapshot *snapshot = &reader->sender->snapshot;
    const Wire__SnapshotRead *wanted = &reader->wanted[0];
    uint64_t now_ms = clock_monotonic_ms();
    uv_buf_t room = uv_buf_init((char *)reader->bytes, SNAPSHOT_CHUNK_BYTES);
    enum err err = ERR_OK;
    int status = 0;

    if (reader->is_busy || reader->wanted_count == 0) {
        return;
    }
    if (now_ms < reader->due_ms) {
        reader->is_busy = true;
        uv_timer_start(&reader->timer, on_due, reader->due_ms - now_ms, 0);
        return;
    }
    if (snapshot->id == 0 || wanted->snapshot != snapshot->id ||
        wanted->file >= snapshot->file_count) {
        fail(reader, ERR_NO_NODE); /* the checkpoint has gone meanwhile */
        return;
    }
    err = open_file(reader, wanted->file);
    if (err == ERR_OK) {
        reader->request.data = reader;
        status = uv_fs_read(reader->sender->loop, &reader->request, reader->fd, &room, 1,
                            (int64_t)wanted->offset, on_read);
        err = status == 0 ? ERR_OK : ERR_MEMORY;
    }
    if (err != ERR_OK) {
        fail(reader, err);
        return;
    }
    reader->is_busy = true;
}

static struct reader *find_reader(struct snapshot_sender *sender, const struct peer_conn *conn)
{
    struct reader *reader = NULL;

    LIST_FOREACH(reader, &sender->readers, link)
    {
        if (reader->conn == conn) {
            return reader;
        }
    }
    return NULL;
}

static struct reader *new_reader(struct snapshot_sender *sender, struct peer_conn *conn)
{
    struct reader *reader = calloc(1, sizeof(*reader));
    uint8_t *bytes = malloc(SNAPSHOT_CHUNK_BYTES);

    if (reader == NULL || bytes == NULL || uv_timer_init(sender->loop, &reader->timer) != 0) {
        free(reader);
        free(bytes);
        return NULL;
    }
    reader->sender = sender;
    reader->replica = peer_conn_replica(conn);
    reader->conn = conn;
    reader->bytes = bytes;
    reader->fd_file = UINT32_MAX;
    reader->timer.data = reader;
    LIST_INSERT_HEAD(&sender->readers, reader, link);
    return reader;
}

enum err snapshot_sender_read(struct snapshot_sender *sender, struct peer_conn *conn,
                              const Wire__SnapshotRead *read)
{
    struct reader *reader = find_reader(sender, conn);

    if (sender->stopped) {
        return ERR_CLOSED;
    }
    if (reader == NULL) {
        reader = new_reader(sender, conn);
        if (reader == NULL) {
            return ERR_MEMORY;
        }
    }
    if (reader->wanted_count == READS_MAX || read->offset > INT64_MAX) {
        return ERR_MALFORMED;
    }
    reader->wanted[reader->wanted_count++] = *read;
    serve(reader);
    return ERR_OK;
}

void snapshot_sender_closed(struct snapshot_sender *sender, struct peer_conn *conn)
{
    struct reader *reader = find_reader(sender, conn);
    struct taker *taker = reader != NULL ? find_taker(sender, reader->replica) : NULL;

    if (taker != NULL) {
        taker->reads = false; /* it may have died, and know nothing of the offer any more */
        taker->offered_ms = clock_monotonic_ms();
    }
    if (reader != NULL) {
        let_go(reader);
    }
}

/* ---- life ---- */

struct snapshot_sender *snapshot_sender_new(uv_loop_t *loop, struct peer_conns *peers,
                                            const char *data, uint64_t bytes_per_s,
                                            const struct snapshot_sender_env *env)
{
    struct snapshot_sender *sender = calloc(1, sizeof(*sender));

    if (sender == NULL) {
        return NULL;
    }
    sender->loop = loop;
    sender->peers = peers;
    sender->data = data;
    sender->bytes_per_s = bytes_per_s;
    sender->env = *env;
    (void)snprintf(sender->folder, sizeof(sender->folder), "%s/checkpoint", data);
    LIST_INIT(&sender->readers);
    return sender;
}

void snapshot_sender_stop(struct snapshot_sender *sender)
{
    struct reader *reader = NULL;
    struct reader *next = NULL;

    sender->stopped = true;
    for (reader = LIST_FIRST(&sender->readers); reader != NULL; reader = next) {
        next = LIST_NEXT(reader, link);
        if (reader->conn != NULL) {
            peer_conn_close_bulk(reader->conn);
            if (uv_is_active((uv_handle_t *)&reader->timer)) {
                (void)uv_timer_stop(&reader->timer);
                reader->is_busy = false;
            }
            let_go(reader);
        }
    }
}

bool snapshot_sender_is_idle(const struct snapshot_sender *sender)
{
    return LIST_EMPTY(&sender->readers);
}

void snapshot_sender_free(struct snapshot_sender *sender)
{
    if (sender != NULL) {
        CHECK(snapshot_sender_is_idle(sender));
        snapshot_done(&sender->snapshot);
        free(sender);
    }
}
