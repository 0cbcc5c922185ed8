/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the tree: sessions, exactly once, cancel, ephemeral nodes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/tree_fixture.h"

/* A create of /name under a number of our choice. */
static enum err create_as(struct tree_fixture *fixture, uint64_t sequence, const char *path,
                          bool sequential)
{
    Wire__Op op = WIRE__OP__INIT;
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;
    Wire__Address at = WIRE__ADDRESS__INIT;

    at.path = wire_bytes(path, strlen(path));
    create.at = &at;
    create.kind = WIRE__KIND__KIND_DIR;
    create.mode = 0755;
    create.sequential = sequential;
    op.body_case = WIRE__OP__BODY_CREATE;
    op.create = &create;
    return fixture_apply_as(fixture, sequence, &op);
}

static enum err append_as(struct tree_fixture *fixture, uint64_t sequence, const char *path)
{
    Wire__Op op = WIRE__OP__INIT;
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;
    Wire__Address at = WIRE__ADDRESS__INIT;

    at.path = wire_bytes(path, strlen(path));
    write.at = &at;
    write.append = wire_bytes("x", 1);
    op.body_case = WIRE__OP__BODY_WRITE;
    op.write = &write;
    return fixture_apply_as(fixture, sequence, &op);
}

static enum err cancel_as(struct tree_fixture *fixture, uint64_t sequence, uint64_t canceled)
{
    Wire__Op op = WIRE__OP__INIT;
    Wire__CancelOp cancel = WIRE__CANCEL_OP__INIT;

    cancel.sequence = canceled;
    op.body_case = WIRE__OP__BODY_CANCEL;
    op.cancel = &cancel;
    return fixture_apply_as(fixture, sequence, &op);
}

static enum err create_ephemeral(struct tree_fixture *fixture, const char *path,
                                 enum node_kind kind)
{
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;

    create.kind = (Wire__Kind)kind;
    create.mode = 0755;
    create.ephemeral = true;
    return fixture_create_with(fixture, path, &create);
}

/* ---- open, attach, close ---- */

static void session_id_is_the_index_of_its_open_entry(void **state)
{
    struct tree_fixture *fixture = *state;
    struct tree_session session;

    fixture_open(fixture, 2);
    assert_int_equal(fixture->result.session, fixture->result.zxid);
    assert_int_equal(fixture->result.epoch, 1);
    assert_int_equal(fixture->result.timeout_ms, SESSION_TIMEOUT_MS_DEFAULT);
    assert_true(fixture->result.session_opened);
    assert_int_equal(fixture->result.password[0], 2);
    assert_int_equal(fixture->result.nonce[15], 2);
    assert_true(tree_session_get(fixture->tree, fixture->session, &session));
    assert_int_equal(session.epoch, 1);
    assert_false(tree_session_get(fixture->tree, 999, &session));
}

static void open_that_is_sent_again_gives_the_same_session(void **state)
{
    struct tree_fixture *fixture = *state;
    uint64_t first = fixture->session;

    fixture_open(fixture, 1);
    assert_int_equal(fixture->session, first);
    assert_false(fixture->result.session_opened);
    assert_true(fixture->result.replayed);
    assert_int_equal(fixture->result.zxid, first);
}

static void attach_raises_the_epoch(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_attach(fixture, fixture->session, 1, 7), ERR_OK);
    assert_int_equal(fixture->result.epoch, 2);
    assert_true(fixture->result.session_attached);
    assert_int_equal(fixture->result.session, fixture->session);
    assert_int_equal(fixture->result.nonce[0], 7);
    assert_int_equal(fixture->result.password[0], 1);
    assert_int_equal(fixture_create(fixture, "/a", NODE_DIR, NULL), ERR_SESSION_MOVED);
    fixture->epoch = 2;
    assert_int_equal(fixture_create(fixture, "/a", NODE_DIR, NULL), ERR_OK);
}

static void attach_that_is_sent_again_keeps_the_epoch(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_attach(fixture, fixture->session, 1, 7), ERR_OK);
    assert_int_equal(fixture_attach(fixture, fixture->session, 1, 7), ERR_OK);
    assert_int_equal(fixture->result.epoch, 2);
    assert_false(fixture->result.session_attached);
    assert_true(fixture->result.replayed);
    assert_int_equal(fixture_attach(fixture, fixture->session, 1, 8), ERR_OK);
    assert_int_equal(fixture->result.epoch, 3);
}

