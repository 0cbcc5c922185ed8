/* SPDX-License-Identifier: Apache-2.0
 *
 * The rim of a replica: gives the conductor its environment (sockets, log, store, clock) and one
 * turn per round of the loop. Called by main.c; hands on to replica.c.
 *
 * Invariants:
 *   1. A turn is: frames that waited, the conductor, the writes; it runs before each waiting.
 *   2. Before the ensemble has formed, log and identity belong to this thread; the log thread starts
 *      with consensus.
 *   3. The identity says "formed" only when the log holds its entry 1.
 */
#include "server/daemon.h"

#include <inttypes.h>
#include <openssl/rand.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#if __has_include(<systemd/sd-daemon.h>)
#include <systemd/sd-daemon.h>
#define HAVE_SYSTEMD 1
#endif

#include "common/check.h"
#include "common/clock.h"
#include "server/identity.h"
#include "server/log/log.h"
#include "server/net/client_conn.h"
#include "server/net/listener.h"
#include "server/net/peer_conn.h"
#include "server/replica.h"
#include "server/snapshot.h"
#include "server/snapshots.h"
#include "server/store/store.h"

#define SWEEP_MS      1000u
#define HAND_OVER_MS  1000u /* a leader that leaves waits this long for its successor */
#define LISTENERS_MAX (LISTEN_MAX + 2u)

struct daemon {
    const struct config *config;
    struct replica_identity identity;
    struct handshake_self self;
    int lock_fd;
    uv_loop_t loop;
    uv_prepare_t prepare;
    uv_idle_t again; /* active: another turn is due at once */
    uv_timer_t timer;
    uv_async_t woken; /* by the log and the store thread */
    uv_signal_t on_term;
    uv_signal_t on_int;
    struct stream_hub hub;
    struct log *log;
    struct log_state log_state;
    struct log_thread *log_thread;
    struct store *store;
    struct replica *replica;
    struct client_conns *clients;
    struct peer_conns *peers;
    struct raft_members dialed; /* before there are peers: whom to dial */
    struct listener *client_listener[LISTENERS_MAX];
    size_t client_listener_count;
    struct listener *peer_listener;
    struct snapshots *snapshots;
    bool installing; /* a snapshot waits for the log to fit it */
    bool start_due;  /* consensus starts in the next turn */
    bool is_serving;
    uint64_t sweep_ms;
    uint64_t leave_ms; /* SIGTERM came; at the latest then */
    bool is_leaving;
    bool begin_anew; /* a snapshot is complete: to be installed by a new beginning */
    bool has_left;
    bool failed;
};

/* ---- struct replica_env ---- */

static void env_send_raft(void *context, const struct raft_message *message)
{
    peer_conns_send_raft(((struct daemon *)context)->peers, message);
}

static void env_send(void *context, uint64_t replica, const Wire__PeerMessage *message)
{
    peer_conns_send(((struct daemon *)context)->peers, replica, message);
}

static bool env_is_connected(void *context, uint64_t replica)
{
    return peer_conns_is_connected(((struct daemon *)context)->peers, replica);
}

static bool env_has_room(void *context, uint64_t replica)
{
    return peer_conns_unsent_bytes(((struct daemon *)context)->peers, replica) <
           FORWARD_UNSENT_BYTES_MAX;
}

static void env_client_send(void *context, struct client_conn *conn, const Wire__ToClient *message)
{
    (void)context;
    client_conn_send(conn, message);
}

static void env_client_close(void *context, struct client_conn *conn, const char *reason)
{
    (void)context;
    client_conn_end(conn, reason);
}

static void env_client_resume(void *context, struct client_conn *conn)
{
    (void)context;
    client_conn_resume(conn);
}

static enum err env_log_submit(void *context, const struct log_save *save)
{
    return log_thread_submit(((struct daemon *)context)->log_thread, save);
}

static enum err env_log_read(void *context, uint64_t index, size_t bytes_max, size_t count_max,
                             struct raft_entry **out, size_t *out_count)
{
    return log_read(((struct daemon *)context)->log, index, bytes_max, count_max, out, out_count);
}

