/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of server/log by chance and by every fault: random work against a model with crashes in
 * the middle of any file call, and each file call and each allocation failing in its turn.
 *
 * The malloc family is wrapped, so that the N-th allocation can fail.
 * link: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/limits.h"
#include "tests/lib/log_fixture.h"

/* ---- failing allocations ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__wrap_strdup(const char *text);

/* The allocation that fails, counted down; 0: none. */
static uint64_t fail_allocation;

static bool allocation_fails(void)
{
    if (fail_allocation == 0) {
        return false;
    }
    fail_allocation--;
    return fail_allocation == 0;
}

void *__wrap_malloc(size_t size)
{
    return allocation_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return allocation_fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return allocation_fails() ? NULL : __real_realloc(memory, size);
}

char *__wrap_strdup(const char *text)
{
    return allocation_fails() ? NULL : __real_strdup(text);
}

/* ---- the model ---- */

#define ENTRIES_MAX   400u
#define SEGMENT_BYTES (16u * KIB)
#define STEPS         60u
#define RUNS          300u

struct model_entry {
    uint64_t term;
    size_t len;
};

struct model {
    struct model_entry entry[ENTRIES_MAX + 1]; /* by index; 0 has term 0 */
    uint64_t before;                           /* the index before the first */
    uint64_t last;
    uint64_t term;
    uint64_t vote;
};

/* What a crash may leave: the entries of `now` up to an index in [least, most], or those of `next`
 * up to an index in [now.last + 1, next.last]; the record of either. Old entries may be gone up to
 * next.before. Of a reset it leaves all of `now` or all of `next`. */
struct world {
    struct log_fixture fixture;
    uint64_t random;
    struct model now;
    struct model next; /* of the call that is being made */
    uint64_t least;
    bool is_reset;       /* `next` is that of a reset */
    uint64_t reset_term; /* higher than all others, another each time */
};

static uint64_t below(struct world *world, uint64_t limit)
{
    /* xorshift64* */
    world->random ^= world->random >> 12;
    world->random ^= world->random << 25;
    world->random ^= world->random >> 27;
    return world->random * UINT64_C(0x2545f4914f6cdd1d) % limit;
}

static void check_entries(struct world *world, const struct model *model, uint64_t last)
{
    struct raft_entry *out[ENTRIES_MAX];
    uint64_t index = model->before + 1;
    uint64_t term = 0;

    assert_int_equal(log_term(world->fixture.log, model->before, &term), ERR_OK);
    assert_int_equal(term, model->entry[model->before].term);
    while (index <= last) {
        size_t count = 0;
        assert_int_equal(log_read(world->fixture.log, index, 1 + below(world, 20000),
                                  1 + below(world, ENTRIES_MAX), out, &count),
                         ERR_OK);
        for (size_t i = 0; i < count; i++) {
            const struct model_entry *expected = &model->entry[index];
            log_fixture_check_entry(out[i], index, expected->term, expected->len);
            raft_entry_unref(out[i]);
            index++;
        }
    }
    assert_int_equal(index, last + 1);
}

/* Takes over the entries that are there: it must be one of the allowed states. */
static void take_over(struct world *world, const struct log_state *found)
{
    struct model *now = &world->now;
    struct model *next = &world->next;

    if (world->is_reset && found->before_term == next->entry[next->before].term &&
        found->last_index == next->last) {
        *now = *next;
    } else if (!world->is_reset && found->last_index > now->last) {
        assert_in_range(found->last_index, now->last, next->last);
        *now = *next;
    } else {
        assert_in_range(found->last_index, world->least, now->last);
        assert_in_range(found->first_index, now->before + 1,
                        world->is_reset ? now->before + 1 : next->before + 1);
        now->before = found->first_index - 1;
    }
    now->last = found->last_index;
    assert_int_equal(found->first_index, now->before + 1);
    assert_int_equal(found->before_term, now->entry[now->before].term);
    assert_int_equal(found->last_term, now->entry[now->last].term);
    check_entries(world, now, now->last);
}

/* Opens until it succeeds, with faults on the way. */
static void recover(struct world *world)
{
    struct log_state *found = &world->fixture.state;
    enum err err = ERR_IO;

    for (int attempt = 0; err != ERR_OK; attempt++) {
        assert_true(attempt < 20);
        if (below(world, 3) > 0) {
            sim_disk_crash(world->fixture.disk);
        }
        sim_disk_fail_at(world->fixture.disk, attempt < 5 ? below(world, 60) : 0, /* EIO */ 5);
        err = log_fixture_try_open(&world->fixture);
        if (err != ERR_OK && err != ERR_IO) {
            fail_msg("log_open: %s", (const char *)world->fixture.error.data);
        }
    }
    sim_disk_fail_at(world->fixture.disk, 0, 0);
    if (found->term == world->next.term && found->vote == world->next.vote) {
        world->now.term = world->next.term;
        world->now.vote = world->next.vote;
    }
    assert_int_equal(found->term, world->now.term);
    assert_int_equal(found->vote, world->now.vote);
    take_over(world, found);
    world->is_reset = false;
}

