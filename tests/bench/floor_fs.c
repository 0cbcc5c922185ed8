/* SPDX-License-Identifier: Apache-2.0
 *
 * The smallest file system that libfuse can serve with the caching of the mount: what is faster than
 * this is not to be had from FUSE. In memory, one thread, for bench_files only: `floor_fs MOUNTPOINT`
 * (foreground; ends with umount).
 *
 * All is in one table, looked through from the start; the kernel asks for names only once.
 */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/check.h"

#define NODES_MAX     2048u
#define CACHE_SECONDS 1e6

/* nodeid = place in the table; 1 is the root. Free: mode 0. */
struct node {
    fuse_ino_t parent;
    mode_t mode;
    char name[64];
    char *data;
    size_t len;
};

static struct node nodes[NODES_MAX] = {[FUSE_ROOT_ID] = {.mode = S_IFDIR | 0755}};

static fuse_ino_t find(fuse_ino_t parent, const char *name)
{
    for (fuse_ino_t i = FUSE_ROOT_ID + 1; i < NODES_MAX; i++) {
        if (nodes[i].mode != 0 && nodes[i].parent == parent && strcmp(nodes[i].name, name) == 0) {
            return i;
        }
    }
    return 0;
}

static fuse_ino_t make(fuse_ino_t parent, const char *name, mode_t mode)
{
    for (fuse_ino_t i = FUSE_ROOT_ID + 1; i < NODES_MAX; i++) {
        if (nodes[i].mode == 0) {
            nodes[i].parent = parent;
            nodes[i].mode = mode;
            (void)snprintf(nodes[i].name, sizeof nodes[i].name, "%s", name);
            return i;
        }
    }
    return 0;
}

static void fill_stat(fuse_ino_t nodeid, struct stat *out)
{
    *out = (struct stat){.st_ino = nodeid, .st_mode = nodes[nodeid].mode, .st_nlink = 1};
    out->st_size = (off_t)nodes[nodeid].len;
}

static struct fuse_entry_param entry_of(fuse_ino_t nodeid)
{
    struct fuse_entry_param entry = {
        .ino = nodeid, .entry_timeout = CACHE_SECONDS, .attr_timeout = CACHE_SECONDS};
    if (nodeid != 0) {
        fill_stat(nodeid, &entry.attr);
    }
    return entry;
}

static void floor_init(void *userdata, struct fuse_conn_info *conn)
{
    (void)userdata;
    conn->want |= conn->capable & (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_NO_OPENDIR_SUPPORT |
                                   FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_AUTO_INVAL_DATA);
}

static void floor_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param entry = entry_of(find(parent, name));
    (void)fuse_reply_entry(req, &entry);
}

static void floor_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct stat attr;
    (void)fi;
    fill_stat(nodeid, &attr);
    (void)fuse_reply_attr(req, &attr, CACHE_SECONDS);
}

static void floor_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    (void)nodeid;
    (void)fi;
    (void)fuse_reply_err(req, ENOSYS);
}

static void floor_readdir(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
                          struct fuse_file_info *fi)
{
    static const char *const dots[] = {".", ".."};
    char *bytes = malloc(size);
    size_t len = 0;
    (void)fi;
    CHECK(bytes != NULL);
    for (fuse_ino_t i = (fuse_ino_t)offset; i < NODES_MAX; i++) {
        const char *name = i < 2 ? dots[i] : nodes[i].name;
        struct stat attr = {.st_ino = i + 1, .st_mode = i < 2 ? S_IFDIR : nodes[i].mode};
        if (i >= 2 && (nodes[i].mode == 0 || nodes[i].parent != nodeid)) {
            continue;
        }
        size_t need = fuse_add_direntry(req, bytes + len, size - len, name, &attr, (off_t)(i + 1));
        if (need > size - len) {
            break;
        }
        len += need;
    }
    (void)fuse_reply_buf(req, bytes, len);
    free(bytes);
}

static void floor_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct fuse_entry_param entry = entry_of(make(parent, name, S_IFDIR | mode));
    (void)fuse_reply_entry(req, &entry);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    fuse_ino_t nodeid = find(parent, name);
    if (nodeid != 0) {
        free(nodes[nodeid].data);
        nodes[nodeid] = (struct node){0};
    }
    (void)fuse_reply_err(req, nodeid != 0 ? 0 : ENOENT);
}

static void floor_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    bool reads = (fi->flags & O_ACCMODE) == O_RDONLY;
    if ((fi->flags & O_TRUNC) != 0) {
        nodes[nodeid].len = 0;
    }
    fi->keep_cache = 1;
    fi->noflush = reads;
    (void)fuse_reply_open(req, fi);
}

static void floor_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                         struct fuse_file_info *fi)
{
    struct fuse_entry_param entry = entry_of(make(parent, name, S_IFREG | mode));
    fi->keep_cache = 1;
    (void)fuse_reply_create(req, &entry, fi);
}

static void floor_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
                       struct fuse_file_info *fi)
{
    const struct node *node = &nodes[nodeid];
    size_t from = (size_t)offset < node->len ? (size_t)offset : node->len;
    size_t rest = node->len - from;
    (void)fi;
    (void)fuse_reply_buf(req, node->data + from, rest < size ? rest : size);
}

static void floor_write(fuse_req_t req, fuse_ino_t nodeid, const char *bytes, size_t size,
                        off_t offset, struct fuse_file_info *fi)
{
    struct node *node = &nodes[nodeid];
    size_t end = (size_t)offset + size;
    (void)fi;
    if (end > node->len) {
        node->data = realloc(node->data, end);
        CHECK(node->data != NULL);
        node->len = end;
    }
    memcpy(node->data + offset, bytes, size);
    (void)fuse_reply_write(req, size);
}

static void reply_ok(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    (void)nodeid;
    (void)fi;
    (void)fuse_reply_err(req, 0);
}

int main(int argc, char **argv)
{
    static const struct fuse_lowlevel_ops operations = {
        .init = floor_init,
        .lookup = floor_lookup,
        .getattr = floor_getattr,
        .opendir = floor_opendir,
        .readdir = floor_readdir,
        .mkdir = floor_mkdir,
        .unlink = remove_name,
        .rmdir = remove_name,
        .open = floor_open,
        .create = floor_create,
        .read = floor_read,
        .write = floor_write,
        .flush = reply_ok,
        .release = reply_ok,
    };
    struct fuse_args args = FUSE_ARGS_INIT(1, argv);
    if (argc != 2) {
        (void)fputs("usage: floor_fs MOUNTPOINT\n", stderr);
        return 2;
    }
    struct fuse_session *session = fuse_session_new(&args, &operations, sizeof operations, NULL);
    CHECK(session != NULL && fuse_session_mount(session, argv[1]) == 0);
    int result = fuse_session_loop(session);
    fuse_session_unmount(session);
    fuse_session_destroy(session);
    return result == 0 ? 0 : 1;
}
