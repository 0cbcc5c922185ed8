/* SPDX-License-Identifier: Apache-2.0
 *
 * The conductor of an ensemble of one, with clients, a log that becomes durable when the test says
 * so, and a clock that the test moves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/logging.h"
#include "common/version.h"
#include "server/replica.h"
#include "tests/lib/kv_memory.h"

#define ENTRIES_MAX 256u
#define TIMEOUT_MS  3000u

/* What the last messages to one client said. */
struct client_conn {
    struct client *client;
    bool closed;
    bool welcomed;
    uint64_t file_bytes_max;
    size_t opened_count;
    int32_t opened_err;
    uint64_t session;
    uint64_t epoch;
    uint8_t password[PASSWORD_BYTES];
    size_t answer_count;
    uint64_t answer_call;
    int32_t answer_err;
    uint64_t confirmed_ping;
};

struct fixture {
    struct replica *replica;
    struct omap *rows;
    struct kv kv;
    uint64_t now_ms;
    struct raft_entry *entries[ENTRIES_MAX]; /* of index i at i */
    uint64_t last;
    bool holding; /* saves are not reported */
    bool saved_any;
    struct log_saved saved;
    struct client_conn conn[2];
};

/* ---- the environment ---- */

static void send_raft(void *context, const struct raft_message *message)
{
    (void)context;
    (void)message;
    fail_msg("a message to nobody");
}

static void send_peer(void *context, uint64_t replica, const Wire__PeerMessage *message)
{
    (void)context;
    (void)replica;
    (void)message;
    fail_msg("a message to nobody");
}

static bool is_connected(void *context, uint64_t replica)
{
    (void)context;
    (void)replica;
    return false;
}

static void note_opened(struct client_conn *conn, const Wire__Opened *opened)
{
    conn->opened_count++;
    conn->opened_err = opened->err;
    conn->session = opened->session;
    conn->epoch = opened->epoch;
    if (opened->err == 0) {
        assert_int_equal(opened->password.len, PASSWORD_BYTES);
        memcpy(conn->password, opened->password.data, PASSWORD_BYTES);
    }
}

static void send_client(void *context, struct client_conn *conn, const Wire__ToClient *message)
{
    (void)context;
    if (message->body_case == WIRE__TO_CLIENT__BODY_WELCOME) {
        conn->welcomed = true;
        conn->file_bytes_max = message->welcome->file_bytes_max;
    } else if (message->body_case == WIRE__TO_CLIENT__BODY_OPENED) {
        note_opened(conn, message->opened);
    } else if (message->body_case == WIRE__TO_CLIENT__BODY_ANSWER) {
        conn->answer_count++;
        conn->answer_call = message->answer->call;
        conn->answer_err = message->answer->err;
    } else if (message->body_case == WIRE__TO_CLIENT__BODY_PONG) {
        conn->confirmed_ping = message->pong->confirmed_ping;
    }
}

static void close_client(void *context, struct client_conn *conn, const char *reason)
{
    (void)context;
    (void)reason;
    conn->closed = true;
}

static void resume_client(void *context, struct client_conn *conn)
{
    (void)context;
    (void)conn;
}

static enum err submit(void *context, const struct log_save *save)
{
    struct fixture *fixture = context;
    assert_false(save->truncate);
    if (save->save_term) {
        fixture->saved.term_saved = true;
        fixture->saved.term = save->term;
        fixture->saved_any = true;
    }
    for (size_t i = 0; i < save->entry_count; i++) {
        assert_int_equal(save->entries[i]->index, fixture->last + 1);
        assert_true(fixture->last + 1 < ENTRIES_MAX);
        fixture->last++;
        fixture->entries[fixture->last] = raft_entry_ref(save->entries[i]);
        fixture->saved.log_saved = true;
        fixture->saved.index = fixture->last;
        fixture->saved.entry_term = save->entries[i]->term;
        fixture->saved_any = true;
    }
    return ERR_OK;
}

