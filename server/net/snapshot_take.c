/* SPDX-License-Identifier: Apache-2.0
 *
 * The taking side of snapshots. Handed offers and chunks by peer_conn.c; hands the complete folder
 * on to daemon.c.
 *
 * Invariants:
 *   1. One chunk is under way: asked for, or being written. What is at (file, offset) is not yet
 *      asked for; all before it is written.
 *   2. A request of the pool is under way exactly while is_busy; nothing is freed then.
 */
#include "server/net/snapshot_take.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/logging.h"
#include "server/snapshot.h"

#define DIAL_AGAIN_MS   500u   /* after a lost connection */
#define GIVER_SILENT_MS 30000u /* the giver does not answer any more: wait for another offer */
#define PATH_BYTES      700u

struct snapshot_taker {
    uv_loop_t *loop;
    struct peer_conns *peers;
    const char *data;
    void (*complete)(void *arg);
    void *arg;
    uint64_t from;            /* 0: nothing is being taken */
    struct snapshot snapshot; /* what was offered */
    struct peer_conn *conn;
    bool is_open; /* the connection is introduced */
    uint64_t dial_ms;
    uint64_t heard_ms;
    uint32_t file; /* position; file_count: all are there */
    uint64_t offset;
    uv_file fd; /* of `file`; -1: not open */
    bool is_busy;
    bool stopped;
    bool is_complete;
    uv_fs_t request;
    uv_work_t work;
    enum err work_err;
    uint8_t *bytes; /* SNAPSHOT_CHUNK_BYTES, while something is being taken */
    size_t len;
};

/* ---- ends ---- */

static void close_file(struct snapshot_taker *taker)
{
    if (taker->fd >= 0) {
        (void)close(taker->fd);
        taker->fd = -1;
    }
}

static void forget(struct snapshot_taker *taker)
{
    CHECK(!taker->is_busy);
    if (taker->conn != NULL) {
        peer_conn_close_bulk(taker->conn);
        taker->conn = NULL;
    }
    close_file(taker);
    snapshot_done(&taker->snapshot);
    free(taker->bytes);
    taker->bytes = NULL;
    taker->from = 0;
    taker->is_open = false;
}

static void tell_end(struct snapshot_taker *taker, bool installed)
{
    Wire__SnapshotEnd end = WIRE__SNAPSHOT_END__INIT;
    Wire__PeerMessage message = WIRE__PEER_MESSAGE__INIT;

    end.snapshot = taker->snapshot.id;
    end.installed = installed;
    message.body_case = WIRE__PEER_MESSAGE__BODY_SNAPSHOT_END;
    message.snapshot_end = &end;
    peer_conns_send(taker->peers, taker->from, &message);
}

static void give_up(struct snapshot_taker *taker, const char *why, enum err err)
{
    log_warn("snapshot", "not_taken", "peer=%" PRIu64 " index=%" PRIu64 " reason=\"%s\" err=%s",
             taker->from, taker->snapshot.index, why, err_name(err));
    tell_end(taker, false);
    forget(taker);
}

/* ---- the end of the files ---- */

static void sync_all(uv_work_t *work)
{
    struct snapshot_taker *taker = work->data;

    taker->work_err = snapshot_take_end(taker->data, &taker->snapshot);
}

static void on_synced(uv_work_t *work, int status)
{
    struct snapshot_taker *taker = work->data;

    taker->is_busy = false;
    if (taker->stopped) {
        forget(taker);
    } else if (status != 0 || taker->work_err != ERR_OK) {
        give_up(taker, "syncing", taker->work_err);
    } else {
        log_info("snapshot", "taken", "peer=%" PRIu64 " index=%" PRIu64 " files=%zu", taker->from,
                 taker->snapshot.index, taker->snapshot.file_count);
        tell_end(taker, true);
        taker->is_complete = true;
        forget(taker);
        taker->complete(taker->arg);
    }
}

static void finish(struct snapshot_taker *taker)
{
    close_file(taker);
    taker->work.data = taker;
    if (uv_queue_work(taker->loop, &taker->work, sync_all, on_synced) != 0) {
        give_up(taker, "syncing", ERR_MEMORY);
        return;
    }
    taker->is_busy = true;
}

/* ---- chunks ---- */

static enum err open_file(struct snapshot_taker *taker)
{
    char path[PATH_BYTES + SNAPSHOT_NAME_BYTES + 12];

