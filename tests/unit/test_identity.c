/* SPDX-License-Identifier: Apache-2.0
 *
 * The data folder: its lock, and an identity that is whole, of this replica, or refused.
 */
#include "server/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ID          7u
#define INCARNATION 0xFEDCBA9876543210u
#define PATH_BYTES  256u
#define FILE_BYTES  16384u

struct fixture {
    char parent[64];
    char data[96];
    int lock_fd;
    struct buffer error;
};

/* Path of a name in the data folder; good until the next call. */
static const char *path_of(const struct fixture *fixture, const char *name)
{
    static char path[PATH_BYTES];

    (void)snprintf(path, sizeof(path), "%s/%s", fixture->data, name);
    return path;
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    assert_non_null(fixture);
    fixture->lock_fd = -1;
    (void)snprintf(fixture->parent, sizeof(fixture->parent), "/tmp/quorumfs-identity.XXXXXX");
    assert_non_null(mkdtemp(fixture->parent));
    (void)snprintf(fixture->data, sizeof(fixture->data), "%s/data", fixture->parent);
    assert_int_equal(identity_lock(fixture->data, &fixture->lock_fd, &fixture->error), ERR_OK);
    assert_int_equal(fixture->error.len, 0);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    static const char *const names[] = {"log/x", "store/x", "lock", "identity", "identity.new"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)unlink(path_of(fixture, names[i]));
    }
    (void)rmdir(path_of(fixture, "identity.new"));
    (void)rmdir(path_of(fixture, "store"));
    (void)rmdir(path_of(fixture, "log"));
    (void)close(fixture->lock_fd);
    assert_int_equal(rmdir(fixture->data), 0);
    assert_int_equal(rmdir(fixture->parent), 0);
    buffer_done(&fixture->error);
    free(fixture);
    return 0;
}

static void write_file(const char *path, const void *bytes, size_t len)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static size_t read_file(const char *path, char *to)
{
    FILE *file = fopen(path, "re");
    size_t len = 0;

    assert_non_null(file);
    len = fread(to, 1, FILE_BYTES, file);
    (void)fclose(file);
    return len;
}

static void expect_sentence(struct fixture *fixture, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void expect_sentence(struct fixture *fixture, const char *format, ...)
{
    char wanted[512];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(wanted, sizeof(wanted), format, arguments);
    va_end(arguments);
    assert_non_null(fixture->error.data);
    assert_string_equal((const char *)fixture->error.data, wanted);
    buffer_clear(&fixture->error);
}

static enum err open_it(struct fixture *fixture, struct replica_identity *out)
{
    return identity_open(fixture->data, ID, INCARNATION, out, &fixture->error);
}

/* A formed identity, as large as one can be. */
static void fill(struct replica_identity *identity)
{
    memset(identity, 0, sizeof(*identity));
    identity->id = ID;
    identity->incarnation = INCARNATION;
    identity->formed = true;
    identity->founded_ns = -1;
    identity->founders.count = MEMBERS_MAX;
    for (size_t i = 0; i < ENSEMBLE_ID_BYTES; i++) {
        identity->ensemble[i] = (uint8_t)(0xF0 + i);
    }
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        struct raft_member *member = &identity->founders.member[i];
        member->id = i + 1;
        member->incarnation = UINT64_MAX - i;
        member->voter = i % 2 == 0;
        memset(member->address, 'a' + (int)i, ADDRESS_BYTES_MAX);
    }
}

static void expect_same(const struct replica_identity *a, const struct replica_identity *b)
{
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->incarnation, b->incarnation);
    assert_int_equal(a->formed, b->formed);
    assert_memory_equal(a->ensemble, b->ensemble, ENSEMBLE_ID_BYTES);
    assert_int_equal(a->founded_ns, b->founded_ns);
    assert_int_equal(a->founders.count, b->founders.count);
    for (size_t i = 0; i < a->founders.count; i++) {
        const struct raft_member *member = &a->founders.member[i];
        const struct raft_member *other = &b->founders.member[i];
        assert_int_equal(member->id, other->id);
        assert_int_equal(member->incarnation, other->incarnation);
        assert_int_equal(member->voter, other->voter);
        assert_string_equal(member->address, other->address);
    }
}

/* ---- the lock ---- */

static void the_folder_is_made_for_its_owner_only(void **state)
{
    struct fixture *fixture = *state;
    struct stat attr;

    assert_int_equal(stat(fixture->data, &attr), 0);
    assert_int_equal(attr.st_mode & 07777, 0700);
    assert_int_equal(stat(path_of(fixture, "log"), &attr), 0);
    assert_true(S_ISDIR(attr.st_mode));
    assert_int_equal(stat(path_of(fixture, "lock"), &attr), 0);
    assert_int_equal(attr.st_mode & 07777, 0600);
}