static enum err read_log(void *context, uint64_t index, size_t bytes_max, size_t count_max,
                         struct raft_entry **out, size_t *out_count)
{
    struct fixture *fixture = context;
    (void)bytes_max;
    *out_count = 0;
    for (; index <= fixture->last && *out_count < count_max; index++) {
        out[(*out_count)++] = raft_entry_ref(fixture->entries[index]);
    }
    return *out_count > 0 ? ERR_OK : ERR_NO_NODE;
}

static enum err read_term(void *context, uint64_t index, uint64_t *out_term)
{
    struct fixture *fixture = context;
    if (index == 0 || index > fixture->last) {
        return ERR_NO_NODE;
    }
    *out_term = fixture->entries[index]->term;
    return ERR_OK;
}

static bool store_is_full(void *context)
{
    (void)context;
    return false;
}

static void store_poll(void *context, uint64_t now_ms, uint64_t log_bytes)
{
    (void)context;
    (void)now_ms;
    (void)log_bytes;
}

static void disk_space(void *context, uint64_t *out_total, uint64_t *out_free)
{
    (void)context;
    *out_total = 0;
    *out_free = 0;
}

static void formed(void *context, const struct replica_identity *identity)
{
    (void)context;
    (void)identity;
    fail_msg("it was formed before");
}

static void random_bytes(void *context, void *to, size_t count)
{
    (void)context;
    memset(to, 7, count);
}

static void failed(void *context, enum err err, const char *what)
{
    (void)context;
    fail_msg("%s: %s", what, err_name(err));
}

/* ---- the fixture ---- */

/* Turns until nothing more becomes durable. */
static void turn(struct fixture *fixture)
{
    bool again = true;
    while (again) {
        (void)replica_turn(fixture->replica, fixture->now_ms, (int64_t)fixture->now_ms * 1000000);
        again = fixture->saved_any && !fixture->holding;
        if (again) {
            struct log_saved saved = fixture->saved;
            fixture->saved = (struct log_saved){.index = 0};
            fixture->saved_any = false;
            replica_log_saved(fixture->replica, &saved);
        }
    }
}

static void pass_time(struct fixture *fixture, uint64_t ms)
{
    for (uint64_t until_ms = fixture->now_ms + ms; fixture->now_ms < until_ms;) {
        fixture->now_ms += 10;
        turn(fixture);
    }
}

static void hand_in(struct fixture *fixture, struct client_conn *conn,
                    const Wire__ToReplica *message)
{
    replica_time(fixture->replica, fixture->now_ms);
    assert_int_equal(replica_client_message(fixture->replica, conn->client, message), ERR_OK);
}

static void connect_client(struct fixture *fixture, struct client_conn *conn)
{
    static const struct client_origin origin = {.trusted = true, .address = "test"};
    Wire__ClientHello hello = WIRE__CLIENT_HELLO__INIT;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    *conn = (struct client_conn){.client = NULL};
    conn->client = replica_client_opened(fixture->replica, conn, &origin);
    assert_non_null(conn->client);
    hello.version = 1;
    message.body_case = WIRE__TO_REPLICA__BODY_HELLO;
    message.hello = &hello;
    hand_in(fixture, conn, &message);
    assert_true(conn->welcomed);
}

/* Opens a session, or attaches to that of `owner`. */
static void ask_session(struct fixture *fixture, struct client_conn *conn,
                        const struct client_conn *owner, const char nonce[static 16])
{
    Wire__OpenSession open = WIRE__OPEN_SESSION__INIT;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    open.timeout_ms = TIMEOUT_MS;
    open.nonce = wire_bytes(nonce, 16);
    if (owner != NULL) {
        open.session = owner->session;
        open.password = wire_bytes(owner->password, PASSWORD_BYTES);
    }
    message.body_case = WIRE__TO_REPLICA__BODY_OPEN;
    message.open = &open;
    hand_in(fixture, conn, &message);
}

static void send_request(struct fixture *fixture, struct client_conn *conn, Wire__Request *request)
{
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    message.body_case = WIRE__TO_REPLICA__BODY_REQUEST;
    message.request = request;
    hand_in(fixture, conn, &message);
}