    (void)snprintf(path, sizeof(path), "%.600s/incoming/%s", taker->data,
                   taker->snapshot.files[taker->file].name);
    taker->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    return taker->fd >= 0 ? ERR_OK : ERR_IO;
}

/* Goes behind what is there; true: everything is. Empty files are made on the way. */
static bool advance(struct snapshot_taker *taker, enum err *out_err)
{
    *out_err = ERR_OK;
    while (taker->file < taker->snapshot.file_count && *out_err == ERR_OK) {
        if (taker->fd < 0) {
            *out_err = open_file(taker);
        }
        if (taker->offset < taker->snapshot.files[taker->file].bytes) {
            return false;
        }
        close_file(taker);
        taker->file++;
        taker->offset = 0;
    }
    return *out_err == ERR_OK;
}

static void ask(struct snapshot_taker *taker)
{
    Wire__SnapshotRead read = WIRE__SNAPSHOT_READ__INIT;
    Wire__PeerMessage message = WIRE__PEER_MESSAGE__INIT;
    enum err err = ERR_OK;

    if (taker->is_busy || !taker->is_open) {
        return;
    }
    if (advance(taker, &err)) {
        finish(taker);
        return;
    }
    if (err != ERR_OK) {
        give_up(taker, "opening a file", err);
        return;
    }
    read.snapshot = taker->snapshot.id;
    read.file = taker->file;
    read.offset = taker->offset;
    message.body_case = WIRE__PEER_MESSAGE__BODY_SNAPSHOT_READ;
    message.snapshot_read = &read;
    peer_conn_send_bulk(taker->conn, &message, NULL, 0);
}

static void on_written(uv_fs_t *request)
{
    struct snapshot_taker *taker = request->data;
    ssize_t result = request->result;

    uv_fs_req_cleanup(request);
    taker->is_busy = false;
    if (taker->stopped) {
        forget(taker);
    } else if (result < 0 || (size_t)result != taker->len) {
        give_up(taker, "writing", result < 0 ? err_from_errno((int)-result) : ERR_NO_SPACE);
    } else {
        taker->offset += taker->len;
        ask(taker);
    }
}

enum err snapshot_taker_chunk(struct snapshot_taker *taker, struct peer_conn *conn,
                              const Wire__SnapshotChunk *chunk, const uint8_t *bytes, size_t len)
{
    uint64_t left = 0;
    uv_buf_t written;

    if (conn != taker->conn) {
        return ERR_CLOSED;
    }
    if (taker->is_busy || taker->file >= taker->snapshot.file_count ||
        chunk->snapshot != taker->snapshot.id || chunk->file != taker->file ||
        chunk->offset != taker->offset) {
        return ERR_MALFORMED;
    }
    left = taker->snapshot.files[taker->file].bytes - taker->offset;
    if (len != (left < SNAPSHOT_CHUNK_BYTES ? left : SNAPSHOT_CHUNK_BYTES)) {
        return ERR_MALFORMED;
    }
    taker->heard_ms = clock_monotonic_ms();
    memcpy(taker->bytes, bytes, len);
    taker->len = len;
    taker->request.data = taker;
    written = uv_buf_init((char *)taker->bytes, (unsigned)len);
    if (uv_fs_write(taker->loop, &taker->request, taker->fd, &written, 1, (int64_t)taker->offset,
                    on_written) != 0) {
        return ERR_MEMORY;
    }
    taker->is_busy = true;
    return ERR_OK;
}

/* ---- connections ---- */

static void connect_now(struct snapshot_taker *taker)
{
    taker->is_open = false;
    taker->conn = peer_conns_dial_bulk(taker->peers, taker->from);
    taker->dial_ms = clock_monotonic_ms() + DIAL_AGAIN_MS;
}

void snapshot_taker_opened(struct snapshot_taker *taker, struct peer_conn *conn)
{
    if (conn == taker->conn) {
        taker->is_open = true;
        ask(taker);
    }
}

void snapshot_taker_closed(struct snapshot_taker *taker, struct peer_conn *conn)
{
    if (conn == taker->conn) {
        taker->conn = NULL;
        taker->is_open = false;
        taker->dial_ms = clock_monotonic_ms() + DIAL_AGAIN_MS;
    }
}

