/* SPDX-License-Identifier: Apache-2.0
 *
 * The disk of the simulator: see sim_disk.h for what it may do to its user.
 *
 * Each file has two images: `now`, what calls see, and `durable`, what a crash falls back to. A
 * sector is clean (both agree), dirty (the next fdatasync writes it) or lost (a failed fdatasync
 * dropped it: it reads as written, no later fdatasync writes it). Folders likewise: names as they
 * are seen, names as they are durable, and the changes between the two in their order.
 */
#include "tests/lib/sim_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

#define SECTOR_BYTES 512u
#define FD_FIRST     3 /* so that 0 is never a descriptor */

enum sector_state {
    SECTOR_CLEAN,
    SECTOR_DIRTY,
    SECTOR_LOST,
};

struct file {
    struct file *next;
    uint8_t *now;
    uint8_t *durable;
    uint8_t *state;  /* enum sector_state of each sector */
    size_t capacity; /* a multiple of SECTOR_BYTES; bytes behind a size are zero */
    size_t size;
    size_t durable_size;
};

struct name {
    char *path;
    struct file *file;
};

struct names {
    struct name *name;
    size_t count;
};

/* A change of a folder that is not durable yet. */
struct change {
    char *from; /* NULL: `to` is created */
    char *to;   /* NULL: `from` is removed */
    struct file *file;
};

struct sim_disk {
    struct log_io io;
    uint64_t random;
    struct file *files; /* all there ever were since the last crash */
    struct names now;
    struct names durable;
    struct change *changes;
    size_t change_count;
    struct file **handles; /* by descriptor - FD_FIRST; NULL: free */
    size_t handle_count;
    uint64_t calls;
    uint64_t syncs;
    uint64_t fail_at;
    int fail_errno;
    uint64_t space;
};

/* ---- help ---- */

static uint64_t random_next(struct sim_disk *disk)
{
    /* splitmix64 */
    uint64_t z = (disk->random += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static bool chance(struct sim_disk *disk, uint64_t quarters)
{
    return random_next(disk) % 4 < quarters;
}

static void *grown(void *memory, size_t bytes)
{
    void *more = realloc(memory, bytes);

    CHECK(more != NULL);
    return more;
}

static char *copied(const char *text)
{
    char *copy = text != NULL ? strdup(text) : NULL;

    CHECK(copy != NULL || text == NULL);
    return copy;
}

/* Whether the file lies directly in the folder. */
static bool is_in(const char *path, const char *folder)
{
    size_t len = strlen(folder);

    return strncmp(path, folder, len) == 0 && path[len] == '/' &&
           strchr(path + len + 1, '/') == NULL;
}

/* ---- files ---- */

static struct file *file_new(struct sim_disk *disk)
{
    struct file *file = calloc(1, sizeof(*file));

    CHECK(file != NULL);
    file->next = disk->files;
    disk->files = file;
    return file;
}

static void file_free(struct file *file)
{
    free(file->now);
    free(file->durable);
    free(file->state);
    free(file);
}

static void file_reserve(struct file *file, size_t size)
{
    size_t capacity = file->capacity == 0 ? 8 * SECTOR_BYTES : file->capacity;

    if (size <= file->capacity) {
        return;
    }
    while (capacity < size) {
        capacity *= 2;
    }
    file->now = grown(file->now, capacity);
    file->durable = grown(file->durable, capacity);
    file->state = grown(file->state, capacity / SECTOR_BYTES);
    memset(file->now + file->capacity, 0, capacity - file->capacity);
    memset(file->durable + file->capacity, 0, capacity - file->capacity);
    memset(file->state + file->capacity / SECTOR_BYTES, SECTOR_CLEAN,
           (capacity - file->capacity) / SECTOR_BYTES);
    file->capacity = capacity;
}

static void mark_dirty(struct file *file, size_t from, size_t to)
{
    for (size_t i = from / SECTOR_BYTES; i * SECTOR_BYTES < to; i++) {
        file->state[i] = SECTOR_DIRTY;
    }
}

static void file_resize(struct file *file, size_t size)
{
    file_reserve(file, size);
    if (size < file->size) {
        memset(file->now + size, 0, file->size - size);
        mark_dirty(file, size, file->size);
    }
    file->size = size;
}

/* Sectors of the one state become durable with a chance of so many quarters; the others get
 * `rest` as their state. */
static void persist(struct sim_disk *disk, struct file *file, uint64_t quarters,
                    enum sector_state rest)
{
    for (size_t i = 0; i < file->capacity / SECTOR_BYTES; i++) {
        if (file->state[i] != SECTOR_DIRTY) {
            continue;
        }
        file->state[i] = (uint8_t)rest;
        if (chance(disk, quarters)) {
            memcpy(file->durable + i * SECTOR_BYTES, file->now + i * SECTOR_BYTES, SECTOR_BYTES);
            file->state[i] = SECTOR_CLEAN;
        }
    }
    if (file->size != file->durable_size && chance(disk, quarters)) {
        file->durable_size = file->size;
    }
}

static void file_fall_back(struct file *file)
{
    if (file->capacity == 0) {
        return;
    }
    memset(file->durable + file->durable_size, 0, file->capacity - file->durable_size);
    memcpy(file->now, file->durable, file->capacity);
    memset(file->state, SECTOR_CLEAN, file->capacity / SECTOR_BYTES);
    file->size = file->durable_size;
}

/* ---- names ---- */

static struct name *names_find(const struct names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->name[i].path, path) == 0) {
            return &names->name[i];
        }
    }
    return NULL;
}

