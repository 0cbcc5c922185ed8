/* SPDX-License-Identifier: Apache-2.0
 *
 * The data folder and who it belongs to. Called by daemon.c.
 *
 * The identity file is text of `key value` lines, for whoever looks; the last one is the checksum
 * over the bytes before it:
 *
 *     quorumfs-identity 1
 *     id 2
 *     incarnation 0123456789abcdef
 *     formed 1
 *     ensemble 00112233445566778899aabbccddeeff     (formed only, as the next two)
 *     founded 1790000000000000000
 *     founders 0103...                              (raft_members_encode, hexadecimal)
 *     checksum 0123456789abcdef
 */
#include "server/identity.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/check.h"

#define PATH_BYTES     600u
#define FILE_BYTES     16384u /* more than any identity needs */
#define CHECKSUM_BYTES 26u    /* "checksum " + 16 digits + newline */
#define HEX_BYTES_MAX  8192u

static enum err failed(struct buffer *error, const char *what, const char *path, int errno_value)
{
    (void)buffer_printf(error, "cannot %s %s: %s", what, path, strerror(errno_value));
    return errno_value == EWOULDBLOCK ? ERR_BUSY : err_from_errno(errno_value);
}

/* Makes durable which files the folder has. */
static enum err sync_folder(const char *folder, struct buffer *error)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err = ERR_OK;

    if (fd < 0 || fsync(fd) != 0) {
        err = failed(error, "sync", folder, errno);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}

/* Makes the folder's own entry durable. A parent that may be passed but not read (mode 0711) cannot
 * be synced by itself: then all of its file system is. */
static enum err sync_parent(const char *data, struct buffer *error)
{
    char parent[PATH_BYTES];
    enum err err = ERR_OK;
    int fd = -1;

    (void)snprintf(parent, sizeof(parent), "%s/..", data);
    if (access(parent, R_OK) == 0) {
        return sync_folder(parent, error);
    }
    fd = open(data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || syncfs(fd) != 0) {
        err = failed(error, "sync", data, errno);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}

/* ---- the lock ---- */

static enum err make_folder(const char *path, struct buffer *error)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return failed(error, "make", path, errno);
    }
    return ERR_OK;
}

/* The lock file is also written to, so that a folder that cannot be written is found now. */
static enum err take_lock(const char *path, int *out_fd, struct buffer *error)
{
    char pid[32];
    int len = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0) {
        return failed(error, "write", path, errno);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        enum err err = ERR_BUSY;
        if (errno == EWOULDBLOCK) {
            (void)buffer_printf(error, "the data folder is in use by another replica (%s)", path);
        } else {
            err = failed(error, "lock", path, errno);
        }
        (void)close(fd);
        return err;
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)len, 0) != len) {
        enum err err = failed(error, "write", path, errno);
        (void)close(fd);
        return err;
    }
    *out_fd = fd;
    return ERR_OK;
}

enum err identity_lock(const char *data, int *out_lock_fd, struct buffer *error)
{
    char path[PATH_BYTES];
    enum err err = make_folder(data, error);

    if (err != ERR_OK) {
        return err;
    }
    (void)snprintf(path, sizeof(path), "%s/lock", data);
    err = take_lock(path, out_lock_fd, error);
    if (err == ERR_OK) {
        (void)snprintf(path, sizeof(path), "%s/log", data);
        err = make_folder(path, error);
        if (err != ERR_OK) {
            (void)close(*out_lock_fd);
            *out_lock_fd = -1;
        }
    }
    return err;
}

/* ---- writing ---- */

static void print_hex(struct buffer *out, const char *key, const uint8_t *bytes, size_t len)
{
    (void)buffer_printf(out, "%s ", key);
    for (size_t i = 0; i < len; i++) {
        (void)buffer_printf(out, "%02x", bytes[i]);
    }
    (void)buffer_printf(out, "\n");
}

static enum err print_identity(const struct replica_identity *identity, struct buffer *out)
{
    struct buffer founders = {0};
    enum err err = ERR_OK;