static void attach_needs_session_and_password(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_attach(fixture, fixture->session, 3, 7), ERR_BAD_PASSWORD);
    assert_int_equal(fixture->result.nonce[0], 7);
    assert_int_equal(fixture_attach(fixture, 999, 1, 7), ERR_SESSION_EXPIRED);
    assert_int_equal(fixture->result.nonce[0], 7);
    assert_int_equal(fixture_create(fixture, "/a", NODE_DIR, NULL), ERR_OK);
}

static void close_ends_a_session(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_create(fixture, "/a", NODE_DIR, NULL), ERR_OK);
    assert_int_equal(fixture_close(fixture, fixture->session, 1), ERR_OK);
    assert_true(fixture->result.session_closed);
    assert_int_equal(fixture->result.session, fixture->session);
    assert_int_equal(fixture->result.epoch, 1);
    assert_int_equal(fixture_create(fixture, "/b", NODE_DIR, NULL), ERR_SESSION_EXPIRED);
    assert_int_equal(fixture_close(fixture, fixture->session, 1), ERR_SESSION_EXPIRED);
    assert_false(fixture->result.session_closed);
    assert_int_equal(fixture_attach(fixture, fixture->session, 1, 7), ERR_SESSION_EXPIRED);
}

static void close_with_an_older_epoch_does_nothing(void **state)
{
    struct tree_fixture *fixture = *state;
    struct tree_session session;

    assert_int_equal(fixture_attach(fixture, fixture->session, 1, 7), ERR_OK);
    assert_int_equal(fixture_close(fixture, fixture->session, 1), ERR_SESSION_MOVED);
    assert_true(tree_session_get(fixture->tree, fixture->session, &session));
    assert_int_equal(fixture_close(fixture, fixture->session, 2), ERR_OK);
}

static void unknown_session_is_expired_before_anything_else(void **state)
{
    struct tree_fixture *fixture = *state;

    fixture->session = 12345;
    assert_int_equal(fixture_create(fixture, "bad path", NODE_DIR, NULL), ERR_SESSION_EXPIRED);
    fixture->session = 0;
    assert_int_equal(fixture_create(fixture, "/a", NODE_DIR, NULL), ERR_SESSION_EXPIRED);
}

/* ---- exactly once ---- */

static void command_that_comes_again_is_answered_but_not_applied(void **state)
{
    struct tree_fixture *fixture = *state;
    uint64_t zxid = 0;
    uint64_t ino = 0;

    assert_int_equal(create_as(fixture, 1, "/lock", false), ERR_OK);
    zxid = fixture->result.zxid;
    ino = fixture->result.ino;
    assert_int_equal(create_as(fixture, 1, "/lock", false), ERR_OK);
    assert_true(fixture->result.replayed);
    assert_int_equal(fixture->result.zxid, zxid);
    assert_int_equal(fixture->result.ino, ino);
    assert_true(fixture->result.has_attr);
    assert_true(fixture->result.has_parent_attr);
    assert_int_equal(fixture->result.name.len, 4);
    assert_int_equal(fixture->result.change_count, 0);
    assert_int_equal(create_as(fixture, 2, "/lock", false), ERR_EXISTS);
    assert_int_equal(append_as(fixture, 3, "/lock"), ERR_OK);
    assert_int_equal(append_as(fixture, 3, "/lock"), ERR_OK);
    fixture_expect_data(fixture, "/lock", "x");
    assert_int_equal(fixture->result.attr.version, 1);
}

static void sequential_create_that_comes_again_keeps_its_name(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(create_as(fixture, 1, "/job-", true), ERR_OK);
    assert_int_equal(create_as(fixture, 1, "/job-", true), ERR_OK);
    assert_int_equal(fixture->result.name.len, 14);
    assert_memory_equal(fixture->result.name.bytes, "job-0000000000", 14);
    assert_int_equal(fixture_attr(fixture, "/").children, 1);
}

static void refusals_are_kept_too(void **state)
{
    struct tree_fixture *fixture = *state;
    uint64_t zxid = 0;

    assert_int_equal(append_as(fixture, 1, "/a"), ERR_NO_NODE);
    zxid = fixture->result.zxid;
    assert_int_equal(create_as(fixture, 2, "/a", false), ERR_OK);
    assert_int_equal(append_as(fixture, 1, "/a"), ERR_NO_NODE);
    assert_true(fixture->result.replayed);
    assert_int_equal(fixture->result.zxid, zxid);
}

