/* SPDX-License-Identifier: Apache-2.0
 *
 * A store in a temporary folder for the tests of server/store.
 */
#include "tests/lib/store_fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/limits.h"

static void wake(void *arg)
{
    struct store_fixture *fixture = arg;

    CHECK_OP(pthread_mutex_lock(&fixture->lock), ==, 0);
    fixture->wakes++;
    (void)pthread_cond_signal(&fixture->woken);
    CHECK_OP(pthread_mutex_unlock(&fixture->lock), ==, 0);
}

void store_fixture_init(struct store_fixture *fixture)
{
    const char *base = getenv("TMPDIR");
    char folder[sizeof(fixture->folder)];

    int len =
        snprintf(folder, sizeof(folder), "%s/test-store-XXXXXX", base != NULL ? base : "/tmp");
    CHECK(len > 0 && (size_t)len < sizeof(folder));
    CHECK(mkdtemp(folder) != NULL);
    store_fixture_init_at(fixture, folder);
}

void store_fixture_init_at(struct store_fixture *fixture, const char *folder)
{
    *fixture = (struct store_fixture){.store = NULL};
    int len = snprintf(fixture->folder, sizeof(fixture->folder), "%s", folder);
    CHECK(len > 0 && (size_t)len < sizeof(fixture->folder));
    CHECK_OP(pthread_mutex_init(&fixture->lock, NULL), ==, 0);
    CHECK_OP(pthread_cond_init(&fixture->woken, NULL), ==, 0);
}

void store_fixture_open(struct store_fixture *fixture)
{
    struct buffer error = {.data = NULL};
    struct store_options options = {
        .folder = fixture->folder,
        .block_cache_bytes = fixture->has_default_sizes ? 0 : MIB,
        .write_buffer_bytes = fixture->has_default_sizes ? 0 : 64 * KIB,
        .wake = wake,
        .wake_arg = fixture,
    };

    fixture->wakes = 0;
    enum err err = store_open(&options, &fixture->store, &error);
    if (err != ERR_OK) {
        (void)fprintf(stderr, "store_open: %s\n", (const char *)error.data);
    }
    CHECK_OP(err, ==, ERR_OK);
    buffer_done(&error);
    fixture->kv = store_kv(fixture->store);
}

void store_fixture_close(struct store_fixture *fixture)
{
    store_close(fixture->store);
    fixture->store = NULL;
}

void store_fixture_done(struct store_fixture *fixture)
{
    store_fixture_close(fixture);
    buffer_done(&fixture->value);
    (void)pthread_cond_destroy(&fixture->woken);
    (void)pthread_mutex_destroy(&fixture->lock);
    store_fixture_remove_folder(fixture->folder);
}

/* RocksDB makes plain files only. */
void store_fixture_remove_folder(const char *path)
{
    DIR *folder = opendir(path);
    const struct dirent *file = NULL;

    CHECK(folder != NULL);
    while ((file = readdir(folder)) != NULL) {
        (void)unlinkat(dirfd(folder), file->d_name, 0);
    }
    (void)closedir(folder);
    CHECK_OP(rmdir(path), ==, 0);
}

void store_fixture_wait(struct store_fixture *fixture)
{
    CHECK_OP(pthread_mutex_lock(&fixture->lock), ==, 0);
    while (fixture->wakes == 0) {
        CHECK_OP(pthread_cond_wait(&fixture->woken, &fixture->lock), ==, 0);
    }
    fixture->wakes--;
    CHECK_OP(pthread_mutex_unlock(&fixture->lock), ==, 0);
}

void store_fixture_drain(struct store_fixture *fixture, uint64_t *now_ms)
{
    store_poll(fixture->store, *now_ms, 0);
    *now_ms += OVERLAY_FREEZE_MS;
    store_poll(fixture->store, *now_ms, 0);
    store_fixture_wait(fixture);
    store_poll(fixture->store, *now_ms, 0);
}

void store_fixture_put(struct store_fixture *fixture, const char *key, const char *value)
{
    fixture->kv.put(fixture->kv.context, key, strlen(key), value, strlen(value));
}

void store_fixture_remove(struct store_fixture *fixture, const char *key)
{
    fixture->kv.remove(fixture->kv.context, key, strlen(key));
}

const char *store_fixture_get(struct store_fixture *fixture, const char *key)
{
    if (!fixture->kv.get(fixture->kv.context, key, strlen(key), &fixture->value)) {
        CHECK_OP(fixture->value.len, ==, 0);
        return NULL;
    }
    CHECK_OP(buffer_append_u8(&fixture->value, 0), ==, ERR_OK);
    return (const char *)fixture->value.data;
}

/* ---- models ---- */

#define MODEL_KEYS       300u
#define MODEL_VALUE_MAX  6000u /* some go to blob files */
#define MODEL_VALUE_SOME 64u   /* most are shorter than this */

void store_fixture_change(struct store_fixture *fixture, struct omap *model, unsigned *seed)
{
    char key[16];
    char value[MODEL_VALUE_MAX];
    unsigned size = (unsigned)rand_r(seed);
    int key_len = snprintf(key, sizeof(key), "%u", (unsigned)rand_r(seed) % MODEL_KEYS);
    size_t value_len = size % 16 == 0 ? size / 16 % MODEL_VALUE_MAX : size / 16 % MODEL_VALUE_SOME;

    if (rand_r(seed) % 4 == 0) {
        fixture->kv.remove(fixture->kv.context, key, (size_t)key_len);
        omap_remove(model, key, (size_t)key_len);
        return;
    }
    memset(value, rand_r(seed), value_len);
    fixture->kv.put(fixture->kv.context, key, (size_t)key_len, value, value_len);
    CHECK_OP(omap_put(model, key, (size_t)key_len, value, value_len), ==, ERR_OK);
}

struct check {
    const struct omap *model;
    const struct omap_entry *next;
};

static bool check_row(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                      size_t value_len)
{
    struct check *check = arg;
    const struct omap_entry *next = check->next;

    CHECK(next != NULL);
    CHECK_OP(omap_compare(key, key_len, next->key, next->key_len), ==, 0);
    CHECK_OP(omap_compare(value, value_len, next->value, next->value_len), ==, 0);
    check->next = omap_next(check->model, next);
    return true;
}

void store_fixture_check(struct store_fixture *fixture, const struct omap *model)
{
    struct check check = {.model = model, .next = omap_seek(model, NULL, 0)};

    fixture->kv.scan(fixture->kv.context, "", 0, 0, check_row, &check);
    CHECK(check.next == NULL);
}

struct omap *store_fixture_copy(const struct omap *model)
{
    struct omap *copy = omap_new();

    CHECK(copy != NULL);
    for (const struct omap_entry *entry = omap_seek(model, NULL, 0); entry != NULL;
         entry = omap_next(model, entry)) {
        CHECK_OP(omap_put(copy, entry->key, entry->key_len, entry->value, entry->value_len), ==,
                 ERR_OK);
    }
    return copy;
}