static enum err env_log_term(void *context, uint64_t index, uint64_t *out_term)
{
    return log_term(((struct daemon *)context)->log, index, out_term);
}

static uint64_t env_log_index_of_bytes(void *context, uint64_t bytes)
{
    return log_index_of_bytes(((struct daemon *)context)->log, bytes);
}

static void env_log_compact(void *context, uint64_t index)
{
    struct daemon *daemon = context;

    log_thread_compact(daemon->log_thread, snapshots_compactable(daemon->snapshots, index));
}

static void env_members(void *context, const struct raft_members *members)
{
    struct daemon *daemon = context;

    if (daemon->peers != NULL) {
        peer_conns_set_members(daemon->peers, members);
    } else {
        daemon->dialed = *members; /* not yet: open_replica */
    }
}

static void env_snapshot_wanted(void *context, uint64_t replica)
{
    snapshots_wanted(((struct daemon *)context)->snapshots, replica);
}

static bool env_store_is_full(void *context)
{
    return store_is_full(((struct daemon *)context)->store);
}

static void env_store_poll(void *context, uint64_t now_ms, uint64_t log_bytes)
{
    store_poll(((struct daemon *)context)->store, now_ms, log_bytes);
}

static void env_disk_space(void *context, uint64_t *out_total, uint64_t *out_free)
{
    store_disk_space(((struct daemon *)context)->store, out_total, out_free);
}

/* A replica that must not go on stops at once: what it would send from here on may be wrong. */
_Noreturn static void env_fail(void *context, enum err err, const char *what)
{
    (void)context;
    log_error("daemon", "failed", "what=\"%s\" err=%s action=exit", what, err_name(err));
    _exit(1);
}

static void env_random(void *context, void *to, size_t count)
{
    if (RAND_bytes(to, (int)count) != 1) {
        env_fail(context, ERR_IO, "random bytes");
    }
}

/* ---- forming ---- */

/* Entry 1 into the log, which may hold one of a forming that was cut off. */
static enum err log_found(struct daemon *daemon, const struct replica_identity *identity)
{
    struct buffer members = {0};
    struct raft_entry *entry = NULL;
    enum err err = raft_members_encode(&identity->founders, &members);

    if (err == ERR_OK && daemon->log_state.last_index != 0) {
        err = log_truncate(daemon->log, daemon->log_state.first_index);
    }
    if (err == ERR_OK) {
        entry = raft_entry_new(RAFT_ENTRY_MEMBERS, members.data, members.len);
        err = entry != NULL ? ERR_OK : ERR_MEMORY;
    }
    if (err == ERR_OK) {
        entry->index = 1;
        entry->term = 1;
        entry->time_ns = identity->founded_ns;
        err = log_append(daemon->log, &entry, 1);
        raft_entry_unref(entry);
    }
    buffer_done(&members);
    return err;
}

static void env_formed(void *context, const struct replica_identity *identity)
{
    struct daemon *daemon = context;
    struct buffer error = {0};
    enum err err = log_found(daemon, identity);

    if (err != ERR_OK) {
        env_fail(context, err, "writing the first entry");
    }
    err = identity_save(daemon->config->data, identity, &error);
    if (err != ERR_OK) {
        env_fail(context, err, error.data != NULL ? (const char *)error.data : "identity");
    }
    daemon->identity = *identity;
    daemon->log_state = (struct log_state){
        .term = daemon->log_state.term,
        .vote = daemon->log_state.vote,
        .first_index = 1,
        .last_index = 1,
        .last_term = 1,
        .last_time_ns = identity->founded_ns,
    };
    daemon->start_due = true;
    uv_async_send(&daemon->woken);
}

/* ---- snapshots ---- */

/* All files of a snapshot wait in the data folder: this replica begins anew and installs them. */
static void snapshot_complete(void *arg)
{
    struct daemon *daemon = arg;

    log_info("daemon", "begins_anew", "reason=\"a snapshot is to be installed\"");
    daemon->begin_anew = true;
    uv_async_send(&daemon->woken);
}