static void answer_of_a_node_that_is_gone_has_no_attributes(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(create_as(fixture, 1, "/a", false), ERR_OK);
    fixture->sequence = 1;
    assert_int_equal(fixture_remove(fixture, "/a", WIRE__REMOVE_WHAT__REMOVE_ANY), ERR_OK);
    assert_int_equal(create_as(fixture, 1, "/a", false), ERR_OK);
    assert_true(fixture->result.replayed);
    assert_false(fixture->result.has_attr);
    assert_int_equal(tree_node_count(fixture->tree), 1);
}

static void answers_survive_a_restart_and_an_attach(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(create_as(fixture, 1, "/a", false), ERR_OK);
    fixture_reopen(fixture);
    assert_int_equal(fixture_attach(fixture, fixture->session, 1, 9), ERR_OK);
    fixture->epoch = fixture->result.epoch;
    assert_int_equal(create_as(fixture, 1, "/a", false), ERR_OK);
    assert_true(fixture->result.replayed);
}

static void sequences_may_come_in_any_order_within_the_window(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(create_as(fixture, 3, "/c", false), ERR_OK);
    assert_int_equal(create_as(fixture, 1, "/a", false), ERR_OK);
    assert_int_equal(create_as(fixture, 2, "/b", false), ERR_OK);
    assert_false(fixture->result.replayed);
    assert_int_equal(fixture_attr(fixture, "/").children, 3);
}

static void sequence_older_than_its_slot_has_lost_its_answer(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(create_as(fixture, 1, "/a", false), ERR_OK);
    assert_int_equal(create_as(fixture, 1 + SESSION_WINDOW, "/b", false), ERR_OK);
    assert_int_equal(create_as(fixture, 1, "/a", false), ERR_ANSWER_LOST);
    assert_int_equal(create_as(fixture, 1 + SESSION_WINDOW, "/b", false), ERR_OK);
    assert_true(fixture->result.replayed);
}

static void command_that_its_client_has_the_answer_of_is_not_applied(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__Command command = WIRE__COMMAND__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__RemoveOp remove = WIRE__REMOVE_OP__INIT;
    Wire__Address at = WIRE__ADDRESS__INIT;

    assert_int_equal(create_as(fixture, 1, "/a", false), ERR_OK);
    at.path = wire_bytes("/a", 2);
    remove.at = &at;
    op.body_case = WIRE__OP__BODY_REMOVE;
    op.remove = &remove;
    command.session = fixture->session;
    command.epoch = fixture->epoch;
    command.sequence = 5;
    command.answered_below = 6;
    command.identity = &fixture->identity;
    command.op = &op;
    assert_int_equal(fixture_apply_command(fixture, &command), ERR_ANSWER_LOST);
    command.answered_below = 5;
    assert_int_equal(fixture_apply_command(fixture, &command), ERR_OK);
}

static void kept_answers_never_need_more_rows_than_the_window(void **state)
{
    struct tree_fixture *fixture = *state;
    size_t before = omap_count(fixture->rows);

    for (uint64_t i = 1; i <= SESSION_WINDOW + 100; i++) {
        assert_int_equal(append_as(fixture, i, "/"), ERR_OK);
    }
    assert_int_equal(omap_count(fixture->rows), before + SESSION_WINDOW);
    assert_int_equal(fixture_close(fixture, fixture->session, 1), ERR_OK);
    assert_true(omap_count(fixture->rows) < before);
}

static void sessions_number_their_commands_apart(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(create_as(fixture, 1, "/a", false), ERR_OK);
    fixture_open(fixture, 2);
    assert_int_equal(create_as(fixture, 1, "/b", false), ERR_OK);
    assert_false(fixture->result.replayed);
}

/* ---- cancel ---- */

static void cancel_of_what_was_not_applied_keeps_it_from_ever_being(void **state)
{
    struct tree_fixture *fixture = *state;
    struct node_attr attr;

    assert_int_equal(cancel_as(fixture, 2, 1), ERR_CANCELED);
    assert_int_equal(create_as(fixture, 1, "/lock", false), ERR_CANCELED);
    assert_true(fixture->result.replayed);
    assert_int_equal(fixture_lookup(fixture, "/lock", &attr), ERR_NO_NODE);
}

static void cancel_of_an_applied_write_gives_its_answer(void **state)
{
    struct tree_fixture *fixture = *state;
    uint64_t zxid = 0;

    assert_int_equal(append_as(fixture, 1, "/"), ERR_OK);
    zxid = fixture->result.zxid;
    assert_int_equal(cancel_as(fixture, 2, 1), ERR_OK);
    assert_int_equal(fixture->result.zxid, zxid);
    assert_int_equal(fixture->result.sequence, 2);
    assert_true(fixture->result.has_attr);
    fixture_expect_data(fixture, "/", "x");
    assert_int_equal(append_as(fixture, 3, "/no"), ERR_NO_NODE);
    assert_int_equal(cancel_as(fixture, 4, 3), ERR_NO_NODE);
}

