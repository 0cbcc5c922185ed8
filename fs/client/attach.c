/* SPDX-License-Identifier: Apache-2.0
 *
 * Which replica we are on and as whom: tries the servers in turn, says hello, opens the session or
 * attaches to it, pings, keeps the lease. Handed messages by link.c and time by client.c; hands
 * answers to call.c and events to events.c.
 *
 * Invariants:
 *   1. `link` is NULL exactly in PHASE_IDLE.
 *   2. A client belongs to one ensemble. One that has another id holds another history under the same
 *      numbers of nodes and changes (quorumd --recover-alone): what we know, and what the kernel
 *      has cached, is not to be mixed with it.
 *   3. The lease runs from the send time of a ping that a quorum round confirmed, or of the
 *      OpenSession that was answered (CONSENSUS 25).
 */
#include <string.h>
#include <sys/random.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/logging.h"
#include "fs/client/client_internal.h"

#define NONCE_BYTES        16u
#define LEADERLESS_LONG_MS 1000u /* longer than an election */
#define LEADERLESS_SLOWER  5u

static bool phase_may_follow(enum phase from, enum phase to)
{
    switch (from) {
    case PHASE_IDLE:
        return to == PHASE_CONNECTING;
    case PHASE_CONNECTING:
        return to == PHASE_WELCOMED || to == PHASE_IDLE;
    case PHASE_WELCOMED:
        return to == PHASE_OPENING || to == PHASE_IDLE;
    case PHASE_OPENING:
        return to == PHASE_OPENED || to == PHASE_WELCOMED || to == PHASE_IDLE;
    case PHASE_OPENED:
        return to == PHASE_IDLE;
    }
    return false;
}

static void phase_set(struct client *client, enum phase phase)
{
    CHECK(phase_may_follow(client->phase, phase));
    client->phase = phase;
    CHECK((phase == PHASE_IDLE) == (client->link == NULL));
}

static bool is_welcomed(const struct client *client)
{
    return client->phase >= PHASE_WELCOMED;
}

static const char *server_text(const struct client *client)
{
    return client->servers.list[client->server].text;
}

/* ---- sending ---- */

static void send_hello(struct client *client, struct link *link)
{
    Wire__ClientHello hello = WIRE__CLIENT_HELLO__INIT;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;

    hello.version = PROTOCOL_VERSION;
    hello.program = wire_bytes(client->options.program, strlen(client->options.program));
    message.body_case = WIRE__TO_REPLICA__BODY_HELLO;
    message.hello = &hello;
    link_send(link, &message);
}

static void send_open(struct client *client)
{
    Wire__OpenSession open = WIRE__OPEN_SESSION__INIT;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    uint8_t nonce[NONCE_BYTES] = {0};

    if (getrandom(nonce, sizeof nonce, 0) != (ssize_t)sizeof nonce) {
        attach_lost(client, "no_random_bytes", false);
        return;
    }
    open.session = client->session;
    if (client->session != 0) {
        open.password = wire_bytes(client->password, sizeof client->password);
    }
    open.timeout_ms = client->options.timeout_ms;
    open.nonce = wire_bytes(nonce, sizeof nonce);
    open.zxid_seen = client->zxid_seen;
    open.promises = client->options.promises;
    message.body_case = WIRE__TO_REPLICA__BODY_OPEN;
    message.open = &open;
    link_send(client->link, &message);
    client->open_boot_ms = clock_boottime_ms();
    client->deadline_ms = uv_now(client->loop) + client->timers.open_ms;
    phase_set(client, PHASE_OPENING);
}

static uint64_t ping_interval_ms(const struct client *client)
{
    uint64_t interval = client->timers.ping_ms;

    if (client->leader == 0 || client->phase == PHASE_OPENING) {
        /* The pong tells of a new leader: soon during an election, rarely in a long outage. */
        bool is_new = client->leaderless_ms == 0 ||
                      uv_now(client->loop) - client->leaderless_ms < LEADERLESS_LONG_MS;
        return client->timers.ping_leaderless_ms * (is_new ? 1u : LEADERLESS_SLOWER);
    }
    if (client->sent_reads != NULL || client->sent_writes != NULL) {
        interval = client->timers.ping_busy_ms;
    }
    if (client->timeout_ms != 0 && client->timeout_ms / 6 < interval) {
        interval = client->timeout_ms / 6;
    }
    return interval > 0 ? interval : 1;
}