static void send_close(struct fixture *fixture, struct client_conn *conn, uint64_t call)
{
    Wire__SessionCloseOp close = WIRE__SESSION_CLOSE_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    op.body_case = WIRE__OP__BODY_SESSION_CLOSE;
    op.session_close = &close;
    request.call = call;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = &op;
    send_request(fixture, conn, &request);
}

static void send_sync(struct fixture *fixture, struct client_conn *conn, uint64_t call)
{
    Wire__SyncRead sync = WIRE__SYNC_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    request.call = call;
    request.body_case = WIRE__REQUEST__BODY_SYNC;
    request.sync = &sync;
    send_request(fixture, conn, &request);
}

static void send_ping(struct fixture *fixture, struct client_conn *conn, uint64_t number)
{
    Wire__Ping ping = WIRE__PING__INIT;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    ping.ping = number;
    message.body_case = WIRE__TO_REPLICA__BODY_PING;
    message.ping = &ping;
    hand_in(fixture, conn, &message);
}

/* Into the log, before the start. */
static void log_members(struct fixture *fixture, const struct raft_members *members, uint64_t term)
{
    struct buffer bytes = {0};
    assert_int_equal(raft_members_encode(members, &bytes), ERR_OK);
    struct raft_entry *entry = raft_entry_new(RAFT_ENTRY_MEMBERS, bytes.data, bytes.len);
    assert_non_null(entry);
    entry->index = ++fixture->last;
    entry->term = term;
    fixture->entries[entry->index] = entry;
    buffer_done(&bytes);
}

/* This replica was leaving when it was made an ensemble of one (quorumd --recover-alone). */
static void log_recovery(struct fixture *fixture)
{
    struct raft_member self = {.id = 1, .incarnation = 5, .was_voter = true, .leaving = true};
    struct raft_member other = {.id = 2, .incarnation = 6, .was_voter = true, .voter = true};
    struct raft_members members = {.last_id = 2, .count = 2, .member = {self, other}};
    log_members(fixture, &members, 1);
    self = (struct raft_member){.id = 1, .incarnation = 5, .voter = true};
    members = (struct raft_members){.last_id = 2, .count = 1, .member = {self}};
    log_members(fixture, &members, 2);
}

static void found(struct fixture *fixture, struct replica_options *options)
{
    options->configured.count = 1;
    options->configured.member[0] = (struct raft_member){.id = 1, .voter = true};
    options->identity = (struct replica_identity){.id = 1, .incarnation = 5, .formed = true};
    options->identity.founders = options->configured;
    options->identity.founders.member[0].incarnation = 5;
    log_members(fixture, &options->identity.founders, 1);
}

static uint64_t index_of_bytes(void *context, uint64_t bytes)
{
    (void)context;
    (void)bytes;
    return 1;
}

static void compact(void *context, uint64_t index)
{
    (void)context;
    (void)index;
}

static void dial(void *context, const struct raft_members *members)
{
    (void)context;
    (void)members;
}

static void want_snapshot(void *context, uint64_t replica)
{
    (void)context;
    (void)replica;
}

/* What the replica is configured with. */
struct settings {
    bool recovered;
    uint32_t feature_level;
    uint64_t file_bytes_max;
};

static int begin(void **state, struct settings settings)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    struct replica_env env = {
        .context = fixture,
        .peer_send_raft = send_raft,
        .peer_send = send_peer,
        .peer_is_connected = is_connected,
        .peer_has_room = is_connected,
        .client_send = send_client,
        .client_close = close_client,
        .client_resume = resume_client,
        .log_submit = submit,
        .log_read = read_log,
        .log_term = read_term,
        .log_index_of_bytes = index_of_bytes,
        .log_compact = compact,
        .members = dial,
        .snapshot_wanted = want_snapshot,
        .store_is_full = store_is_full,
        .store_poll = store_poll,
        .disk_space = disk_space,
        .formed = formed,
        .random = random_bytes,
        .fail = failed,
    };
    struct replica_options options = {.heartbeat_ms = 50,
                                      .election_min_ms = 300,
                                      .election_max_ms = 600,
                                      .feature_level = settings.feature_level,
                                      .file_bytes_max = settings.file_bytes_max,
                                      .seed = 1};
    struct log_state log_state = {.first_index = 1};
    assert_non_null(fixture);
    logging_set_level(LOG_LEVEL_ERROR);
    fixture->rows = omap_new();
    assert_non_null(fixture->rows);
    fixture->kv = kv_memory(fixture->rows);
    fixture->now_ms = 1000;
    found(fixture, &options);
    if (settings.recovered) {
        log_recovery(fixture);
    }
    log_state.last_index = fixture->last;
    log_state.last_term = fixture->entries[fixture->last]->term;
    fixture->replica = replica_new(&options, &env, &fixture->kv, fixture->now_ms);
    assert_non_null(fixture->replica);
    assert_int_equal(replica_start(fixture->replica, &log_state, fixture->now_ms), ERR_OK);
    pass_time(fixture, 100);
    assert_true(replica_is_serving(fixture->replica));
    *state = fixture;
    return 0;
}