static void cancel_takes_a_created_lock_back(void **state)
{
    struct tree_fixture *fixture = *state;
    struct node_attr attr;

    assert_int_equal(create_as(fixture, 1, "/lock", false), ERR_OK);
    assert_int_equal(cancel_as(fixture, 2, 1), ERR_CANCELED);
    assert_int_equal(fixture->result.change_count, 1);
    assert_int_equal(fixture->result.changes[0].kind, CHANGE_REMOVED);
    assert_int_equal(fixture_lookup(fixture, "/lock", &attr), ERR_NO_NODE);
    assert_int_equal(create_as(fixture, 1, "/lock", false), ERR_CANCELED);
    assert_int_equal(cancel_as(fixture, 2, 1), ERR_CANCELED);
    assert_true(fixture->result.replayed);
    assert_int_equal(create_as(fixture, 3, "/lock", false), ERR_OK);
}

static void cancel_leaves_a_lock_that_somebody_else_has_made_since(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(create_as(fixture, 1, "/lock", false), ERR_OK);
    fixture->sequence = 1;
    assert_int_equal(fixture_remove(fixture, "/lock", WIRE__REMOVE_WHAT__REMOVE_ANY), ERR_OK);
    assert_int_equal(create_as(fixture, 3, "/lock", false), ERR_OK);
    assert_int_equal(cancel_as(fixture, 4, 1), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/lock").kind, NODE_DIR);
}

static void cancel_leaves_a_directory_that_is_in_use(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(create_as(fixture, 1, "/lock", false), ERR_OK);
    assert_int_equal(create_as(fixture, 2, "/lock/pid", false), ERR_OK);
    assert_int_equal(cancel_as(fixture, 3, 1), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/lock").children, 1);
}

static void cancel_of_itself_or_the_future_is_invalid(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(cancel_as(fixture, 5, 5), ERR_INVALID);
    assert_int_equal(cancel_as(fixture, 6, 7), ERR_INVALID);
    assert_int_equal(cancel_as(fixture, 7, 0), ERR_INVALID);
}

/* ---- ephemeral nodes ---- */

static void ephemeral_nodes_go_with_their_session(void **state)
{
    struct tree_fixture *fixture = *state;
    uint64_t first = fixture->session;
    struct node_attr attr;

    assert_int_equal(fixture_create(fixture, "/svc", NODE_DIR, NULL), ERR_OK);
    assert_int_equal(create_ephemeral(fixture, "/svc/a", NODE_FILE), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/svc/a").owner, first);
    assert_int_equal(create_ephemeral(fixture, "/svc/b", NODE_PLAIN), ERR_OK);
    fixture_open(fixture, 2);
    assert_int_equal(create_ephemeral(fixture, "/svc/c", NODE_FILE), ERR_OK);
    assert_int_equal(fixture_close(fixture, first, 1), ERR_OK);
    assert_int_equal(fixture->result.change_count, 2);
    assert_int_equal(fixture->result.changes[0].kind, CHANGE_REMOVED);
    assert_int_equal(fixture->result.changes[0].zxid, fixture->result.zxid);
    assert_int_equal(fixture_lookup(fixture, "/svc/a", &attr), ERR_NO_NODE);
    assert_int_equal(fixture_lookup(fixture, "/svc/b", &attr), ERR_NO_NODE);
    assert_int_equal(fixture_attr(fixture, "/svc").children, 1);
}

static void ephemeral_node_that_was_removed_or_renamed_is_no_trouble(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(create_ephemeral(fixture, "/a", NODE_FILE), ERR_OK);
    assert_int_equal(create_ephemeral(fixture, "/b", NODE_FILE), ERR_OK);
    assert_int_equal(create_ephemeral(fixture, "/c", NODE_FILE), ERR_OK);
    assert_int_equal(fixture_remove(fixture, "/a", WIRE__REMOVE_WHAT__REMOVE_ANY), ERR_OK);
    assert_int_equal(fixture_rename(fixture, "/b", "/d", FIXTURE_RENAME), ERR_OK);
    assert_int_equal(fixture_rename(fixture, "/d", "/c", FIXTURE_RENAME), ERR_OK);
    fixture_recount(fixture);
    assert_int_equal(fixture_close(fixture, fixture->session, 1), ERR_OK);
    assert_int_equal(fixture->result.change_count, 1);
    assert_int_equal(tree_node_count(fixture->tree), 1);
}

static void ephemeral_directory_takes_all_below_it_along_children_first(void **state)
{
    struct tree_fixture *fixture = *state;
    uint64_t first = fixture->session;
    const struct tree_change *changes = NULL;

    assert_int_equal(create_ephemeral(fixture, "/lock", NODE_DIR), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/lock/pid", NODE_FILE, "1"), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/lock/d", NODE_DIR, NULL), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/lock/d/f", NODE_FILE, "2"), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/lock/pid").owner, 0);
    fixture_open(fixture, 2);
    assert_int_equal(create_ephemeral(fixture, "/lock/d/of another", NODE_FILE), ERR_OK);
    assert_int_equal(create_ephemeral(fixture, "/stays", NODE_FILE), ERR_OK);
    assert_int_equal(fixture_close(fixture, first, 1), ERR_OK);
    assert_int_equal(fixture->result.change_count, 5);
    changes = fixture->result.changes;
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(changes[i].kind, CHANGE_REMOVED);
        for (size_t j = i + 1; j < 5; j++) {
            assert_int_not_equal(changes[j].parent, changes[i].ino);
        }
    }
    assert_int_equal(changes[4].parent, ROOT_INO);
    assert_int_equal(tree_node_count(fixture->tree), 2);
}