static void a_folder_is_locked_only_once(void **state)
{
    struct fixture *fixture = *state;
    int second = -1;

    assert_int_equal(identity_lock(fixture->data, &second, &fixture->error), ERR_BUSY);
    expect_sentence(fixture, "the data folder is in use by another replica (%s)",
                    path_of(fixture, "lock"));
    assert_int_equal(close(fixture->lock_fd), 0);
    assert_int_equal(identity_lock(fixture->data, &fixture->lock_fd, &fixture->error), ERR_OK);
}

static void the_lock_is_not_inherited_by_programs(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(fcntl(fixture->lock_fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

static void parents_are_not_made(void **state)
{
    struct fixture *fixture = *state;
    int fd = -1;
    char deep[PATH_BYTES];

    (void)snprintf(deep, sizeof(deep), "%s/no/data", fixture->parent);
    assert_int_equal(identity_lock(deep, &fd, &fixture->error), err_from_errno(ENOENT));
    expect_sentence(fixture, "cannot make %s: No such file or directory", deep);
}

static void a_file_in_place_of_the_folder_is_refused(void **state)
{
    struct fixture *fixture = *state;
    int fd = -1;
    char inside[PATH_BYTES];

    write_file(path_of(fixture, "identity.new"), "", 0);
    (void)snprintf(inside, sizeof(inside), "%s", path_of(fixture, "identity.new"));
    assert_int_equal(identity_lock(inside, &fd, &fixture->error), err_from_errno(ENOTDIR));
    expect_sentence(fixture, "cannot write %s/lock: Not a directory", inside);
}

/* ---- a new folder ---- */

static void an_empty_folder_gets_an_identity_that_stays(void **state)
{
    struct fixture *fixture = *state;
    struct replica_identity identity;

    assert_int_equal(open_it(fixture, &identity), ERR_OK);
    assert_int_equal(identity.id, ID);
    assert_int_equal(identity.incarnation, INCARNATION);
    assert_false(identity.formed);
    assert_int_equal(identity_open(fixture->data, ID, 5, &identity, &fixture->error), ERR_OK);
    assert_int_equal(identity.incarnation, INCARNATION);
    assert_int_equal(fixture->error.len, 0);
}

static void files_without_an_identity_are_refused(void **state)
{
    struct fixture *fixture = *state;
    static const char *const folders[] = {"log", "store"};
    struct replica_identity identity;
    char name[32];

    assert_int_equal(mkdir(path_of(fixture, "store"), 0700), 0);
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        (void)snprintf(name, sizeof(name), "%s/x", folders[i]);
        write_file(path_of(fixture, name), "", 0);
        assert_int_equal(open_it(fixture, &identity), ERR_CORRUPT);
        expect_sentence(fixture,
                        "%s/%s holds files, but %s has no identity: this replica may have "
                        "forgotten a vote, so it must not start",
                        fixture->data, folders[i], fixture->data);
        assert_int_not_equal(access(path_of(fixture, "identity"), F_OK), 0);
        assert_int_equal(unlink(path_of(fixture, name)), 0);
    }
    assert_int_equal(open_it(fixture, &identity), ERR_OK); /* empty folders are fine */
}

static void a_log_that_cannot_be_looked_into_is_not_taken_for_empty(void **state)
{
    struct fixture *fixture = *state;
    struct replica_identity identity;

    assert_int_equal(rmdir(path_of(fixture, "log")), 0);
    write_file(path_of(fixture, "log"), "", 0);
    assert_int_equal(open_it(fixture, &identity), err_from_errno(ENOTDIR));
    expect_sentence(fixture, "cannot read %s: Not a directory", path_of(fixture, "log"));
    assert_int_equal(unlink(path_of(fixture, "log")), 0);
}

/* ---- saving ---- */

static void a_formed_identity_comes_back_whole(void **state)
{
    struct fixture *fixture = *state;
    struct replica_identity identity;
    struct replica_identity back;

    fill(&identity);
    assert_int_equal(identity_save(fixture->data, &identity, &fixture->error), ERR_OK);
    assert_int_equal(open_it(fixture, &back), ERR_OK);
    expect_same(&identity, &back);
    assert_int_not_equal(access(path_of(fixture, "identity.new"), F_OK), 0);
}

static void a_kill_before_the_first_rename_leaves_an_empty_folder(void **state)
{
    struct fixture *fixture = *state;
    struct replica_identity identity;

    write_file(path_of(fixture, "identity.new"), "quorumfs-iden", 13);
    assert_int_equal(open_it(fixture, &identity), ERR_OK);
    assert_false(identity.formed);
    assert_int_equal(identity.incarnation, INCARNATION);
}

static void a_kill_before_a_later_rename_leaves_the_old_identity(void **state)
{
    struct fixture *fixture = *state;
    struct replica_identity formed;
    struct replica_identity back;
    char bytes[FILE_BYTES];
    size_t len = 0;

    fill(&formed);
    assert_int_equal(identity_save(fixture->data, &formed, &fixture->error), ERR_OK);
    len = read_file(path_of(fixture, "identity"), bytes);
    assert_int_equal(unlink(path_of(fixture, "identity")), 0);
    assert_int_equal(open_it(fixture, &back), ERR_OK);
    for (size_t cut = 0; cut <= len; cut += len / 16) {
        write_file(path_of(fixture, "identity.new"), bytes, cut);
        assert_int_equal(open_it(fixture, &back), ERR_OK);
        assert_false(back.formed);
    }
    assert_int_equal(identity_save(fixture->data, &formed, &fixture->error), ERR_OK);
    assert_int_equal(open_it(fixture, &back), ERR_OK);
    expect_same(&formed, &back);
}

static void a_failed_save_leaves_the_old_identity(void **state)
{
    struct fixture *fixture = *state;
    struct replica_identity formed;
    struct replica_identity back;

    assert_int_equal(open_it(fixture, &back), ERR_OK);
    assert_int_equal(mkdir(path_of(fixture, "identity.new"), 0700), 0);
    fill(&formed);
    assert_int_equal(identity_save(fixture->data, &formed, &fixture->error),
                     err_from_errno(EISDIR));
    expect_sentence(fixture, "cannot write %s: Is a directory", path_of(fixture, "identity.new"));
    assert_int_equal(open_it(fixture, &back), ERR_OK);
    assert_false(back.formed);
}

/* ---- damage ---- */

static void expect_damaged(struct fixture *fixture)
{
    struct replica_identity identity;

    assert_int_equal(open_it(fixture, &identity), ERR_CORRUPT);
    expect_sentence(fixture,
                    "%s is damaged: this replica may have forgotten a vote, so it must not start; "
                    "replace it by a new one",
                    path_of(fixture, "identity"));
}

/* Every cut and every flip of one bit or of a whole byte. */
static void expect_all_damage_found(struct fixture *fixture)
{
    static const char flips[] = {0x01, 0x20, (char)0xFF};
    char bytes[FILE_BYTES + 1];
    size_t len = read_file(path_of(fixture, "identity"), bytes);

    for (size_t cut = 0; cut < len; cut++) {
        write_file(path_of(fixture, "identity"), bytes, cut);
        expect_damaged(fixture);
    }
    for (size_t at = 0; at < len; at++) {
        for (size_t i = 0; i < sizeof(flips); i++) {
            bytes[at] = (char)(bytes[at] ^ flips[i]);
            write_file(path_of(fixture, "identity"), bytes, len);
            expect_damaged(fixture);
            bytes[at] = (char)(bytes[at] ^ flips[i]);
        }
    }
    bytes[len] = '\n';
    write_file(path_of(fixture, "identity"), bytes, len + 1);
    expect_damaged(fixture);
    bytes[len] = '\0';
    write_file(path_of(fixture, "identity"), bytes, len + 1);
    expect_damaged(fixture);
}

static void every_damage_of_a_new_identity_is_found(void **state)
{
    struct fixture *fixture = *state;
    struct replica_identity identity;

    assert_int_equal(open_it(fixture, &identity), ERR_OK);
    expect_all_damage_found(fixture);
}

static void every_damage_of_a_formed_identity_is_found(void **state)
{
    struct fixture *fixture = *state;
    struct replica_identity identity;

    fill(&identity);
    identity.founders.count = 1; /* each byte costs some files */
    identity.founders.member[0].address[10] = '\0';
    assert_int_equal(identity_save(fixture->data, &identity, &fixture->error), ERR_OK);
    expect_all_damage_found(fixture);
}

static void the_identity_of_another_replica_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct replica_identity identity;

    assert_int_equal(open_it(fixture, &identity), ERR_OK);
    assert_int_equal(identity_open(fixture->data, 8, 1, &identity, &fixture->error), ERR_CONFIG);
    expect_sentence(fixture, "%s belongs to replica 7, not to 8", path_of(fixture, "identity"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_folder_is_made_for_its_owner_only),
        TEST(a_folder_is_locked_only_once),
        TEST(the_lock_is_not_inherited_by_programs),
        TEST(parents_are_not_made),
        TEST(a_file_in_place_of_the_folder_is_refused),
        TEST(an_empty_folder_gets_an_identity_that_stays),
        TEST(files_without_an_identity_are_refused),
        TEST(a_log_that_cannot_be_looked_into_is_not_taken_for_empty),
        TEST(a_formed_identity_comes_back_whole),
        TEST(a_kill_before_the_first_rename_leaves_an_empty_folder),
        TEST(a_kill_before_a_later_rename_leaves_the_old_identity),
        TEST(a_failed_save_leaves_the_old_identity),
        TEST(every_damage_of_a_new_identity_is_found),
        TEST(every_damage_of_a_formed_identity_is_found),
        TEST(the_identity_of_another_replica_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
