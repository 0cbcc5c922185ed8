/* SPDX-License-Identifier: Apache-2.0
 *
 * What quorumd --recover-alone leaves in identity and log, also when it cannot write. How such a
 * replica goes on is in tests/cluster/recover.bats.
 */
#include "server/recover.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/identity.h"
#include "server/log/log.h"

#define INCARNATION 77u
#define FOUNDED_NS  1000
#define LATE_NS     INT64_MAX /* later than any clock says */

struct fixture {
    struct config config;
    char parent[64];
    int lock_fd;
    struct log *log;
    struct log_state state;
    struct replica_identity before; /* the identity as setup made it */
    struct buffer text;
    struct buffer error;
};

static struct raft_members three(void)
{
    return (struct raft_members){
        .last_id = 9,
        .count = 3,
        .member = {{.id = 1, .incarnation = INCARNATION, .voter = true, .address = "a:1"},
                   {.id = 2, .incarnation = 2, .voter = true, .address = "b:1"},
                   {.id = 3, .incarnation = 3, .voter = true, .address = "c:1"}},
    };
}

/* ---- the folder between two lives ---- */

static void open_folder(struct fixture *fixture)
{
    char folder[CONFIG_PATH_BYTES + 8];
    struct log_options options = {
        .folder = folder, .io = &log_io_system, .segment_bytes = 1u << 20};

    buffer_clear(&fixture->error);
    (void)snprintf(folder, sizeof(folder), "%s/log", fixture->config.data);
    assert_int_equal(identity_lock(fixture->config.data, &fixture->lock_fd, &fixture->error),
                     ERR_OK);
    assert_int_equal(log_open(&options, &fixture->log, &fixture->state, &fixture->error), ERR_OK);
}

static void close_folder(struct fixture *fixture)
{
    log_close(fixture->log);
    (void)close(fixture->lock_fd);
}

static void append(struct fixture *fixture, uint64_t term, int64_t time_ns, uint8_t type,
                   const struct raft_members *members)
{
    struct buffer bytes = {0};
    struct raft_entry *entry = NULL;

    if (members != NULL) {
        assert_int_equal(raft_members_encode(members, &bytes), ERR_OK);
    }
    entry = raft_entry_new(type, bytes.data, bytes.len);
    assert_non_null(entry);
    entry->index = log_last_index(fixture->log) + 1;
    entry->term = term;
    entry->time_ns = time_ns;
    assert_int_equal(log_append(fixture->log, &entry, 1), ERR_OK);
    raft_entry_unref(entry);
    buffer_done(&bytes);
}

/* Replica 1 of three: entry 1 and two more that it has not applied. */
static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct raft_members members = three();

    assert_non_null(fixture);
    config_default(&fixture->config);
    (void)snprintf(fixture->parent, sizeof(fixture->parent), "/tmp/quorumfs-recover.XXXXXX");
    assert_non_null(mkdtemp(fixture->parent));
    (void)snprintf(fixture->config.data, sizeof(fixture->config.data), "%s/data", fixture->parent);
    fixture->before = (struct replica_identity){.id = 1,
                                                .incarnation = INCARNATION,
                                                .formed = true,
                                                .founders = members,
                                                .founded_ns = FOUNDED_NS};
    open_folder(fixture);
    assert_int_equal(identity_save(fixture->config.data, &fixture->before, &fixture->error),
                     ERR_OK);
    assert_int_equal(log_save_term(fixture->log, 4, 2), ERR_OK);
    append(fixture, 1, FOUNDED_NS, RAFT_ENTRY_MEMBERS, &members);
    append(fixture, 2, FOUNDED_NS, RAFT_ENTRY_NOOP, NULL);
    append(fixture, 3, LATE_NS, RAFT_ENTRY_NOOP, NULL);
    close_folder(fixture);
    *state = fixture;
    return 0;
}

static int remove_one(const char *path, const struct stat *attr, int kind, struct FTW *where)
{
    (void)attr;
    (void)kind;
    (void)where;
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(nftw(fixture->parent, remove_one, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT), 0);
    buffer_done(&fixture->text);
    buffer_done(&fixture->error);
    free(fixture);
    return 0;
}

static enum err recover(struct fixture *fixture, bool yes, enum recover_result *out)
{
    buffer_clear(&fixture->text);
    buffer_clear(&fixture->error);
    return recover_alone(&fixture->config, yes, out, &fixture->text, &fixture->error);
}

static struct replica_identity identity_now(struct fixture *fixture)
{
    struct replica_identity identity = {.id = 0};

    assert_int_equal(identity_open(fixture->config.data, 1, 1, &identity, &fixture->error), ERR_OK);
    return identity;
}

static bool is_same_ensemble(const struct replica_identity *a, const struct replica_identity *b)
{
    return memcmp(a->ensemble, b->ensemble, ENSEMBLE_ID_BYTES) == 0;
}

/* ---- tests ---- */