static int setup(void **state)
{
    return begin(state, (struct settings){.feature_level = FEATURE_BASE});
}

static int setup_recovered(void **state)
{
    return begin(state, (struct settings){.feature_level = FEATURE_BASE, .recovered = true});
}

static int setup_with_large_files(void **state)
{
    return begin(state, (struct settings){.feature_level = FEATURE_FILES,
                                          .file_bytes_max = FILE_BYTES_LIMIT});
}

static int setup_without_level(void **state)
{
    return begin(state, (struct settings){.feature_level = FEATURE_DIGESTS,
                                          .file_bytes_max = FILE_BYTES_LIMIT});
}

static int setup_with_small_files(void **state)
{
    return begin(state, (struct settings){.feature_level = FEATURE_FILES});
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    replica_free(fixture->replica);
    omap_free(fixture->rows);
    for (uint64_t i = 1; i <= fixture->last; i++) {
        raft_entry_unref(fixture->entries[i]);
    }
    free(fixture);
    return 0;
}

/* ---- tests ---- */

static void a_close_that_is_refused_is_answered(void **state)
{
    struct fixture *fixture = *state;
    struct client_conn *first = &fixture->conn[0];
    struct client_conn *second = &fixture->conn[1];
    connect_client(fixture, first);
    ask_session(fixture, first, NULL, "nonce of the 1st");
    turn(fixture);
    connect_client(fixture, second);
    ask_session(fixture, second, first, "nonce of the 2nd"); /* Stands before the close. */
    send_close(fixture, first, 77);
    turn(fixture);
    assert_int_equal(second->opened_err, ERR_OK);
    assert_int_equal(second->epoch, 2);
    assert_int_equal(first->answer_count, 1);
    assert_int_equal(first->answer_call, 77);
    assert_int_equal(first->answer_err, ERR_SESSION_MOVED);
    assert_true(first->closed);
    assert_false(second->closed);
}

static void an_open_sent_again_on_another_connection_parts_the_first(void **state)
{
    struct fixture *fixture = *state;
    struct client_conn *first = &fixture->conn[0];
    struct client_conn *second = &fixture->conn[1];
    connect_client(fixture, first);
    ask_session(fixture, first, NULL, "one nonce of two");
    turn(fixture);
    connect_client(fixture, second);
    ask_session(fixture, second, NULL, "one nonce of two");
    turn(fixture);
    assert_int_equal(second->opened_err, ERR_OK);
    assert_int_equal(second->session, first->session);
    assert_int_equal(second->epoch, first->epoch);
    assert_true(first->closed);
    send_close(fixture, first, 1);
    turn(fixture);
    assert_int_equal(first->answer_err, ERR_SESSION_MOVED);
    send_close(fixture, second, 2);
    turn(fixture);
    assert_int_equal(second->answer_err, ERR_OK);
}

static void a_read_barrier_of_a_leader_alone_is_answered_in_the_same_turn(void **state)
{
    struct fixture *fixture = *state;
    struct client_conn *conn = &fixture->conn[0];
    connect_client(fixture, conn);
    send_sync(fixture, conn, 9);
    assert_int_equal(conn->answer_count, 0);
    (void)replica_turn(fixture->replica, fixture->now_ms, 0);
    assert_int_equal(conn->answer_count, 1);
    assert_int_equal(conn->answer_call, 9);
}