static void send_ping(struct client *client, uint64_t now_ms)
{
    Wire__Ping ping = WIRE__PING__INIT;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;

    ping.ping = ++client->last_ping;
    message.body_case = WIRE__TO_REPLICA__BODY_PING;
    message.ping = &ping;
    client->ping_boot_ms[ping.ping % PING_TIMES] = clock_boottime_ms();
    link_send(client->link, &message);
    client->ping_last_ms = now_ms;
    if (client->silent_since_ms == 0) {
        client->silent_since_ms = now_ms;
    }
}

/* ---- leaving and trying ---- */

/* The first round over the servers goes without a pause: a dead one costs nothing then. */
static uint64_t backoff_ms(const struct client *client)
{
    size_t count = client->servers.count;

    if (client->failures < count && count > 1) {
        return 0;
    }
    size_t round = (client->failures - (count > 1 ? count : 1)) / count;
    uint64_t wait = (uint64_t)client->timers.backoff_min_ms << (round < 16 ? round : 16);
    return wait < client->timers.backoff_max_ms ? wait : client->timers.backoff_max_ms;
}

static void stale_begins(struct client *client)
{
    if (client->stale_since_ms == 0) {
        client->stale_since_ms = clock_boottime_ms();
    }
}

/* Forgets all that belonged to the link. */
static void link_drop(struct client *client)
{
    link_close(client->link);
    client->link = NULL;
    phase_set(client, PHASE_IDLE);
    client->leader = 0;
    client->replica = 0;
    client->leaderless_ms = 0;
    client->last_ping = 0;
    client->confirmed_ping = 0;
    client->silent_since_ms = 0;
    client->close_call = 0;
    stale_begins(client);
}

/* What depends on the link hears that it is gone. */
static void tell_detached(struct client *client)
{
    calls_detached(client);
    events_detached(client);
    watches_detached(client);
    if (client->state == CLIENT_READY) {
        client_tell_state(client, CLIENT_CONNECTING);
    }
}

void attach_lost(struct client *client, const char *reason, bool same_server)
{
    if (client->phase == PHASE_IDLE) {
        return;
    }
    if (is_welcomed(client)) {
        log_info("client", "replica_left", "server=%s replica=%llu reason=%s", server_text(client),
                 (unsigned long long)client->replica, reason);
        client->reconnects++;
    } else {
        log_debug("client", "connect_failed", "server=%s reason=%s", server_text(client), reason);
    }
    link_drop(client);
    probe_close(client);
    client->failures++;
    client->retry_ms = uv_now(client->loop) + backoff_ms(client);
    if (!same_server) {
        CHECK(client->servers.count > 0);
        client->server = (client->server + 1) % client->servers.count;
    }
    tell_detached(client);
}

void attach_expired(struct client *client)
{
    log_warn("client", "session_expired", "session=%llu", (unsigned long long)client->session);
    client->session = 0;
    client->epoch = 0;
    client->lease_until_ms = 0;
    memset(client->password, 0, sizeof client->password);
    if (client->phase == PHASE_OPENED) {
        client_tell_state(client, CLIENT_LOST);
        calls_expired(client);
        attach_lost(client, "session_expired", true);
        return;
    }
    phase_set(client, PHASE_WELCOMED);
    client_tell_state(client, CLIENT_LOST);
    calls_expired(client);
    if (client->leader != 0 && !client->closing) {
        send_open(client);
    }
}

static void attach_try(struct client *client, uint64_t now_ms)
{
    size_t attempt = client->failures / client->servers.count;

    client->link = link_open(client->loop, &client->servers.list[client->server], attempt,
                             &attach_link_events, client);
    if (client->link == NULL) {
        client->retry_ms = now_ms + client->timers.backoff_max_ms;
        return;
    }
    client->handles++;
    phase_set(client, PHASE_CONNECTING);
    client->deadline_ms = now_ms + client->timers.connect_ms;
}

