/* SPDX-License-Identifier: Apache-2.0
 *
 * server/feed: which changes go to whom, when, and how much at once. A conductor that has nothing
 * but a tree, a history and streams.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/replica_internal.h"
#include "tests/lib/tree_fixture.h"

#define CHANGES_MAX 200u
#define PATH_ROOM   300u

/* What one client was sent last, and all in all. */
struct client_conn {
    size_t messages;
    size_t bytes; /* of the last message */
    size_t changes;
    size_t last_changes; /* in the last message */
    char path[PATH_ROOM];
    uint64_t zxid;
    bool gap;
    uint64_t gap_from;
    uint64_t gap_to;
    int32_t err;
    int kind;
};

struct world {
    struct tree_fixture *fixture;
    struct replica replica;
    struct client client;
    struct client_conn conn;
};

static void note_send(void *context, struct client_conn *conn, const Wire__ToClient *message)
{
    const Wire__WatchChanges *changes = message->watch_changes;
    (void)context;
    assert_int_equal(WIRE__TO_CLIENT__BODY_WATCH_CHANGES, message->body_case);
    conn->messages++;
    conn->bytes = protobuf_c_message_get_packed_size(&message->base);
    conn->changes += changes->n_changes;
    conn->last_changes = changes->n_changes;
    conn->zxid = changes->zxid;
    conn->gap = changes->gap;
    conn->gap_from = changes->gap_from;
    conn->gap_to = changes->gap_to;
    conn->err = changes->err;
    if (changes->n_changes > 0) {
        const Wire__Change *last = changes->changes[changes->n_changes - 1];
        (void)snprintf(conn->path, sizeof conn->path, "%.*s", (int)last->path.len,
                       (const char *)last->path.data);
        conn->kind = (int)last->kind;
    }
}

/* The newest entry is applied here too. */
static void follow(struct world *world)
{
    world->replica.applied_index = tree_applied_index(world->fixture->tree);
    history_add(world->replica.history, world->fixture->tree, world->fixture->result.changes,
                world->fixture->result.change_count);
}

static int world_setup(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->fixture = fixture_new();
    fixture_open(world->fixture, 1);
    world->fixture->identity.trusted = true;
    struct replica *replica = &world->replica;
    replica->tree = world->fixture->tree;
    replica->applied_index = tree_applied_index(replica->tree);
    replica->history = history_new(replica->applied_index, CHANGES_MAX, HISTORY_BYTES_MAX);
    replica->feeds = feeds_new();
    assert_non_null(replica->history);
    assert_non_null(replica->feeds);
    replica->env.client_send = note_send;
    world->client.conn = &world->conn;
    world->client.phase = CLIENT_GREETED;
    world->client.origin.trusted = true;
    *state = world;
    return 0;
}

static int world_teardown(void **state)
{
    struct world *world = *state;
    feeds_client_closed(&world->replica, &world->client);
    assert_int_equal(0, world->client.feed_count);
    feeds_free(world->replica.feeds);
    history_free(world->replica.history);
    fixture_free(world->fixture);
    free(world);
    return 0;
}

static enum err watch(struct world *world, uint64_t number, const char *path, bool recursive,
                      const uint64_t *since)
{
    Wire__Watch message = WIRE__WATCH__INIT;
    message.watch = number;
    message.path = wire_bytes(path, strlen(path));
    message.recursive = recursive;
    message.has_since = since != NULL;
    message.since_zxid = since != NULL ? *since : 0;
    return feeds_watch(&world->replica, &world->client, &message);
}

static void create(struct world *world, const char *path, enum node_kind kind)
{
    assert_int_equal(ERR_OK, fixture_create(world->fixture, path, kind, ""));
    follow(world);
}

static void write_to(struct world *world, const char *path)
{
    assert_int_equal(ERR_OK, fixture_write(world->fixture, path, "x"));
    follow(world);
}

static void turn(struct world *world)
{
    while (feeds_turn(&world->replica)) {
    }
}

static void a_watch_is_answered_at_once_with_where_it_begins(void **state)
{
    struct world *world = *state;
    assert_int_equal(ERR_OK, watch(world, 1, "/", true, NULL));
    assert_int_equal(1, world->conn.messages);
    assert_int_equal(world->replica.applied_index, world->conn.zxid);
    assert_int_equal(0, world->conn.changes);
}

static void changes_wait_until_the_client_is_ready(void **state)
{
    struct world *world = *state;
    assert_int_equal(ERR_OK, watch(world, 1, "/", true, NULL));
    create(world, "/a", NODE_FILE);
    turn(world);
    assert_int_equal(1, world->conn.messages);
    feeds_more(&world->replica, &world->client, 1);
    turn(world);
    assert_int_equal(1, world->conn.last_changes);
    assert_string_equal("/a", world->conn.path);
    assert_int_equal(world->replica.applied_index, world->conn.zxid);
    create(world, "/b", NODE_FILE);
    turn(world);
    assert_int_equal(2, world->conn.messages); /* Asked for one message, got one. */
    feeds_more(&world->replica, &world->client, 1);
    turn(world);
    assert_string_equal("/b", world->conn.path);
    feeds_unwatch(&world->replica, &world->client, 1);
    create(world, "/c", NODE_FILE);
    turn(world);
    assert_int_equal(3, world->conn.messages);
}