static void names_remove(struct names *names, const char *path)
{
    struct name *name = names_find(names, path);

    if (name != NULL) {
        free(name->path);
        names->count--;
        *name = names->name[names->count];
    }
}

static void names_put(struct names *names, const char *path, struct file *file)
{
    struct name *name = names_find(names, path);

    if (name == NULL) {
        names->name = grown(names->name, (names->count + 1) * sizeof(*name));
        name = &names->name[names->count];
        names->count++;
        name->path = copied(path);
    }
    name->file = file;
}

static void names_done(struct names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        free(names->name[i].path);
    }
    free(names->name);
    *names = (struct names){0};
}

/* A change that needs one that was lost is lost too. */
static void names_change(struct names *names, const struct change *change)
{
    const struct name *from = change->from != NULL ? names_find(names, change->from) : NULL;

    if (change->from != NULL && (from == NULL || from->file != change->file)) {
        return;
    }
    if (change->from != NULL) {
        names_remove(names, change->from);
    }
    if (change->to != NULL) {
        names_put(names, change->to, change->file);
    }
}

static void change_folder(struct sim_disk *disk, const char *from, const char *to,
                          struct file *file)
{
    struct change *change = NULL;

    disk->changes = grown(disk->changes, (disk->change_count + 1) * sizeof(*disk->changes));
    change = &disk->changes[disk->change_count];
    disk->change_count++;
    *change = (struct change){.from = copied(from), .to = copied(to), .file = file};
    names_change(&disk->now, change);
}

/* Applies the changes of a folder (NULL: of all) to the durable names, each with that chance. */
static void changes_settle(struct sim_disk *disk, const char *folder, uint64_t quarters)
{
    size_t kept = 0;

    for (size_t i = 0; i < disk->change_count; i++) {
        struct change change = disk->changes[i];
        if (folder != NULL && !is_in(change.from != NULL ? change.from : change.to, folder)) {
            disk->changes[kept] = change;
            kept++;
            continue;
        }
        if (chance(disk, quarters)) {
            names_change(&disk->durable, &change);
        }
        free(change.from);
        free(change.to);
    }
    disk->change_count = kept;
}

/* ---- calls ---- */

static bool fails(struct sim_disk *disk)
{
    disk->calls++;
    if (disk->fail_at == 0) {
        return false;
    }
    disk->fail_at--;
    errno = disk->fail_errno;
    return disk->fail_at == 0;
}

static uint64_t free_space(const struct sim_disk *disk)
{
    uint64_t used = 0;

    if (disk->space == 0) {
        return UINT64_MAX;
    }
    for (size_t i = 0; i < disk->now.count; i++) {
        used += disk->now.name[i].file->size;
    }
    return used < disk->space ? disk->space - used : 0;
}