/* ---- what the replica says ---- */

/* The replica knows a leader: what waited for one goes on. */
static void leader_seen(struct client *client)
{
    client->no_leader_failed = false;
    client->leaderless_ms = 0;
    probe_close(client);
    if (!client->options.session || client->phase == PHASE_OPENED) {
        client->stale_since_ms = 0;
    }
}

static void set_leader(struct client *client, uint64_t leader)
{
    uint64_t now_ms = uv_now(client->loop);
    bool had_one = client->leader != 0;

    client->leader = leader;
    if (leader != 0) {
        leader_seen(client);
        if (client->options.session && client->phase == PHASE_WELCOMED && !client->closing) {
            send_open(client);
        } else if (client->phase == PHASE_OPENING && !had_one) {
            client->deadline_ms = now_ms + client->timers.open_ms;
        }
        return;
    }
    stale_begins(client);
    if (client->leaderless_ms == 0) {
        client->leaderless_ms = now_ms;
        /* Who is not attached anyway loses nothing by moving. */
        client->probe_next_ms =
            now_ms + (client->phase == PHASE_OPENED ? client->timers.probe_after_ms : 0);
    }
    /* A session that was attached before may read here, and waits with its writes. */
    if (client->session != 0 && client->phase != PHASE_OPENED && client->state != CLIENT_READY) {
        client_tell_state(client, CLIENT_READY);
    }
}

bool attach_is_ours(struct client *client, size_t server, const Wire__Welcome *welcome)
{
    if (!client->has_ensemble && welcome->ensemble.len == ENSEMBLE_ID_BYTES) {
        memcpy(client->ensemble, welcome->ensemble.data, ENSEMBLE_ID_BYTES);
        client->has_ensemble = true;
    }
    if (!client->has_ensemble ||
        (welcome->ensemble.len == ENSEMBLE_ID_BYTES &&
         memcmp(client->ensemble, welcome->ensemble.data, ENSEMBLE_ID_BYTES) == 0)) {
        return true;
    }
    if (!client->stranger_told) {
        log_error("client", "another_ensemble", "server=%s action=\"not used; mount anew\"",
                  client->servers.list[server].text);
    }
    client->stranger_told = true;
    return false;
}

static void on_welcome(struct client *client, const Wire__Welcome *welcome)
{
    if (client->phase != PHASE_CONNECTING) {
        attach_lost(client, "unexpected_welcome", false);
        return;
    }
    if (welcome->version != PROTOCOL_VERSION) {
        log_warn("client", "protocol_version", "server=%s version=%u", server_text(client),
                 welcome->version);
        attach_lost(client, "protocol_version", false);
        return;
    }
    if (!attach_is_ours(client, client->server, welcome)) {
        attach_lost(client, "another_ensemble", false);
        return;
    }
    phase_set(client, PHASE_WELCOMED);
    client->replica = welcome->replica;
    client->replica_zxid = welcome->applied_zxid;
    client->file_bytes_max = welcome->file_bytes_max;
    client->trusted = welcome->trusted;
    client->watches_known = welcome->watches;
    client->ping_last_ms = 0; /* at once */
    if (!client->options.session) {
        client_tell_state(client, CLIENT_READY);
    }
    if (client->phase == PHASE_WELCOMED) {
        set_leader(client, welcome->leader);
    }
}

static bool opened_is_sound(const struct client *client, const Wire__Opened *opened)
{
    bool is_new = client->session == 0;

    return opened->session != 0 && opened->timeout_ms != 0 &&
           (is_new ? opened->password.len == PASSWORD_BYTES : opened->session == client->session);
}