void snapshot_taker_turn(struct snapshot_taker *taker, uint64_t now_ms)
{
    if (taker->from == 0 || taker->is_busy || taker->stopped) {
        return;
    }
    if (now_ms > taker->heard_ms + GIVER_SILENT_MS) {
        give_up(taker, "no answer", ERR_TIMEOUT);
    } else if (taker->conn == NULL && now_ms >= taker->dial_ms) {
        connect_now(taker);
    }
}

/* ---- offers ---- */

static enum err copy_offer(struct snapshot *to, const Wire__SnapshotOffer *offer)
{
    if (offer->n_files == 0 || offer->n_files > SNAPSHOT_FILES_MAX || offer->index == 0) {
        return ERR_MALFORMED;
    }
    *to = (struct snapshot){.id = offer->snapshot, .index = offer->index, .term = offer->term};
    to->files = calloc(offer->n_files, sizeof(to->files[0]));
    if (to->files == NULL) {
        return ERR_MEMORY;
    }
    for (size_t i = 0; i < offer->n_files; i++) {
        const Wire__SnapshotOffer__File *file = offer->files[i];
        if (!snapshot_name_is_good((const char *)file->name.data, file->name.len) ||
            file->bytes > INT64_MAX) {
            snapshot_done(to);
            return ERR_MALFORMED;
        }
        memcpy(to->files[i].name, file->name.data, file->name.len);
        to->files[i].bytes = file->bytes;
    }
    to->file_count = offer->n_files;
    return ERR_OK;
}

static enum err begin(struct snapshot_taker *taker, uint64_t from, const Wire__SnapshotOffer *offer)
{
    struct snapshot snapshot;
    enum err err = copy_offer(&snapshot, offer);

    if (err != ERR_OK) {
        return err;
    }
    if (taker->from != 0) {
        forget(taker);
    }
    taker->snapshot = snapshot;
    taker->from = from;
    taker->file = 0;
    taker->offset = 0;
    taker->heard_ms = clock_monotonic_ms();
    taker->bytes = malloc(SNAPSHOT_CHUNK_BYTES);
    err = taker->bytes != NULL ? snapshot_take_begin(taker->data) : ERR_MEMORY;
    if (err != ERR_OK) {
        give_up(taker, "preparing the folder", err);
        return ERR_OK; /* the offer was good */
    }
    log_info("snapshot", "taking", "peer=%" PRIu64 " index=%" PRIu64 " files=%zu", from,
             taker->snapshot.index, taker->snapshot.file_count);
    connect_now(taker);
    return ERR_OK;
}

enum err snapshot_taker_offer(struct snapshot_taker *taker, uint64_t from,
                              const Wire__SnapshotOffer *offer, uint64_t applied)
{
    /* Another giver, while the one of before cannot be reached: it has perhaps died. */
    bool is_other = taker->from != from && !taker->is_open;
    bool is_newer = taker->from == 0 || is_other || offer->index > taker->snapshot.index;

    /* The same one again while it is taken, or one that comes while the pool works: it is offered
     * again. */
    if (taker->stopped || taker->is_complete || taker->is_busy || !is_newer ||
        offer->index <= applied) {
        return ERR_OK;
    }
    return begin(taker, from, offer);
}

/* ---- life ---- */

struct snapshot_taker *snapshot_taker_new(uv_loop_t *loop, struct peer_conns *peers,
                                          const char *data, void (*complete)(void *arg), void *arg)
{
    struct snapshot_taker *taker = calloc(1, sizeof(*taker));

    if (taker != NULL) {
        taker->loop = loop;
        taker->peers = peers;
        taker->data = data;
        taker->complete = complete;
        taker->arg = arg;
        taker->fd = -1;
    }
    return taker;
}

void snapshot_taker_stop(struct snapshot_taker *taker)
{
    taker->stopped = true;
    if (!taker->is_busy) {
        forget(taker);
    } else if (taker->conn != NULL) {
        peer_conn_close_bulk(taker->conn);
        taker->conn = NULL;
    }
}

bool snapshot_taker_is_idle(const struct snapshot_taker *taker)
{
    return !taker->is_busy;
}

void snapshot_taker_free(struct snapshot_taker *taker)
{
    if (taker != NULL) {
        CHECK(snapshot_taker_is_idle(taker));
        forget(taker);
        free(taker);
    }
}