static bool no_space(const struct sim_disk *disk, const struct file *file, size_t size)
{
    if (size <= file->size || size - file->size <= free_space(disk)) {
        return false;
    }
    errno = ENOSPC;
    return true;
}

static struct file *handle_file(const struct sim_disk *disk, int fd)
{
    CHECK(fd >= FD_FIRST && (size_t)(fd - FD_FIRST) < disk->handle_count);
    CHECK(disk->handles[fd - FD_FIRST] != NULL);
    return disk->handles[fd - FD_FIRST];
}

static int disk_open(void *context, const char *path, int flags, mode_t mode)
{
    struct sim_disk *disk = context;
    const struct name *name = names_find(&disk->now, path);
    struct file *file = name != NULL ? name->file : NULL;
    size_t i = 0;

    (void)mode;
    if (fails(disk)) {
        return -1;
    }
    if (file == NULL) {
        if ((flags & O_CREAT) == 0) {
            errno = ENOENT;
            return -1;
        }
        file = file_new(disk);
        change_folder(disk, NULL, path, file);
    } else if ((flags & O_TRUNC) != 0) {
        file_resize(file, 0);
    }
    while (i < disk->handle_count && disk->handles[i] != NULL) {
        i++;
    }
    if (i == disk->handle_count) {
        disk->handle_count++;
        disk->handles = grown(disk->handles, disk->handle_count * sizeof(struct file *));
    }
    disk->handles[i] = file;
    return (int)i + FD_FIRST;
}

static int disk_close(void *context, int fd)
{
    struct sim_disk *disk = context;

    (void)handle_file(disk, fd);
    disk->handles[fd - FD_FIRST] = NULL;
    return 0;
}

static ssize_t disk_pread(void *context, int fd, void *to, size_t len, off_t offset)
{
    struct sim_disk *disk = context;
    const struct file *file = handle_file(disk, fd);
    size_t from = (size_t)offset;

    if (fails(disk)) {
        return -1;
    }
    if (from >= file->size) {
        return 0;
    }
    len = len > file->size - from ? file->size - from : len;
    memcpy(to, file->now + from, len);
    return (ssize_t)len;
}

static ssize_t disk_pwrite(void *context, int fd, const void *from, size_t len, off_t offset)
{
    struct sim_disk *disk = context;
    struct file *file = handle_file(disk, fd);
    size_t to = (size_t)offset;
    bool failed = fails(disk);
    bool is_full = !failed && no_space(disk, file, to + len);
    int errno_value = errno;

    if (failed) {
        len = random_next(disk) % (len + 1) / SECTOR_BYTES * SECTOR_BYTES;
    } else if (is_full) {
        /* What fits is written, and told as a short write. */
        uint64_t end = file->size + free_space(disk);
        len = end > to ? (size_t)(end - to) / SECTOR_BYTES * SECTOR_BYTES : 0;
        failed = len == 0;
    }
    if (len > 0) {
        file_reserve(file, to + len);
        file->size = file->size < to + len ? to + len : file->size;
        memcpy(file->now + to, from, len);
        mark_dirty(file, to, to + len);
    }
    errno = errno_value;
    return failed ? -1 : (ssize_t)len;
}

static int disk_fdatasync(void *context, int fd)
{
    struct sim_disk *disk = context;
    struct file *file = handle_file(disk, fd);
    int errno_value = 0;

    disk->syncs++;
    if (fails(disk)) {
        errno_value = errno;
        persist(disk, file, random_next(disk) % 4, SECTOR_LOST);
        errno = errno_value;
        return -1;
    }
    persist(disk, file, /* all */ 4, SECTOR_CLEAN);
    return 0;
}

static int disk_ftruncate(void *context, int fd, off_t len)
{
    struct sim_disk *disk = context;
    struct file *file = handle_file(disk, fd);

    if (fails(disk) || no_space(disk, file, (size_t)len)) {
        return -1;
    }
    file_resize(file, (size_t)len);
    return 0;
}

static int disk_fallocate(void *context, int fd, off_t offset, off_t len)
{
    struct sim_disk *disk = context;
    struct file *file = handle_file(disk, fd);
    size_t size = (size_t)(offset + len);

    if (fails(disk) || no_space(disk, file, size)) {
        return -1;
    }
    if (size > file->size) {
        file_resize(file, size);
    }
    return 0;
}