/* ---- random work ---- */

static enum err work_append(struct world *world)
{
    struct raft_entry *entries[32];
    uint64_t first = world->now.last + 1;
    uint64_t term = first > 1 ? world->now.entry[first - 1].term : 1;
    size_t count = 1 + below(world, below(world, 4) == 0 ? 32 : 3);
    enum err err = ERR_OK;

    term += below(world, 8) == 0;
    count = count > ENTRIES_MAX - world->now.last ? ENTRIES_MAX - world->now.last : count;
    for (size_t i = 0; i < count; i++) {
        size_t len = below(world, below(world, 6) == 0 ? 3000 : 300);
        entries[i] = log_fixture_entry(first + i, term, len);
        world->next.entry[first + i] = (struct model_entry){term, len};
    }
    world->next.last += count;
    if (count > 0) {
        err = log_append(world->fixture.log, entries, count);
    }
    for (size_t i = 0; i < count; i++) {
        raft_entry_unref(entries[i]);
    }
    return err;
}

static enum err work_truncate(struct world *world)
{
    uint64_t back = below(world, below(world, 4) == 0 ? world->now.last + 1 : 8);
    uint64_t index = back > world->now.last ? 1 : world->now.last - back + 1;

    if (index <= world->now.before) {
        index = world->now.before + 1;
    }
    world->least = index - 1;
    world->next.last = world->least < world->now.last ? world->least : world->now.last;
    return log_truncate(world->fixture.log, index);
}

static enum err work_compact(struct world *world)
{
    uint64_t index = below(world, world->now.last + 3);
    uint64_t last = index > world->now.last ? world->now.last : index - (index > 0);
    enum err err = ERR_OK;

    /* Which segments there are is not the model's business, but what they hold is. */
    world->next.before = last > world->now.before ? last : world->now.before;
    err = log_compact(world->fixture.log, index);
    sim_disk_fail_at(world->fixture.disk, 0, 0);
    if (err == ERR_OK) {
        uint64_t term = 0;
        uint64_t before = world->next.before;
        while (before > world->now.before &&
               log_term(world->fixture.log, before, &term) != ERR_OK) {
            before--;
        }
        while (before > world->now.before &&
               log_term(world->fixture.log, before - 1, &term) == ERR_OK) {
            before--;
        }
        world->next.before = before;
    }
    return err;
}

static enum err work_reset(struct world *world)
{
    uint64_t index = 1 + below(world, ENTRIES_MAX / 2);

    world->reset_term++;
    world->is_reset = true;
    world->next.before = index;
    world->next.last = index;
    world->next.entry[index].term = world->reset_term;
    return log_reset(world->fixture.log, index, world->reset_term);
}

static enum err work_save_term(struct world *world)
{
    world->next.term += 1 + below(world, 3);
    world->next.vote = below(world, 4);
    return log_save_term(world->fixture.log, world->next.term, world->next.vote);
}

static void step(struct world *world)
{
    bool faulty = below(world, 8) == 0;
    uint64_t kind = below(world, 12);
    enum err err = ERR_OK;

    world->next = world->now;
    world->least = world->now.last;
    sim_disk_fail_at(world->fixture.disk, faulty ? 1 + below(world, 8) : 0, /* EIO */ 5);
    if (kind < 6 && world->now.last < ENTRIES_MAX) {
        err = work_append(world);
    } else if (kind < 8) {
        err = work_truncate(world);
    } else if (kind < 10) {
        err = work_save_term(world);
    } else if (kind < 11 || below(world, 4) > 0) {
        err = work_compact(world);
    } else {
        err = work_reset(world);
    }
    sim_disk_fail_at(world->fixture.disk, 0, 0);
    if (err == ERR_OK) {
        world->now = world->next;
        world->least = world->now.last;
        world->is_reset = false;
    }
    if (err != ERR_OK || below(world, 10) == 0) {
        log_fixture_close(&world->fixture);
        recover(world);
        /* What a start has shown is durable. */
        world->next = world->now;
        world->least = world->now.last;
        if (below(world, 2) == 0) {
            log_fixture_close(&world->fixture);
            sim_disk_lose_unsynced(world->fixture.disk);
            recover(world);
        }
    }
}

static void random_work_and_crashes_agree_with_a_model(void **state)
{
    uint64_t seed = (uint64_t)time(NULL);
    const char *given = getenv("SEED");

    (void)state;
    if (given != NULL) {
        seed = strtoull(given, NULL, 10);
    }
    print_message("SEED=%" PRIu64 "\n", seed);
    for (uint64_t run = 0; run < RUNS; run++) {
        struct world world = {.random = (seed + run) * 2 + 1, .reset_term = 1000000};
        log_fixture_init(&world.fixture, seed + run, SEGMENT_BYTES);
        recover(&world);
        for (size_t i = 0; i < STEPS; i++) {
            step(&world);
        }
        check_entries(&world, &world.now, world.now.last);
        log_fixture_done(&world.fixture);
    }
}

/* ---- every fault in turn ---- */