static void the_survivor_is_the_only_member_of_a_new_ensemble(void **state)
{
    struct fixture *fixture = *state;
    struct raft_entry *entry = NULL;
    struct raft_members members;
    enum recover_result result = RECOVER_NEEDED;
    size_t count = 0;

    assert_int_equal(recover(fixture, true, &result), ERR_OK);
    assert_int_equal(result, RECOVER_DONE);
    struct replica_identity identity = identity_now(fixture);
    assert_false(is_same_ensemble(&identity, &fixture->before));
    assert_int_equal(identity.incarnation, INCARNATION);
    assert_int_equal(identity.founders.count, 3); /* log entry 1 is as it was */
    open_folder(fixture);
    assert_int_equal(fixture->state.term, 5); /* above the record's 4 and the log's 3 */
    assert_int_equal(fixture->state.vote, 1);
    assert_int_equal(fixture->state.last_index, 4);
    assert_int_equal(fixture->state.last_term, 5);
    assert_int_equal(log_read(fixture->log, 4, 1u << 20, 1, &entry, &count), ERR_OK);
    assert_int_equal(entry->type, RAFT_ENTRY_MEMBERS);
    assert_true(entry->time_ns == LATE_NS); /* time never goes back in a log */
    assert_int_equal(raft_members_decode(entry->data, entry->len, &members), ERR_OK);
    assert_int_equal(members.count, 1);
    assert_int_equal(members.last_id, 9); /* no number is used again */
    assert_int_equal(members.member[0].id, 1);
    assert_int_equal(members.member[0].incarnation, INCARNATION);
    assert_true(members.member[0].voter);
    assert_string_equal(members.member[0].address, "a:1");
    raft_entry_unref(entry);
    close_folder(fixture);
}

static void nothing_is_written_unless_asked_for(void **state)
{
    struct fixture *fixture = *state;
    enum recover_result result = RECOVER_DONE;

    assert_int_equal(recover(fixture, false, &result), ERR_OK);
    assert_int_equal(result, RECOVER_NEEDED);
    assert_non_null(strstr((const char *)fixture->text.data, "member 3"));
    struct replica_identity identity = identity_now(fixture);
    assert_true(is_same_ensemble(&identity, &fixture->before));
    open_folder(fixture);
    assert_int_equal(fixture->state.term, 4);
    assert_int_equal(fixture->state.vote, 2);
    assert_int_equal(fixture->state.last_index, 3);
    close_folder(fixture);
}

static void asked_again_it_finds_nothing_to_do(void **state)
{
    struct fixture *fixture = *state;
    enum recover_result result = RECOVER_NEEDED;

    assert_int_equal(recover(fixture, true, &result), ERR_OK);
    struct replica_identity first = identity_now(fixture);
    assert_int_equal(recover(fixture, true, &result), ERR_OK);
    assert_int_equal(result, RECOVER_NOT_NEEDED);
    struct replica_identity second = identity_now(fixture);
    assert_true(is_same_ensemble(&first, &second));
    open_folder(fixture);
    assert_int_equal(fixture->state.last_index, 4);
    close_folder(fixture);
}

/* Of members in entries that no majority may have had, the newest count. */
static void members_of_the_unapplied_log_are_the_ones_that_are_dropped(void **state)
{
    struct fixture *fixture = *state;
    struct raft_members members = three();
    enum recover_result result = RECOVER_NEEDED;

    members.member[2] = (struct raft_member){.id = 12, .voter = true, .incarnation = 12};
    members.last_id = 12;
    open_folder(fixture);
    append(fixture, 4, LATE_NS, RAFT_ENTRY_MEMBERS, &members);
    close_folder(fixture);
    assert_int_equal(recover(fixture, false, &result), ERR_OK);
    assert_non_null(strstr((const char *)fixture->text.data, "member 12"));
    assert_null(strstr((const char *)fixture->text.data, "member 3"));
    assert_non_null(strstr((const char *)fixture->text.data, "as of entry 4\n"));
}

/* The order makes it safe: a log with the new members under the old ensemble would be a second
 * history of it. */
static void a_failure_leaves_a_log_that_names_the_others(void **state)
{
    struct fixture *fixture = *state;
    enum recover_result result = RECOVER_NEEDED;
    char path[CONFIG_PATH_BYTES + 32];

    (void)snprintf(path, sizeof(path), "%s/identity.new", fixture->config.data);
    assert_int_equal(mkdir(path, 0700), 0); /* the identity cannot be written */
    assert_int_not_equal(recover(fixture, true, &result), ERR_OK);
    assert_true(fixture->error.len > 0);
    struct replica_identity identity = identity_now(fixture);
    assert_true(is_same_ensemble(&identity, &fixture->before));
    open_folder(fixture);
    assert_int_equal(fixture->state.last_index, 3);
    assert_int_equal(fixture->state.term, 4);
    close_folder(fixture);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(recover(fixture, true, &result), ERR_OK);
    assert_int_equal(result, RECOVER_DONE);
}

static void a_log_that_does_not_reach_the_tree_is_refused(void **state)
{
    struct fixture *fixture = *state;
    enum recover_result result = RECOVER_NEEDED;

    open_folder(fixture);
    assert_int_equal(log_reset(fixture->log, 50, 4), ERR_OK);
    close_folder(fixture);
    assert_int_equal(recover(fixture, true, &result), ERR_CORRUPT);
    assert_non_null(strstr((const char *)fixture->error.data, "do not fit"));
    struct replica_identity identity = identity_now(fixture);
    assert_true(is_same_ensemble(&identity, &fixture->before));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_survivor_is_the_only_member_of_a_new_ensemble, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(nothing_is_written_unless_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(asked_again_it_finds_nothing_to_do, setup, teardown),
        cmocka_unit_test_setup_teardown(members_of_the_unapplied_log_are_the_ones_that_are_dropped,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_failure_leaves_a_log_that_names_the_others, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_log_that_does_not_reach_the_tree_is_refused, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