    /* All memory at once: no line can be missing under a good checksum. */
    if (buffer_reserve(out, FILE_BYTES) == NULL) {
        return ERR_MEMORY;
    }
    (void)buffer_printf(out, "quorumfs-identity 1\nid %" PRIu64 "\nincarnation %016" PRIx64 "\n",
                        identity->id, identity->incarnation);
    (void)buffer_printf(out, "formed %d\n", identity->formed ? 1 : 0);
    if (identity->formed) {
        err = raft_members_encode(&identity->founders, &founders);
        print_hex(out, "ensemble", identity->ensemble, ENSEMBLE_ID_BYTES);
        (void)buffer_printf(out, "founded %" PRId64 "\n", identity->founded_ns);
        print_hex(out, "founders", founders.data, founders.len);
    }
    buffer_done(&founders);
    if (err != ERR_OK) {
        return err;
    }
    err = buffer_printf(out, "checksum %016" PRIx64 "\n", XXH3_64bits(out->data, out->len));
    CHECK_OP(out->len, <, FILE_BYTES);
    return err;
}

static enum err write_file(const char *path, const struct buffer *text, struct buffer *error)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    enum err err = ERR_OK;
    size_t done = 0;

    if (fd < 0) {
        return failed(error, "write", path, errno);
    }
    while (done < text->len) { /* what a full disk cuts short says why in the next round */
        ssize_t len = write(fd, text->data + done, text->len - done);
        if (len < 0) {
            err = failed(error, "write", path, errno);
            break;
        }
        done += (size_t)len;
    }
    if (err == ERR_OK && fsync(fd) != 0) {
        err = failed(error, "sync", path, errno);
    }
    (void)close(fd);
    return err;
}

enum err identity_save(const char *data, const struct replica_identity *identity,
                       struct buffer *error)
{
    char path[PATH_BYTES];
    char temporary[PATH_BYTES];
    struct buffer text = {0};
    enum err err = print_identity(identity, &text);

    (void)snprintf(path, sizeof(path), "%s/identity", data);
    (void)snprintf(temporary, sizeof(temporary), "%s/identity.new", data);
    if (err != ERR_OK) {
        (void)buffer_printf(error, "cannot write %s: %s", path, err_text(err));
    } else {
        err = write_file(temporary, &text, error);
    }
    buffer_done(&text);
    if (err == ERR_OK && rename(temporary, path) != 0) {
        err = failed(error, "replace", path, errno);
    }
    return err == ERR_OK ? sync_folder(data, error) : err;
}

/* ---- reading ---- */

/* The hexadecimal digits of a line as bytes; false: not such. */
static bool parse_hex(const char *digits, uint8_t *to, size_t bytes_max, size_t *out_len)
{
    size_t len = strlen(digits);

    if (len % 2 != 0 || len / 2 > bytes_max) {
        return false;
    }
    for (size_t i = 0; i < len; i += 2) {
        char pair[3] = {digits[i], digits[i + 1], '\0'};
        char *end = NULL;
        unsigned long value = strtoul(pair, &end, 16);
        if (*end != '\0' || pair[0] == '-' || pair[0] == '+' || pair[0] == ' ') {
            return false;
        }
        to[i / 2] = (uint8_t)value;
    }
    *out_len = len / 2;
    return true;
}

/* The value of the next line, which must have this key; NULL: it has not. In place. */
static char *next_value(char **rest, const char *key)
{
    char *line = strsep(rest, "\n");
    size_t key_len = strlen(key);

    if (line == NULL || strncmp(line, key, key_len) != 0 || line[key_len] != ' ') {
        return NULL;
    }
    return line + key_len + 1;
}

static bool parse_number(const char *text, int base, uint64_t *out)
{
    char *end = NULL;

    if (text == NULL || *text == '\0') {
        return false;
    }
    errno = 0;
    *out = strtoull(text, &end, base);
    return errno == 0 && *end == '\0';
}

static bool parse_founders(const char *digits, struct raft_members *out)
{
    uint8_t bytes[HEX_BYTES_MAX];
    size_t len = 0;

    return digits != NULL && parse_hex(digits, bytes, sizeof(bytes), &len) &&
           raft_members_decode(bytes, len, out) == ERR_OK;
}

static bool parse_formed(char **rest, struct replica_identity *out)
{
    const char *ensemble = next_value(rest, "ensemble");
    const char *founded = next_value(rest, "founded");
    uint64_t founded_ns = 0;
    size_t len = 0;

    if (ensemble == NULL || !parse_hex(ensemble, out->ensemble, ENSEMBLE_ID_BYTES, &len) ||
        len != ENSEMBLE_ID_BYTES || !parse_number(founded, 10, &founded_ns) ||
        !parse_founders(next_value(rest, "founders"), &out->founders)) {
        return false;
    }
    out->founded_ns = (int64_t)founded_ns;
    return true;
}