static void session_attached(struct client *client, const Wire__Opened *opened)
{
    client->session = opened->session;
    client->epoch = opened->epoch;
    client->timeout_ms = opened->timeout_ms;
    if (opened->password.len == PASSWORD_BYTES) {
        memcpy(client->password, opened->password.data, PASSWORD_BYTES);
    }
    if (opened->zxid > client->zxid_seen) {
        client->zxid_seen = opened->zxid;
    }
    client->lease_until_ms = client->open_boot_ms + (uint64_t)client->timeout_ms * 3 / 4;
    phase_set(client, PHASE_OPENED);
    if (client->leader != 0) {
        client->stale_since_ms = 0;
    }
    calls_resend(client);
    log_info("client", "session_attached", "session=%llu epoch=%llu server=%s replica=%llu",
             (unsigned long long)client->session, (unsigned long long)client->epoch,
             server_text(client), (unsigned long long)client->replica);
    client_tell_state(client, CLIENT_READY);
}

static void on_opened(struct client *client, const Wire__Opened *opened)
{
    enum err err = err_from_number(opened->err);

    if (client->phase != PHASE_OPENING) {
        attach_lost(client, "unexpected_opened", false);
    } else if (err == ERR_SESSION_EXPIRED || err == ERR_BAD_PASSWORD) {
        /* A wrong password is none of ours: the number belongs to somebody else's session. */
        attach_expired(client);
    } else if (err == ERR_NO_LEADER) {
        phase_set(client, PHASE_WELCOMED);
        set_leader(client, 0);
    } else if (err != ERR_OK) {
        attach_lost(client, err_name(err), false);
    } else if (!opened_is_sound(client, opened)) {
        attach_lost(client, "malformed_opened", false);
    } else {
        session_attached(client, opened);
    }
}

/* False: the lease had ended before, so that only an attach can revive it. */
static bool lease_renew(struct client *client, uint64_t confirmed_ping)
{
    if (confirmed_ping <= client->confirmed_ping || client->phase != PHASE_OPENED) {
        return true;
    }
    client->confirmed_ping = confirmed_ping;
    if (client->last_ping - confirmed_ping >= PING_TIMES) {
        return true;
    }
    if (clock_boottime_ms() >= client->lease_until_ms) {
        return false;
    }
    uint64_t until_ms =
        client->ping_boot_ms[confirmed_ping % PING_TIMES] + (uint64_t)client->timeout_ms * 3 / 4;
    if (until_ms > client->lease_until_ms) {
        client->lease_until_ms = until_ms;
    }
    return true;
}

static void on_pong(struct client *client, const Wire__Pong *pong)
{
    /* Also unasked, when the leader changes: with the newest ping, or 0 before the first. */
    if (pong->ping > client->last_ping || pong->confirmed_ping > client->last_ping) {
        attach_lost(client, "malformed_pong", false);
        return;
    }
    if (pong->ping == client->last_ping) {
        client->silent_since_ms = 0;
    }
    client->failures = 0;
    client->replica_zxid = pong->applied_zxid;
    if (pong->file_bytes_max != 0) { /* An older replica does not say. */
        client->file_bytes_max = pong->file_bytes_max;
    }
    if (!lease_renew(client, pong->confirmed_ping)) {
        attach_lost(client, "lease_ended", true);
        return;
    }
    set_leader(client, pong->leader);
}

void attach_adopt(struct client *client, struct link *link, size_t server,
                  const Wire__Welcome *welcome)
{
    log_info("client", "replica_left", "server=%s replica=%llu reason=no_leader",
             server_text(client), (unsigned long long)client->replica);
    client->reconnects++;
    link_drop(client);
    client->link = link;
    client->server = server;
    phase_set(client, PHASE_CONNECTING);
    client->deadline_ms = uv_now(client->loop) + client->timers.connect_ms;
    tell_detached(client);
    on_welcome(client, welcome);
}

/* ---- events of links ---- */

static void on_connected(void *arg, struct link *link)
{
    send_hello(arg, link);
}