static void a_ping_is_confirmed_while_the_session_lives(void **state)
{
    struct fixture *fixture = *state;
    struct client_conn *conn = &fixture->conn[0];
    connect_client(fixture, conn);
    ask_session(fixture, conn, NULL, "0123456789abcdef");
    turn(fixture);
    send_ping(fixture, conn, 1);
    pass_time(fixture, 200);
    assert_int_equal(conn->confirmed_ping, 1);
}

static void a_ping_is_not_confirmed_when_the_close_of_its_session_may_be_in_the_log(void **state)
{
    struct fixture *fixture = *state;
    struct client_conn *conn = &fixture->conn[0];
    connect_client(fixture, conn);
    ask_session(fixture, conn, NULL, "0123456789abcdef");
    turn(fixture);
    fixture->holding = true; /* The close is proposed and not yet durable. */
    uint64_t last = fixture->last;
    pass_time(fixture, TIMEOUT_MS + 200);
    assert_true(fixture->last > last);
    send_ping(fixture, conn, 1);
    pass_time(fixture, 500);
    assert_int_equal(conn->confirmed_ping, 0);
    fixture->holding = false;
    turn(fixture);
    assert_true(conn->closed);
}

static void a_stall_of_the_process_ends_no_session(void **state)
{
    struct fixture *fixture = *state;
    struct client_conn *conn = &fixture->conn[0];
    connect_client(fixture, conn);
    ask_session(fixture, conn, NULL, "0123456789abcdef");
    pass_time(fixture, 300); /* The touch of the opening is taken. */
    fixture->now_ms += 5 * TIMEOUT_MS;
    turn(fixture);
    pass_time(fixture, TIMEOUT_MS / 2);
    assert_false(conn->closed);
    pass_time(fixture, TIMEOUT_MS);
    assert_true(conn->closed);
}

static void events_are_judged_by_the_time_at_which_they_are_handed_in(void **state)
{
    struct fixture *fixture = *state;
    struct client_conn *conn = &fixture->conn[0];
    connect_client(fixture, conn);
    ask_session(fixture, conn, NULL, "0123456789abcdef");
    pass_time(fixture, 300);
    fixture->now_ms += 5 * TIMEOUT_MS; /* A stall ends with a message, before the first turn. */
    send_ping(fixture, conn, 1);
    turn(fixture);
    pass_time(fixture, TIMEOUT_MS - 200);
    assert_false(conn->closed);
    assert_int_equal(conn->confirmed_ping, 1);
}

static void a_replica_that_was_leaving_serves_as_an_ensemble_of_one(void **state)
{
    struct fixture *fixture = *state;
    struct client_conn *conn = &fixture->conn[0];
    assert_true(replica_is_serving(fixture->replica));
    connect_client(fixture, conn);
    ask_session(fixture, conn, NULL, "0123456789abcdef");
    turn(fixture);
    assert_int_equal(conn->opened_count, 1);
    assert_int_equal(conn->opened_err, ERR_OK);
    assert_false(conn->closed);
}

/* ---- large files ---- */

static void send_op(struct fixture *fixture, struct client_conn *conn, uint64_t sequence,
                    Wire__Op *op)
{
    Wire__Request request = WIRE__REQUEST__INIT;
    request.call = sequence;
    request.sequence = sequence;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = op;
    send_request(fixture, conn, &request);
    turn(fixture);
    assert_int_equal(conn->answer_call, sequence);
}

static struct client_conn *attached(struct fixture *fixture)
{
    struct client_conn *conn = &fixture->conn[0];
    pass_time(fixture, 1500); /* The level is looked at once a second. */
    connect_client(fixture, conn);
    ask_session(fixture, conn, NULL, "0123456789abcdef");
    turn(fixture);
    assert_int_equal(conn->opened_err, ERR_OK);
    return conn;
}