/* `text` is the content with a NUL behind it. */
static bool parse_identity(char *text, size_t len, struct replica_identity *out)
{
    char checksum[CHECKSUM_BYTES + 1];
    char *rest = text;
    const char *version = NULL;
    uint64_t formed = 0;

    if (len <= CHECKSUM_BYTES || strlen(text) != len) {
        return false;
    }
    (void)snprintf(checksum, sizeof(checksum), "checksum %016" PRIx64 "\n",
                   XXH3_64bits(text, len - CHECKSUM_BYTES));
    if (strcmp(text + len - CHECKSUM_BYTES, checksum) != 0) {
        return false;
    }
    *out = (struct replica_identity){.formed = false};
    version = next_value(&rest, "quorumfs-identity");
    if (version == NULL || strcmp(version, "1") != 0 ||
        !parse_number(next_value(&rest, "id"), 10, &out->id) ||
        !parse_number(next_value(&rest, "incarnation"), 16, &out->incarnation) ||
        !parse_number(next_value(&rest, "formed"), 10, &formed) || formed > 1) {
        return false;
    }
    out->formed = formed == 1;
    return (!out->formed || parse_formed(&rest, out)) && next_value(&rest, "checksum") != NULL;
}

static enum err read_identity(int fd, const char *path, struct replica_identity *out,
                              struct buffer *error)
{
    char *text = calloc(1, FILE_BYTES + 1);
    ssize_t len = 0;
    enum err err = ERR_OK;

    if (text == NULL) {
        (void)buffer_printf(error, "cannot read %s: %s", path, err_text(ERR_MEMORY));
        return ERR_MEMORY;
    }
    len = read(fd, text, FILE_BYTES);
    if (len < 0) {
        err = failed(error, "read", path, errno);
    } else if (!parse_identity(text, (size_t)len, out)) {
        (void)buffer_printf(error,
                            "%s is damaged: this replica may have forgotten a vote, so it must not "
                            "start; replace it by a new one",
                            path);
        err = ERR_CORRUPT;
    }
    free(text);
    return err;
}

/* A folder that holds anything, or that cannot be looked into, is refused; a missing one is fine. */
static enum err refuse_files(const char *data, const char *name, struct buffer *error)
{
    char path[PATH_BYTES];
    const struct dirent *entry = NULL;
    bool any = false;
    DIR *folder = NULL;

    (void)snprintf(path, sizeof(path), "%s/%s", data, name);
    folder = opendir(path);
    if (folder == NULL) {
        return errno == ENOENT ? ERR_OK : failed(error, "read", path, errno);
    }
    while (!any && (entry = readdir(folder)) != NULL) {
        any = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    (void)closedir(folder);
    if (any) {
        (void)buffer_printf(error,
                            "%s holds files, but %s has no identity: this replica may have "
                            "forgotten a vote, so it must not start",
                            path, data);
    }
    return any ? ERR_CORRUPT : ERR_OK;
}

static enum err make_identity(const char *data, uint64_t id, uint64_t incarnation,
                              struct replica_identity *out, struct buffer *error)
{
    enum err err = refuse_files(data, "log", error);

    err = err == ERR_OK ? refuse_files(data, "store", error) : err;
    err = err == ERR_OK ? sync_parent(data, error) : err;
    if (err != ERR_OK) {
        return err;
    }
    *out = (struct replica_identity){.id = id, .incarnation = incarnation};
    return identity_save(data, out, error);
}

enum err identity_open(const char *data, uint64_t id, uint64_t incarnation,
                       struct replica_identity *out, struct buffer *error)
{
    char path[PATH_BYTES];
    enum err err = ERR_OK;
    int fd = -1;

    (void)snprintf(path, sizeof(path), "%s/identity", data);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? make_identity(data, id, incarnation, out, error)
                               : failed(error, "read", path, errno);
    }
    err = read_identity(fd, path, out, error);
    (void)close(fd);
    if (err == ERR_OK && out->id != id) {
        (void)buffer_printf(error, "%s belongs to replica %" PRIu64 ", not to %" PRIu64, path,
                            out->id, id);
        return ERR_CONFIG;
    }
    return err;
}