/* Some of everything; stops at the first error. */
static enum err some_work(struct log_fixture *fixture)
{
    struct raft_entry *out[8];
    size_t count = 0;
    enum err err = log_fixture_try_open(fixture);
    struct log *log = fixture->log;

    if (err == ERR_OK) {
        err = log_save_term(log, 3, 1);
    }
    for (uint64_t i = 1; i <= 40 && err == ERR_OK; i++) {
        err = log_fixture_try_append(log, i, 1, 1, 1000);
    }
    if (err == ERR_OK) {
        err = log_read(log, 5, 3000, 8, out, &count);
    }
    for (size_t i = 0; i < count; i++) {
        raft_entry_unref(out[i]);
    }
    if (err == ERR_OK) {
        err = log_truncate(log, 10);
    }
    if (err == ERR_OK) {
        err = log_fixture_try_append(log, 10, 3, 2, 100);
    }
    return err;
}

static void each_failing_file_call_is_an_error_and_loses_nothing(void **state)
{
    uint64_t failures = 0;
    enum err err = ERR_IO;

    (void)state;
    for (uint64_t nth = 1; err != ERR_OK; nth++) {
        struct log_fixture fixture;
        log_fixture_init(&fixture, nth, SEGMENT_BYTES);
        sim_disk_fail_at(fixture.disk, nth, /* EIO */ 5);
        err = some_work(&fixture);
        if (err != ERR_OK) {
            assert_int_equal(err, ERR_IO);
            failures++;
        }
        log_fixture_close(&fixture);
        sim_disk_crash(fixture.disk);
        log_fixture_open(&fixture);
        assert_true(err != ERR_OK || fixture.state.last_index == 12);
        log_fixture_done(&fixture);
    }
    assert_true(failures > 100);
}

/* The disk allocates too, but the log is under test: these calls keep it out of the count. */
static const struct log_io *spared;
static uint64_t fail_allocation_kept;

static void spare(void)
{
    fail_allocation_kept = fail_allocation;
    fail_allocation = 0;
}

static void spare_end(void)
{
    fail_allocation = fail_allocation_kept;
}

static int spared_open(void *context, const char *path, int flags, mode_t mode)
{
    spare();
    int fd = spared->open(context, path, flags, mode);
    spare_end();
    return fd;
}

static ssize_t spared_pwrite(void *context, int fd, const void *from, size_t len, off_t offset)
{
    spare();
    ssize_t result = spared->pwrite(context, fd, from, len, offset);
    spare_end();
    return result;
}

static int spared_fallocate(void *context, int fd, off_t offset, off_t len)
{
    spare();
    int result = spared->fallocate(context, fd, offset, len);
    spare_end();
    return result;
}

static int spared_rename(void *context, const char *from, const char *to)
{
    spare();
    int result = spared->rename(context, from, to);
    spare_end();
    return result;
}

static int spared_sync_folder(void *context, const char *folder)
{
    spare();
    int result = spared->sync_folder(context, folder);
    spare_end();
    return result;
}

static void each_failing_allocation_is_an_error_and_loses_nothing(void **state)
{
    uint64_t failures = 0;
    enum err err = ERR_MEMORY;

    (void)state;
    for (uint64_t nth = 1; err != ERR_OK; nth++) {
        struct log_fixture fixture;
        struct raft_entry *entries[64];
        struct raft_entry *out[8];
        size_t count = 0;
        struct log_io io;
        log_fixture_init(&fixture, nth, SEGMENT_BYTES);
        spared = sim_disk_io(fixture.disk);
        io = *spared;
        io.open = spared_open;
        io.pwrite = spared_pwrite;
        io.fallocate = spared_fallocate;
        io.rename = spared_rename;
        io.sync_folder = spared_sync_folder;
        fixture.io = &io;
        log_fixture_open(&fixture);
        log_fixture_append(&fixture, 1, 5, 1, 1000);
        log_fixture_close(&fixture);
        for (size_t i = 0; i < 64; i++) {
            entries[i] = log_fixture_entry(6 + i, 1, 900);
        }
        fail_allocation = nth;
        err = log_fixture_try_open(&fixture);
        for (size_t i = 0; i < 64 && err == ERR_OK; i++) {
            err = log_append(fixture.log, &entries[i], 1);
        }
        if (err == ERR_OK) {
            err = log_read(fixture.log, 3, 100000, 8, out, &count);
        }
        fail_allocation = 0;
        assert_true(err == ERR_OK || err == ERR_MEMORY);
        failures += err != ERR_OK;
        for (size_t i = 0; i < count; i++) {
            raft_entry_unref(out[i]);
        }
        for (size_t i = 0; i < 64; i++) {
            raft_entry_unref(entries[i]);
        }
        log_fixture_close(&fixture);
        log_fixture_open(&fixture);
        assert_true(fixture.state.last_index >= (err == ERR_OK ? 69 : 5));
        log_fixture_done(&fixture);
    }
    assert_true(failures > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_work_and_crashes_agree_with_a_model),
        cmocka_unit_test(each_failing_file_call_is_an_error_and_loses_nothing),
        cmocka_unit_test(each_failing_allocation_is_an_error_and_loses_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