static void only_the_node_and_its_children_are_told_unless_recursive(void **state)
{
    struct world *world = *state;
    create(world, "/w", NODE_DIR);
    create(world, "/w/d", NODE_DIR);
    create(world, "/wx", NODE_DIR);
    uint64_t since = world->replica.applied_index;
    create(world, "/w/f", NODE_FILE);
    create(world, "/w/d/f", NODE_FILE);
    create(world, "/wx/f", NODE_FILE);
    create(world, "/f", NODE_FILE);
    assert_int_equal(ERR_OK, watch(world, 1, "/w", false, &since));
    feeds_more(&world->replica, &world->client, 1);
    turn(world);
    assert_int_equal(1, world->conn.last_changes);
    assert_string_equal("/w/f", world->conn.path);
    assert_int_equal(ERR_OK, watch(world, 2, "/w", true, &since));
    feeds_more(&world->replica, &world->client, 2);
    turn(world);
    assert_int_equal(2, world->conn.last_changes);
    assert_string_equal("/w/d/f", world->conn.path);
    assert_int_equal(ERR_OK, watch(world, 3, "/", false, &since));
    feeds_more(&world->replica, &world->client, 3);
    turn(world);
    assert_int_equal(1, world->conn.last_changes);
    assert_string_equal("/f", world->conn.path);
}

static void a_stream_is_told_how_far_it_is_about_once_a_second(void **state)
{
    struct world *world = *state;
    create(world, "/f", NODE_FILE);
    assert_int_equal(ERR_OK, watch(world, 1, "/elsewhere", true, NULL));
    feeds_more(&world->replica, &world->client, 1);
    for (size_t i = 0; i < 30; i++) {
        world->replica.now_ms += 100;
        write_to(world, "/f");
        turn(world);
    }
    assert_in_range(world->conn.messages, 3, 4);
    assert_true(world->conn.zxid > world->replica.applied_index - 11);
    for (size_t i = 0; i < 30; i++) { /* Nothing happens: nothing is told. */
        world->replica.now_ms += 1000;
        turn(world);
    }
    assert_in_range(world->conn.messages, 4, 5);
}

static void a_stream_from_before_the_history_begins_with_a_gap(void **state)
{
    struct world *world = *state;
    uint64_t since = 0;
    uint64_t begin = world->replica.applied_index;
    create(world, "/f", NODE_FILE);
    assert_true(begin > 0);
    assert_int_equal(ERR_OK, watch(world, 1, "/", true, &since));
    assert_int_equal(0, world->conn.zxid);
    feeds_more(&world->replica, &world->client, 1);
    turn(world);
    assert_true(world->conn.gap);
    assert_int_equal(1, world->conn.gap_from);
    assert_int_equal(begin, world->conn.gap_to);
    assert_int_equal(begin, world->conn.zxid);
    feeds_more(&world->replica, &world->client, 1);
    turn(world);
    assert_false(world->conn.gap);
    assert_string_equal("/f", world->conn.path);
}

static void a_reader_that_the_history_overtakes_is_told_what_it_missed(void **state)
{
    struct world *world = *state;
    create(world, "/f", NODE_FILE);
    assert_int_equal(ERR_OK, watch(world, 1, "/", true, NULL));
    uint64_t told = world->conn.zxid;
    for (size_t i = 0; i < CHANGES_MAX + 50; i++) {
        write_to(world, "/f");
        turn(world);
    }
    feeds_more(&world->replica, &world->client, 1);
    turn(world);
    assert_true(world->conn.gap);
    assert_int_equal(told + 1, world->conn.gap_from);
    assert_int_equal(told + 50, world->conn.gap_to);
    for (size_t i = 0; i < 10; i++) {
        feeds_more(&world->replica, &world->client, 1);
        turn(world);
    }
    assert_int_equal(CHANGES_MAX, world->conn.changes);
}

static void one_message_is_bounded(void **state)
{
    struct world *world = *state;
    char path[PATH_ROOM];
    memset(path, 'n', sizeof path);
    path[0] = '/';
    path[255] = '\0';
    create(world, path, NODE_DIR);
    path[255] = '/';
    path[299] = '\0';
    uint64_t since = world->replica.applied_index;
    create(world, path, NODE_FILE);
    for (size_t i = 1; i < CHANGES_MAX; i++) {
        write_to(world, path);
    }
    assert_int_equal(ERR_OK, watch(world, 1, "/", true, &since));
    size_t messages = 0;
    while (world->conn.changes < CHANGES_MAX) {
        feeds_more(&world->replica, &world->client, 1);
        turn(world);
        assert_true(world->conn.bytes < WATCH_BYTES_MAX + 2 * PATH_BYTES_MAX);
        assert_in_range(++messages, 1, 5);
    }
    assert_in_range(messages, 1, 2);
}