static off_t disk_size(void *context, int fd)
{
    struct sim_disk *disk = context;

    return fails(disk) ? -1 : (off_t)handle_file(disk, fd)->size;
}

static int disk_rename(void *context, const char *from, const char *to)
{
    struct sim_disk *disk = context;
    const struct name *name = names_find(&disk->now, from);

    if (fails(disk)) {
        return -1;
    }
    if (name == NULL) {
        errno = ENOENT;
        return -1;
    }
    change_folder(disk, from, to, name->file);
    return 0;
}

static int disk_unlink(void *context, const char *path)
{
    struct sim_disk *disk = context;
    const struct name *name = names_find(&disk->now, path);

    if (fails(disk)) {
        return -1;
    }
    if (name == NULL) {
        errno = ENOENT;
        return -1;
    }
    change_folder(disk, path, NULL, name->file);
    return 0;
}

static int disk_sync_folder(void *context, const char *folder)
{
    struct sim_disk *disk = context;

    if (fails(disk)) {
        return -1;
    }
    changes_settle(disk, folder, /* all */ 4);
    return 0;
}

static int disk_list(void *context, const char *folder, void (*each)(void *arg, const char *name),
                     void *arg)
{
    struct sim_disk *disk = context;

    if (fails(disk)) {
        return -1;
    }
    for (size_t i = 0; i < disk->now.count; i++) {
        if (is_in(disk->now.name[i].path, folder)) {
            each(arg, disk->now.name[i].path + strlen(folder) + 1);
        }
    }
    return 0;
}

static int disk_space(void *context, const char *folder, uint64_t *out_total, uint64_t *out_free)
{
    struct sim_disk *disk = context;

    (void)folder;
    if (fails(disk)) {
        return -1;
    }
    *out_total = disk->space != 0 ? disk->space : UINT64_MAX;
    *out_free = free_space(disk);
    return 0;
}

/* ---- public ---- */

struct sim_disk *sim_disk_new(uint64_t seed)
{
    struct sim_disk *disk = calloc(1, sizeof(*disk));

    if (disk == NULL) {
        return NULL;
    }
    disk->random = seed;
    disk->io = (struct log_io){
        .context = disk,
        .open = disk_open,
        .close = disk_close,
        .pread = disk_pread,
        .pwrite = disk_pwrite,
        .fdatasync = disk_fdatasync,
        .ftruncate = disk_ftruncate,
        .fallocate = disk_fallocate,
        .size = disk_size,
        .rename = disk_rename,
        .unlink = disk_unlink,
        .sync_folder = disk_sync_folder,
        .list = disk_list,
        .space = disk_space,
    };
    return disk;
}

static struct file *file_copy(struct sim_disk *disk, const struct file *from)
{
    struct file *file = file_new(disk);

    file_reserve(file, from->capacity);
    if (from->capacity > 0) {
        memcpy(file->now, from->now, from->capacity);
        memcpy(file->durable, from->durable, from->capacity);
        memcpy(file->state, from->state, from->capacity / SECTOR_BYTES);
    }
    file->size = from->size;
    file->durable_size = from->durable_size;
    return file;
}

/* Finds the twin: both lists of files have the same order. */
static struct file *file_twin(const struct sim_disk *copy, const struct sim_disk *disk,
                              const struct file *file)
{
    struct file *twin = copy->files;

    for (const struct file *at = disk->files; at != file; at = at->next) {
        CHECK(at != NULL && twin != NULL);
        twin = twin->next;
    }
    return twin;
}

struct sim_disk *sim_disk_copy(const struct sim_disk *disk)
{
    struct sim_disk *copy = sim_disk_new(disk->random);
    struct file **end = NULL;