static enum err send_stage(struct fixture *fixture, struct client_conn *conn, uint64_t sequence)
{
    Wire__Op op = WIRE__OP__INIT;
    Wire__StageOp stage = WIRE__STAGE_OP__INIT;
    stage.stage = 1;
    stage.append = wire_bytes("x", 1);
    op.body_case = WIRE__OP__BODY_STAGE;
    op.stage = &stage;
    send_op(fixture, conn, sequence, &op);
    return err_from_number(conn->answer_err);
}

static enum err send_truncate(struct fixture *fixture, struct client_conn *conn, uint64_t sequence,
                              uint64_t bytes, uint64_t claimed_max)
{
    Wire__Op op = WIRE__OP__INIT;
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;
    Wire__Address root = WIRE__ADDRESS__INIT;
    write.at = &root;
    write.truncate = true;
    write.truncate_bytes = bytes;
    write.bytes_max = claimed_max;
    op.body_case = WIRE__OP__BODY_WRITE;
    op.write = &write;
    send_op(fixture, conn, sequence, &op);
    return err_from_number(conn->answer_err);
}

static void what_not_all_replicas_know_is_refused_at_admission(void **state)
{
    struct fixture *fixture = *state;
    struct client_conn *conn = attached(fixture);
    uint64_t last = 0;
    assert_int_equal(conn->file_bytes_max, FILE_BYTES_MAX);
    last = fixture->last;
    assert_int_equal(send_stage(fixture, conn, 1), ERR_UNSUPPORTED);
    assert_int_equal(fixture->last, last); /* It did not come into the log. */
    assert_int_equal(send_truncate(fixture, conn, 2, FILE_BYTES_MAX + 1ull, FILE_BYTES_LIMIT),
                     ERR_FILE_TOO_BIG);
}

static void a_replica_for_small_files_takes_no_parts_of_large_ones(void **state)
{
    struct fixture *fixture = *state;
    struct client_conn *conn = attached(fixture);
    assert_int_equal(conn->file_bytes_max, FILE_BYTES_MAX);
    assert_int_equal(send_stage(fixture, conn, 1), ERR_FILE_TOO_BIG);
    /* Whatever a client says of its limit. */
    assert_int_equal(send_truncate(fixture, conn, 2, FILE_BYTES_MAX + 1ull, FILE_BYTES_LIMIT),
                     ERR_FILE_TOO_BIG);
    assert_int_equal(send_truncate(fixture, conn, 3, FILE_BYTES_MAX, 0), ERR_OK);
}

static void a_replica_for_large_files_lets_them_grow(void **state)
{
    struct fixture *fixture = *state;
    struct client_conn *conn = attached(fixture);
    assert_int_equal(conn->file_bytes_max, FILE_BYTES_LIMIT);
    assert_int_equal(send_stage(fixture, conn, 1), ERR_OK);
    assert_int_equal(send_truncate(fixture, conn, 2, FILE_BYTES_LIMIT, 0), ERR_OK);
    assert_int_equal(send_truncate(fixture, conn, 3, FILE_BYTES_LIMIT + 1ull, 0), ERR_FILE_TOO_BIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_close_that_is_refused_is_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(an_open_sent_again_on_another_connection_parts_the_first,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_read_barrier_of_a_leader_alone_is_answered_in_the_same_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(a_ping_is_confirmed_while_the_session_lives, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            a_ping_is_not_confirmed_when_the_close_of_its_session_may_be_in_the_log, setup,
            teardown),
        cmocka_unit_test_setup_teardown(a_stall_of_the_process_ends_no_session, setup, teardown),
        cmocka_unit_test_setup_teardown(events_are_judged_by_the_time_at_which_they_are_handed_in,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_replica_that_was_leaving_serves_as_an_ensemble_of_one,
                                        setup_recovered, teardown),
        cmocka_unit_test_setup_teardown(what_not_all_replicas_know_is_refused_at_admission,
                                        setup_without_level, teardown),
        cmocka_unit_test_setup_teardown(a_replica_for_small_files_takes_no_parts_of_large_ones,
                                        setup_with_small_files, teardown),
        cmocka_unit_test_setup_teardown(a_replica_for_large_files_lets_them_grow,
                                        setup_with_large_files, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