static void who_asks_for_what_is_yet_to_come_gets_that_only(void **state)
{
    struct world *world = *state;
    create(world, "/f", NODE_FILE);
    uint64_t since = world->replica.applied_index + 2; /* As one that another replica told. */
    assert_int_equal(ERR_OK, watch(world, 1, "/", true, &since));
    assert_int_equal(since, world->conn.zxid);
    feeds_more(&world->replica, &world->client, 1);
    write_to(world, "/f");
    turn(world);
    write_to(world, "/f");
    turn(world);
    assert_int_equal(1, world->conn.messages);
    write_to(world, "/f");
    turn(world);
    assert_int_equal(1, world->conn.changes);
    assert_int_equal(since + 1, world->conn.zxid);
}

static void too_many_or_bad_watches_are_refused(void **state)
{
    struct world *world = *state;
    assert_int_equal(ERR_OK, watch(world, 1000, "relative", true, NULL));
    assert_int_equal(ERR_BAD_NAME, world->conn.err);
    for (uint64_t i = 0; i < WATCHES_PER_CONNECTION_MAX; i++) {
        assert_int_equal(ERR_OK, watch(world, i, "/", true, NULL));
        assert_int_equal(ERR_OK, world->conn.err);
    }
    assert_int_equal(ERR_OK, watch(world, 1001, "/", true, NULL));
    assert_int_equal(ERR_LIMIT, world->conn.err);
    assert_int_equal(ERR_MALFORMED, watch(world, 5, "/", true, NULL));
    world->client.phase = CLIENT_CONNECTED;
    assert_int_equal(ERR_MALFORMED, watch(world, 1002, "/", true, NULL));
    feeds_more(&world->replica, &world->client, 4711); /* Unknown ones are no matter. */
    feeds_unwatch(&world->replica, &world->client, 4711);
}

static void a_rename_shows_as_much_as_its_reader_may_see(void **state)
{
    struct world *world = *state;
    Wire__SetattrOp hide = WIRE__SETATTR_OP__INIT;
    hide.set_mode = true;
    hide.mode = 0700;
    create(world, "/open", NODE_DIR);
    create(world, "/secret", NODE_DIR);
    create(world, "/secret/f", NODE_FILE);
    assert_int_equal(ERR_OK, fixture_setattr(world->fixture, "/secret", &hide));
    Wire__SetattrOp show = hide;
    show.mode = 0755;
    assert_int_equal(ERR_OK, fixture_setattr(world->fixture, "/open", &show));
    assert_int_equal(ERR_OK, fixture_setattr(world->fixture, "/", &show));
    world->replica.applied_index = tree_applied_index(world->fixture->tree);
    world->client.origin = (struct client_origin){.trusted = false, .uid = 65534, .gid = 65534};
    assert_int_equal(ERR_OK, watch(world, 1, "/", true, NULL));
    feeds_more(&world->replica, &world->client, 1);
    assert_int_equal(ERR_OK,
                     fixture_rename(world->fixture, "/secret/f", "/open/g", FIXTURE_RENAME));
    follow(world);
    turn(world);
    assert_string_equal("/open/g", world->conn.path);
    assert_int_equal(WIRE__EVENT_KIND__EVENT_CREATED, world->conn.kind);
    feeds_more(&world->replica, &world->client, 1);
    assert_int_equal(ERR_OK,
                     fixture_rename(world->fixture, "/open/g", "/secret/f", FIXTURE_RENAME));
    follow(world);
    turn(world);
    assert_string_equal("/open/g", world->conn.path);
    assert_int_equal(WIRE__EVENT_KIND__EVENT_REMOVED, world->conn.kind);
    feeds_more(&world->replica, &world->client, 1);
    write_to(world, "/secret/f");
    turn(world);
    assert_int_equal(2, world->conn.changes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
        TEST(a_watch_is_answered_at_once_with_where_it_begins),
        TEST(changes_wait_until_the_client_is_ready),
        TEST(only_the_node_and_its_children_are_told_unless_recursive),
        TEST(a_stream_is_told_how_far_it_is_about_once_a_second),
        TEST(a_stream_from_before_the_history_begins_with_a_gap),
        TEST(a_reader_that_the_history_overtakes_is_told_what_it_missed),
        TEST(one_message_is_bounded),
        TEST(who_asks_for_what_is_yet_to_come_gets_that_only),
        TEST(too_many_or_bad_watches_are_refused),
        TEST(a_rename_shows_as_much_as_its_reader_may_see),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