static void on_message(void *arg, struct link *link, Wire__ToClient *message)
{
    struct client *client = arg;

    if (link == client->probe) {
        probe_message(client, message);
        return;
    }
    CHECK(link == client->link);
    if (client->silent_since_ms != 0) {
        client->silent_since_ms = uv_now(client->loop);
    }
    switch (message->body_case) {
    case WIRE__TO_CLIENT__BODY_WELCOME:
        on_welcome(client, message->welcome);
        break;
    case WIRE__TO_CLIENT__BODY_OPENED:
        on_opened(client, message->opened);
        break;
    case WIRE__TO_CLIENT__BODY_ANSWER:
        calls_answer(client, message->answer);
        break;
    case WIRE__TO_CLIENT__BODY_EVENT:
        events_event(client, message->event);
        break;
    case WIRE__TO_CLIENT__BODY_PONG:
        on_pong(client, message->pong);
        break;
    case WIRE__TO_CLIENT__BODY_RECLAIMED:
        events_reclaimed(client, message->reclaimed);
        break;
    case WIRE__TO_CLIENT__BODY_WATCH_CHANGES:
        watches_changes(client, message->watch_changes);
        break;
    case WIRE__TO_CLIENT__BODY__NOT_SET:
    case _WIRE__TO_CLIENT__BODY__CASE_IS_INT_SIZE:
        attach_lost(client, "malformed_message", false);
        break;
    }
}

static void on_broken(void *arg, struct link *link, const char *reason)
{
    struct client *client = arg;

    if (link == client->probe) {
        probe_close(client);
    } else {
        CHECK(link == client->link);
        attach_lost(client, reason, false);
    }
}

static void on_released(void *arg)
{
    struct client *client = arg;

    client->handles--;
    if (client->torn_down) {
        client_tear_down(client);
    }
}

const struct link_events attach_link_events = {
    .connected = on_connected,
    .message = on_message,
    .broken = on_broken,
    .released = on_released,
};

/* ---- time ---- */

static void welcomed_tick(struct client *client, uint64_t now_ms)
{
    if (client->silent_since_ms != 0 &&
        now_ms >= client->silent_since_ms + client->timers.pong_limit_ms) {
        attach_lost(client, "no_pong", false);
        return;
    }
    if (client->phase == PHASE_OPENING && client->leader != 0 && now_ms >= client->deadline_ms) {
        attach_lost(client, "open_timeout", false);
        return;
    }
    if (now_ms >= client->ping_last_ms + ping_interval_ms(client)) {
        send_ping(client, now_ms);
    }
    probe_tick(client, now_ms);
}

void attach_tick(struct client *client, uint64_t now_ms)
{
    switch (client->phase) {
    case PHASE_IDLE:
        if (now_ms >= client->retry_ms && !client->closing) {
            attach_try(client, now_ms);
        }
        break;
    case PHASE_CONNECTING:
        if (now_ms >= client->deadline_ms) {
            attach_lost(client, "connect_timeout", false);
        }
        break;
    case PHASE_WELCOMED:
    case PHASE_OPENING:
    case PHASE_OPENED:
        welcomed_tick(client, now_ms);
        break;
    }
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t attach_due_ms(const struct client *client)
{
    uint64_t due = client->ping_last_ms + ping_interval_ms(client);

    if (client->phase == PHASE_IDLE) {
        return client->closing ? UINT64_MAX : client->retry_ms;
    }
    if (client->phase == PHASE_CONNECTING) {
        return client->deadline_ms;
    }
    if (client->silent_since_ms != 0) {
        due = earlier(due, client->silent_since_ms + client->timers.pong_limit_ms);
    }
    if (client->phase == PHASE_OPENING && client->leader != 0) {
        due = earlier(due, client->deadline_ms);
    }
    if (probe_is_wanted(client)) {
        due = earlier(due, client->probe_next_ms);
    }
    return due;
}

void attach_shift(struct client *client, uint64_t gap_ms)
{
    client->deadline_ms += gap_ms;
    if (client->silent_since_ms != 0) {
        client->silent_since_ms += gap_ms;
    }
}

void attach_stop(struct client *client)
{
    probe_close(client);
    if (client->phase != PHASE_IDLE) {
        link_drop(client);
        calls_detached(client);
        watches_detached(client);
    }
    events_detached(client);
}