/* ---- turns ---- */

static void wake(void *arg)
{
    uv_async_send(&((struct daemon *)arg)->woken);
}

static void on_woken(uv_async_t *async)
{
    (void)async; /* it only ends the waiting */
}

/* Also without news: a disk that stands still has none. */
static void poll_log(struct daemon *daemon, uint64_t now_ms)
{
    struct log_saved saved;

    if (daemon->log_thread != NULL) {
        (void)log_thread_poll(daemon->log_thread, &saved);
        replica_time(daemon->replica, now_ms);
        replica_log_saved(daemon->replica, &saved);
    }
}

static void start_consensus(struct daemon *daemon)
{
    enum err err = log_thread_start(daemon->log, wake, daemon, &daemon->log_thread);

    daemon->start_due = false;
    if (err == ERR_OK) {
        err = replica_start(daemon->replica, &daemon->log_state, clock_monotonic_ms());
    }
    if (err != ERR_OK) {
        env_fail(daemon, err, "starting consensus");
    }
    snapshots_start(daemon->snapshots);
}

static void tell_serving(struct daemon *daemon)
{
    if (daemon->is_serving || !replica_is_serving(daemon->replica)) {
        return;
    }
    daemon->is_serving = true;
#ifdef HAVE_SYSTEMD
    (void)sd_notify(0, "READY=1\nSTATUS=serving");
#endif
}

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

/* Closes all, so that the loop ends. */
static void leave(struct daemon *daemon)
{
    if (daemon->has_left) {
        return;
    }
    daemon->has_left = true;
    client_conns_close(daemon->clients);
    snapshots_stop(daemon->snapshots);
    peer_conns_close(daemon->peers);
    for (size_t i = 0; i < daemon->client_listener_count; i++) {
        listener_close(daemon->client_listener[i]);
    }
    listener_close(daemon->peer_listener);
    close_handle((uv_handle_t *)&daemon->prepare);
    close_handle((uv_handle_t *)&daemon->again);
    close_handle((uv_handle_t *)&daemon->timer);
    close_handle((uv_handle_t *)&daemon->on_term);
    close_handle((uv_handle_t *)&daemon->on_int);
}