static void nested_ephemeral_nodes_of_one_session_go_once(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(create_ephemeral(fixture, "/lock", NODE_DIR), ERR_OK);
    assert_int_equal(create_ephemeral(fixture, "/lock/a", NODE_FILE), ERR_OK);
    assert_int_equal(fixture_close(fixture, fixture->session, 1), ERR_OK);
    assert_int_equal(fixture->result.change_count, 2);
    assert_int_equal(tree_node_count(fixture->tree), 1);
}

static void session_with_many_nodes_closes_in_one_entry(void **state)
{
    struct tree_fixture *fixture = *state;
    char path[32];

    assert_int_equal(create_ephemeral(fixture, "/d", NODE_DIR), ERR_OK);
    for (unsigned i = 0; i < 2000; i++) {
        (void)snprintf(path, sizeof(path), "/d/%u", i);
        assert_int_equal(fixture_create(fixture, path, NODE_FILE, "x"), ERR_OK);
    }
    assert_int_equal(fixture_close(fixture, fixture->session, 1), ERR_OK);
    assert_int_equal(fixture->result.change_count, 2001);
    assert_int_equal(tree_node_count(fixture->tree), 1);
    assert_int_equal(tree_data_bytes(fixture->tree), 0);
}

#define test_of(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_of(session_id_is_the_index_of_its_open_entry),
        test_of(open_that_is_sent_again_gives_the_same_session),
        test_of(attach_raises_the_epoch),
        test_of(attach_that_is_sent_again_keeps_the_epoch),
        test_of(attach_needs_session_and_password),
        test_of(close_ends_a_session),
        test_of(close_with_an_older_epoch_does_nothing),
        test_of(unknown_session_is_expired_before_anything_else),
        test_of(command_that_comes_again_is_answered_but_not_applied),
        test_of(sequential_create_that_comes_again_keeps_its_name),
        test_of(refusals_are_kept_too),
        test_of(answer_of_a_node_that_is_gone_has_no_attributes),
        test_of(answers_survive_a_restart_and_an_attach),
        test_of(sequences_may_come_in_any_order_within_the_window),
        test_of(sequence_older_than_its_slot_has_lost_its_answer),
        test_of(command_that_its_client_has_the_answer_of_is_not_applied),
        test_of(kept_answers_never_need_more_rows_than_the_window),
        test_of(sessions_number_their_commands_apart),
        test_of(cancel_of_what_was_not_applied_keeps_it_from_ever_being),
        test_of(cancel_of_an_applied_write_gives_its_answer),
        test_of(cancel_takes_a_created_lock_back),
        test_of(cancel_leaves_a_lock_that_somebody_else_has_made_since),
        test_of(cancel_leaves_a_directory_that_is_in_use),
        test_of(cancel_of_itself_or_the_future_is_invalid),
        test_of(ephemeral_nodes_go_with_their_session),
        test_of(ephemeral_node_that_was_removed_or_renamed_is_no_trouble),
        test_of(ephemeral_directory_takes_all_below_it_along_children_first),
        test_of(nested_ephemeral_nodes_of_one_session_go_once),
        test_of(session_with_many_nodes_closes_in_one_entry),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