    CHECK(copy != NULL);
    end = &copy->files;
    for (const struct file *file = disk->files; file != NULL; file = file->next) {
        struct file *twin = file_copy(copy, file);
        copy->files = twin->next;
        twin->next = NULL;
        *end = twin;
        end = &twin->next;
    }
    for (size_t i = 0; i < disk->now.count; i++) {
        const struct name *name = &disk->now.name[i];
        names_put(&copy->now, name->path, file_twin(copy, disk, name->file));
    }
    for (size_t i = 0; i < disk->durable.count; i++) {
        const struct name *name = &disk->durable.name[i];
        names_put(&copy->durable, name->path, file_twin(copy, disk, name->file));
    }
    copy->change_count = disk->change_count;
    copy->changes = grown(NULL, (disk->change_count + 1) * sizeof(*copy->changes));
    for (size_t i = 0; i < disk->change_count; i++) {
        const struct change *change = &disk->changes[i];
        copy->changes[i] = (struct change){.from = copied(change->from),
                                           .to = copied(change->to),
                                           .file = file_twin(copy, disk, change->file)};
    }
    copy->space = disk->space;
    return copy;
}

void sim_disk_free(struct sim_disk *disk)
{
    if (disk == NULL) {
        return;
    }
    changes_settle(disk, NULL, 0);
    free(disk->changes);
    names_done(&disk->now);
    names_done(&disk->durable);
    while (disk->files != NULL) {
        struct file *file = disk->files;
        disk->files = file->next;
        file_free(file);
    }
    free(disk->handles);
    free(disk);
}

const struct log_io *sim_disk_io(struct sim_disk *disk)
{
    return &disk->io;
}

static bool is_named(const struct names *names, const struct file *file)
{
    for (size_t i = 0; i < names->count; i++) {
        if (names->name[i].file == file) {
            return true;
        }
    }
    return false;
}

static void crash(struct sim_disk *disk, uint64_t quarters)
{
    struct file **link = &disk->files;

    disk->fail_at = 0;
    disk->handle_count = 0;
    changes_settle(disk, NULL, quarters);
    names_done(&disk->now);
    for (size_t i = 0; i < disk->durable.count; i++) {
        names_put(&disk->now, disk->durable.name[i].path, disk->durable.name[i].file);
    }
    while (*link != NULL) {
        struct file *file = *link;
        if (!is_named(&disk->durable, file)) {
            *link = file->next;
            file_free(file);
            continue;
        }
        persist(disk, file, quarters, SECTOR_LOST);
        file_fall_back(file);
        link = &file->next;
    }
}

void sim_disk_crash(struct sim_disk *disk)
{
    crash(disk, random_next(disk) % 5);
}

void sim_disk_lose_unsynced(struct sim_disk *disk)
{
    crash(disk, 0);
}

void sim_disk_fail_at(struct sim_disk *disk, uint64_t nth, int errno_value)
{
    disk->fail_at = nth;
    disk->fail_errno = errno_value;
}

void sim_disk_set_space(struct sim_disk *disk, uint64_t bytes)
{
    disk->space = bytes;
}

void sim_disk_flip(struct sim_disk *disk, const char *path, uint64_t offset, unsigned bit)
{
    const struct name *name = names_find(&disk->now, path);

    CHECK(name != NULL && offset < name->file->size && bit < 8);
    name->file->now[offset] ^= (uint8_t)(1u << bit);
    name->file->durable[offset] ^= (uint8_t)(1u << bit);
}

void sim_disk_cut(struct sim_disk *disk, const char *path, uint64_t len)
{
    const struct name *name = names_find(&disk->now, path);
    struct file *file = NULL;

    CHECK(name != NULL && len <= name->file->size);
    file = name->file;
    file_resize(file, len);
    persist(disk, file, /* all */ 4, SECTOR_CLEAN);
    file_fall_back(file);
}

uint64_t sim_disk_calls(const struct sim_disk *disk)
{
    return disk->calls;
}

size_t sim_disk_open_count(const struct sim_disk *disk)
{
    size_t count = 0;

    for (size_t i = 0; i < disk->handle_count; i++) {
        count += disk->handles[i] != NULL;
    }
    return count;
}

uint64_t sim_disk_sync_count(const struct sim_disk *disk)
{
    return disk->syncs;
}

const uint8_t *sim_disk_bytes(const struct sim_disk *disk, const char *path, uint64_t *out_len)
{
    const struct name *name = names_find(&disk->now, path);

    *out_len = name != NULL ? name->file->size : 0;
    return name != NULL ? name->file->now : NULL;
}