/* A leader leaves when another has taken over, or when the time for that is up. */
static bool may_leave(const struct daemon *daemon, uint64_t now_ms)
{
    struct raft_status status;

    replica_raft_status(daemon->replica, &status);
    return daemon->begin_anew ||
           (daemon->is_leaving &&
            (now_ms >= daemon->leave_ms || status.role != RAFT_LEADER || status.peer_count == 0));
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void on_timer(uv_timer_t *timer)
{
    (void)timer; /* it only ends the waiting */
}

static void on_again(uv_idle_t *idle)
{
    (void)idle; /* the same */
}

static void turn(uv_prepare_t *prepare)
{
    struct daemon *daemon = prepare->data;
    uint64_t now_ms = 0;
    uint64_t deadline = 0;

    if (daemon->start_due) {
        start_consensus(daemon);
    }
    stream_hub_resume(&daemon->hub);
    now_ms = clock_monotonic_ms();
    poll_log(daemon, now_ms);
    deadline = peer_conns_turn(daemon->peers, now_ms);
    deadline = least(deadline, replica_turn(daemon->replica, now_ms, clock_realtime_ns()));
    deadline = least(deadline, store_deadline_ms(daemon->store));
    snapshots_turn(daemon->snapshots, now_ms);
    if (now_ms >= daemon->sweep_ms) {
        client_conns_sweep(daemon->clients, now_ms);
        daemon->sweep_ms = now_ms + SWEEP_MS;
    }
    tell_serving(daemon);
    if (stream_hub_flush(&daemon->hub)) {
        uv_idle_start(&daemon->again, on_again);
    } else {
        uv_idle_stop(&daemon->again);
    }
    now_ms = clock_monotonic_ms();
    if (may_leave(daemon, now_ms)) {
        leave(daemon);
        return;
    }
    uv_update_time(&daemon->loop);
    uv_timer_start(&daemon->timer, on_timer, deadline > now_ms ? deadline - now_ms : 0, 0);
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct daemon *daemon = signal->data;

    log_info("daemon", "leaving", "signal=%d", number);
    if (daemon->is_leaving) {
        daemon->leave_ms = 0; /* asked twice: at once */
        return;
    }
    daemon->is_leaving = true;
    daemon->leave_ms = clock_monotonic_ms() + HAND_OVER_MS;
    replica_time(daemon->replica, clock_monotonic_ms());
    replica_transfer_leader(daemon->replica);
}

/* ---- opening ---- */

static enum err open_listeners(struct daemon *daemon, struct buffer *error)
{
    const struct config *config = daemon->config;
    enum err err = ERR_OK;

    for (size_t i = 0; i < config->listen_count && err == ERR_OK; i++) {
        err = listener_open_tcp(&daemon->loop, config->listen[i].host, config->listen[i].port,
                                &daemon->client_listener[daemon->client_listener_count], error);
        daemon->client_listener_count += err == ERR_OK ? 1u : 0u;
    }
    if (err == ERR_OK && config->socket[0] != '\0') {
        err = listener_open_unix(&daemon->loop, config->socket,
                                 &daemon->client_listener[daemon->client_listener_count], error);
        daemon->client_listener_count += err == ERR_OK ? 1u : 0u;
    }
    if (err == ERR_OK && config->peer_listen.host[0] != '\0') {
        err = listener_open_tcp(&daemon->loop, config->peer_listen.host, config->peer_listen.port,
                                &daemon->peer_listener, error);
    }
    return err;
}

static enum err start_listeners(struct daemon *daemon)
{
    enum err err = ERR_OK;

    for (size_t i = 0; i < daemon->client_listener_count && err == ERR_OK; i++) {
        err = listener_start(daemon->client_listener[i], client_conns_accept, daemon->clients);
    }
    if (err == ERR_OK && daemon->peer_listener != NULL) {
        err = listener_start(daemon->peer_listener, peer_conns_accept, daemon->peers);
    }
    return err;
}

static uint64_t random_u64(void)
{
    uint64_t value = 0;

    env_random(NULL, &value, sizeof(value));
    return value != 0 ? value : 1;
}

static enum err open_log(struct daemon *daemon, struct buffer *error)
{
    char folder[CONFIG_PATH_BYTES + 8];
    struct log_options options = {.folder = folder,
                                  .io = &log_io_system,
                                  .segment_bytes = config_segment_bytes(daemon->config)};
    enum err err = ERR_OK;

    (void)snprintf(folder, sizeof(folder), "%s/log", daemon->config->data);
    err = log_open(&options, &daemon->log, &daemon->log_state, error);
    if (err != ERR_OK) {
        return err;
    }
    if (daemon->log_state.torn_bytes != 0) {
        log_warn("daemon", "torn_group_dropped",
                 "bytes=%" PRIu64 " last_index=%" PRIu64 " reason=\"the write was cut off\"",
                 daemon->log_state.torn_bytes, daemon->log_state.last_index);
    }
    if (daemon->identity.formed && daemon->log_state.last_index == 0) {
        (void)buffer_printf(error, "%s is empty, but the identity beside it says that it was not",
                            folder);
        return ERR_CORRUPT;
    }
    return ERR_OK;
}

static enum err open_store(struct daemon *daemon, struct buffer *error)
{
    char folder[CONFIG_PATH_BYTES + 8];
    struct store_options options = {.folder = folder, .wake = wake, .wake_arg = daemon};

    (void)snprintf(folder, sizeof(folder), "%s/store", daemon->config->data);
    return store_open(&options, &daemon->store, error);
}

static enum err open_data(struct daemon *daemon, struct buffer *error)
{
    enum err err = identity_open(daemon->config->data, daemon->config->id, random_u64(),
                                 &daemon->identity, error);

    err = err == ERR_OK ? snapshot_install(daemon->config->data, &daemon->installing, error) : err;
    err = err == ERR_OK ? open_log(daemon, error) : err;
    return err == ERR_OK ? open_store(daemon, error) : err;
}

/* The log goes on behind a snapshot that was installed, if it holds its last entry; else it begins
 * anew there. {term, vote} stay in any case. */
static enum err fit_log(struct daemon *daemon, struct buffer *error)
{
    struct log_state *state = &daemon->log_state;
    uint64_t term_in_log = 0;
    uint64_t term = 0;
    uint64_t index = replica_applied(daemon->replica, &term);
    enum err err = ERR_OK;

    if (!daemon->installing) {
        return ERR_OK;
    }
    if (log_term(daemon->log, index, &term_in_log) != ERR_OK || term_in_log != term) {
        err = log_reset(daemon->log, index, term);
        state->first_index = index + 1;
        state->last_index = index;
        state->last_term = term;
        state->before_term = term;
        state->last_time_ns = 0;
    }
    err = err == ERR_OK ? snapshot_install_end(daemon->config->data) : err;
    if (err != ERR_OK) {
        (void)buffer_printf(error, "cannot fit the log in %s to the snapshot: %s",
                            daemon->config->data, err_text(err));
        return err;
    }
    log_info("daemon", "snapshot_installed", "index=%" PRIu64 " term=%" PRIu64 " log_from=%" PRIu64,
             index, term, state->first_index);
    return ERR_OK;
}

static enum err open_peers(struct daemon *daemon)
{
    struct bulk_events bulk = {.arg = NULL};

    daemon->snapshots = snapshots_new(daemon->config->data, snapshot_complete, daemon);
    if (daemon->snapshots == NULL) {
        return ERR_MEMORY;
    }
    bulk = snapshots_events(daemon->snapshots);
    daemon->peers = peer_conns_new(&daemon->hub, daemon->replica, &daemon->self, &bulk);
    if (daemon->peers == NULL) {
        return ERR_MEMORY;
    }
    peer_conns_set_members(daemon->peers, &daemon->dialed);
    return snapshots_open(daemon->snapshots, &daemon->loop, daemon->replica, daemon->store,
                          daemon->peers);
}

static enum err open_replica(struct daemon *daemon)
{
    const struct config *config = daemon->config;
    const struct replica_env env = {
        .context = daemon,
        .peer_send_raft = env_send_raft,
        .peer_send = env_send,
        .peer_is_connected = env_is_connected,
        .peer_has_room = env_has_room,
        .client_send = env_client_send,
        .client_close = env_client_close,
        .client_resume = env_client_resume,
        .log_submit = env_log_submit,
        .log_read = env_log_read,
        .log_term = env_log_term,
        .log_index_of_bytes = env_log_index_of_bytes,
        .log_compact = env_log_compact,
        .members = env_members,
        .snapshot_wanted = env_snapshot_wanted,
        .store_is_full = env_store_is_full,
        .store_poll = env_store_poll,
        .disk_space = env_disk_space,
        .formed = env_formed,
        .random = env_random,
        .fail = env_fail,
    };
    const struct replica_options options = {
        .identity = daemon->identity,
        .configured = config->members,
        .heartbeat_ms = config->heartbeat_ms,
        .election_min_ms = config->election_min_ms,
        .election_max_ms = config->election_max_ms,
        .log_keep_bytes = config->log_keep_bytes,
        .join = config->join,
        .feature_level = config->feature_level,
        .file_bytes_max = config->file_bytes_max,
        .seed = random_u64(),
    };
    struct kv kv = store_kv(daemon->store);

    daemon->replica = replica_new(&options, &env, &kv, clock_monotonic_ms());
    if (daemon->replica == NULL) {
        return ERR_MEMORY;
    }
    daemon->self = (struct handshake_self){.key = config->key, .key_len = config->key_len};
    daemon->clients = client_conns_new(&daemon->hub, daemon->replica);
    daemon->start_due = daemon->identity.formed;
    return daemon->clients != NULL ? open_peers(daemon) : ERR_MEMORY;
}

/* The handles of the loop itself; none keeps the caller from returning on failure. */
static enum err open_loop(struct daemon *daemon)
{
    if (uv_loop_init(&daemon->loop) != 0 ||
        stream_hub_init(&daemon->hub, &daemon->loop) != ERR_OK ||
        uv_async_init(&daemon->loop, &daemon->woken, on_woken) != 0 ||
        uv_prepare_init(&daemon->loop, &daemon->prepare) != 0 ||
        uv_idle_init(&daemon->loop, &daemon->again) != 0 ||
        uv_timer_init(&daemon->loop, &daemon->timer) != 0 ||
        uv_signal_init(&daemon->loop, &daemon->on_term) != 0 ||
        uv_signal_init(&daemon->loop, &daemon->on_int) != 0) {
        return ERR_MEMORY;
    }
    daemon->woken.data = daemon;
    daemon->prepare.data = daemon;
    daemon->on_term.data = daemon;
    daemon->on_int.data = daemon;
    return ERR_OK;
}

static enum err open_all(struct daemon *daemon, struct buffer *error)
{
    enum err err = open_loop(daemon);

    /* The lock before the sockets, which may lie in the folder; threads only when all else is sure. */
    err = err == ERR_OK ? identity_lock(daemon->config->data, &daemon->lock_fd, error) : err;
    err = err == ERR_OK ? open_listeners(daemon, error) : err;
    err = err == ERR_OK ? open_data(daemon, error) : err;
    err = err == ERR_OK ? open_replica(daemon) : err;
    err = err == ERR_OK ? fit_log(daemon, error) : err;
    return err == ERR_OK ? start_listeners(daemon) : err;
}

/* Every descriptor that we may have, for CONNECTIONS_MAX and the files of the store. */
static void raise_limits(void)
{
    struct rlimit files = {0};

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    (void)signal(SIGPIPE, SIG_IGN);
}

/* ---- running ---- */

/* After the loop: all work that was submitted is finished before the files are closed. */
static void close_all(struct daemon *daemon)
{
    replica_free(daemon->replica);
    if (daemon->log_thread != NULL) {
        log_thread_stop(daemon->log_thread);
    }
    store_close(daemon->store);
    log_close(daemon->log);
    uv_close((uv_handle_t *)&daemon->woken, NULL); /* only now nobody can wake it */
    (void)uv_run(&daemon->loop, UV_RUN_DEFAULT);
    client_conns_free(daemon->clients);
    snapshots_free(daemon->snapshots);
    peer_conns_free(daemon->peers);
    stream_hub_done(&daemon->hub);
    CHECK_OP(uv_loop_close(&daemon->loop), ==, 0);
    (void)close(daemon->lock_fd);
}

static void run(struct daemon *daemon)
{
    uv_prepare_start(&daemon->prepare, turn);
    uv_signal_start(&daemon->on_term, on_signal, SIGTERM);
    uv_signal_start(&daemon->on_int, on_signal, SIGINT);
    uv_unref((uv_handle_t *)&daemon->woken);
    log_info("daemon", "started",
             "id=%" PRIu64 " data=\"%s\" formed=%d term=%" PRIu64 " last_index=%" PRIu64,
             daemon->config->id, daemon->config->data, daemon->identity.formed ? 1 : 0,
             daemon->log_state.term, daemon->log_state.last_index);
    (void)uv_run(&daemon->loop, UV_RUN_DEFAULT);
    log_info("daemon", "left", "");
}

int daemon_run(const struct config *config)
{
    /* One a process. On failure its threads and files are left to the end of the process, as nothing
     * is half written. */
    static struct daemon daemon;
    struct buffer error = {0};
    enum err err = ERR_OK;

    raise_limits();
    do {
        daemon = (struct daemon){.config = config, .lock_fd = -1};
        err = open_all(&daemon, &error);
        if (err != ERR_OK) {
            (void)fprintf(stderr, "quorumd: %s\n",
                          error.data != NULL ? (const char *)error.data : err_text(err));
            buffer_done(&error);
            return err == ERR_CONFIG ? 2 : 1;
        }
        run(&daemon);
        close_all(&daemon);
    } while (daemon.begin_anew && !daemon.is_leaving);
    return 0;
}
