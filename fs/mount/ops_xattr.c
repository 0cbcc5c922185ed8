/* SPDX-License-Identifier: Apache-2.0
 *
 * GETXATTR, LISTXATTR, SETXATTR, REMOVEXATTR. `user.znode` and `user.znode.*` are virtual: what the
 * tree knows about a node, readable by name and never listed, so that cp -a, tar and rsync do not
 * copy them. All other `user.*` are stored with the node; nothing else is supported (FILESYSTEM.md,
 * "xattrs").
 */
#include "fs/mount/ops.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "common/parse.h"
#include "fs/mount/changes.h"
#include "fs/mount/order.h"
#include "fs/mount/special.h"

#define VIRTUAL            "user.znode"
#define VIRTUAL_IF_VERSION "user.znode.if-version"

#define USER_PREFIX     "user."
#define USER_PREFIX_LEN (sizeof USER_PREFIX - 1)

static bool is_virtual(const char *name)
{
    size_t len = sizeof VIRTUAL - 1;
    return strncmp(name, VIRTUAL, len) == 0 && (name[len] == '\0' || name[len] == '.');
}

static bool is_user(const char *name)
{
    return strncmp(name, USER_PREFIX, USER_PREFIX_LEN) == 0 && name[USER_PREFIX_LEN] != '\0';
}

/* ---- replies ---- */

/* A value or a list; asked with size 0 for its length alone. */
static void reply_bytes(struct task *task, const void *bytes, size_t len)
{
    if (task->size == 0) {
        (void)fuse_reply_xattr(task->req, len);
    } else if (len > task->size) {
        (void)fuse_reply_err(task->req, ERANGE);
    } else {
        (void)fuse_reply_buf(task->req, bytes, len);
    }
    task_end(task);
}

static void reply_done(struct task *task, enum err err, const struct buffer *out)
{
    if (err != ERR_OK) {
        task_fail(task, err);
    } else {
        reply_bytes(task, out->data, out->len);
    }
}

/* ---- virtual attributes ---- */

static const char *kind_name(Wire__Kind kind)
{
    switch (kind) {
    case WIRE__KIND__KIND_PLAIN:
        return "plain";
    case WIRE__KIND__KIND_FILE:
        return "file";
    case WIRE__KIND__KIND_DIR:
        return "dir";
    case WIRE__KIND__KIND_SYMLINK:
        return "symlink";
    case WIRE__KIND__KIND_FIFO:
        return "fifo";
    case WIRE__KIND__KIND_SOCKET:
        return "socket";
    case WIRE__KIND__KIND_CHAR_DEVICE:
        return "char";
    case WIRE__KIND__KIND_BLOCK_DEVICE:
        return "block";
    case WIRE__KIND__KIND_NONE:
    case _WIRE__KIND_IS_INT_SIZE:
        break;
    }
    return "none";
}

/* Each writes its value; XATTR_NONE: this node has none. `asked`: what the replica has said; NULL for
 * those that the attributes tell. */
typedef enum err value_fn(const Wire__Attr *attr, const Wire__Answer *asked, struct buffer *out);

#define NUMBER_VALUE(field)                                                          \
    static enum err value_##field(const Wire__Attr *attr, const Wire__Answer *asked, \
                                  struct buffer *out)                                \
    {                                                                                \
        (void)asked;                                                                 \
        return buffer_printf(out, "%llu", (unsigned long long)attr->field);          \
    }
NUMBER_VALUE(version)
NUMBER_VALUE(cversion)
NUMBER_VALUE(aversion)
NUMBER_VALUE(czxid)
NUMBER_VALUE(mzxid)
NUMBER_VALUE(pzxid)
NUMBER_VALUE(owner)
NUMBER_VALUE(children)

static enum err value_kind(const Wire__Attr *attr, const Wire__Answer *asked, struct buffer *out)
{
    (void)asked;
    return buffer_printf(out, "%s", kind_name(attr->kind));
}

static enum err value_lifetime(const Wire__Attr *attr, const Wire__Answer *asked,
                               struct buffer *out)
{
    (void)asked;
    return buffer_printf(out, "%s", attr->owner != 0 ? "session" : "persistent");
}

static enum err value_holder(const Wire__Attr *attr, const Wire__Answer *asked, struct buffer *out)
{
    (void)attr;
    const ProtobufCBinaryData *holder = &asked->holder;
    return holder->len == 0 ? ERR_XATTR_NONE : buffer_append(out, holder->data, holder->len);
}

/* Since when it is locked; a directory that was made to be a lock is held since it was made. */
static enum err value_fence(const Wire__Attr *attr, const Wire__Answer *asked, struct buffer *out)
{
    if (asked->fence != 0) {
        return buffer_printf(out, "%llu", (unsigned long long)asked->fence);
    }
    return attr->kind != WIRE__KIND__KIND_DIR ? ERR_XATTR_NONE : value_czxid(attr, asked, out);
}

static const struct virtual_value {
    const char *name; /* behind "user.znode." */
    value_fn *write;
    bool is_asked; /* the replica says it */
} virtual_values[] = {
    {"kind", value_kind, false},         {"version", value_version, false},
    {"cversion", value_cversion, false}, {"aversion", value_aversion, false},
    {"czxid", value_czxid, false},       {"mzxid", value_mzxid, false},
    {"pzxid", value_pzxid, false},       {"children", value_children, false},
    {"owner", value_owner, false},       {"lifetime", value_lifetime, false},
    {"fence", value_fence, true},        {"holder", value_holder, true},
};

#define VALUE_COUNT (sizeof virtual_values / sizeof virtual_values[0])

static const struct virtual_value *virtual_find(const char *name)
{
    for (size_t i = 0; i < VALUE_COUNT && name[sizeof VIRTUAL - 1] == '.'; i++) {
        if (strcmp(virtual_values[i].name, name + sizeof VIRTUAL) == 0) {
            return &virtual_values[i];
        }
    }
    return NULL;
}

/* One `name value` a line. */
static enum err write_all(const Wire__Attr *attr, const Wire__Answer *asked, struct buffer *out)
{
    struct buffer value = {0};
    enum err err = ERR_OK;
    for (size_t i = 0; i < VALUE_COUNT && err == ERR_OK; i++) {
        buffer_clear(&value);
        err = virtual_values[i].write(attr, asked, &value);
        if (err == ERR_OK) {
            err = buffer_printf(out, "%s %.*s\n", virtual_values[i].name, (int)value.len,
                                (const char *)value.data);
        } else if (err == ERR_XATTR_NONE) {
            err = ERR_OK;
        }
    }
    buffer_done(&value);
    return err;
}

static void reply_virtual(struct task *task, const Wire__Attr *attr, const Wire__Answer *asked)
{
    const struct virtual_value *value = virtual_find(task->name);
    struct buffer out = {0};
    enum err err = value != NULL ? value->write(attr, asked, &out) : write_all(attr, asked, &out);
    reply_done(task, err, &out);
    buffer_done(&out);
}

/* ---- reading ---- */

static void ask(struct task *task,
                void (*done)(struct task *task, enum err err, const Wire__Answer *answer))
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__XattrsRead xattrs = WIRE__XATTRS_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    at.ino = task->inode->ino;
    xattrs.at = &at;
    request.body_case = WIRE__REQUEST__BODY_XATTRS;
    request.xattrs = &xattrs;
    task_call(task, &request, done);
}

/* Takes over the answer of an XattrsRead. False: the task has failed. */
static bool take_answer(struct task *task, enum err err, const Wire__Answer *answer)
{
    if (err == ERR_OK && (answer == NULL || answer->attr == NULL)) {
        err = ERR_MALFORMED;
    }
    if (err != ERR_OK) {
        task_fail(task, err);
        return false;
    }
    (void)task_take_answer(task->mount, answer, false /* make */);
    return true;
}

static void get_answered(struct task *task, enum err err, const Wire__Answer *answer)
{
    if (!take_answer(task, err, answer)) {
        return;
    }
    if (is_virtual(task->name)) {
        reply_virtual(task, answer->attr, answer);
        return;
    }
    for (size_t i = 0; i < answer->n_xattrs; i++) {
        const Wire__Xattr *xattr = answer->xattrs[i];
        if (xattr->name.len == task->name_len &&
            memcmp(xattr->name.data, task->name, task->name_len) == 0) {
            reply_bytes(task, xattr->value.data, xattr->value.len);
            return;
        }
    }
    task_fail(task, ERR_XATTR_NONE);
}

/* Names, each with its NUL. */
static void list_answered(struct task *task, enum err err, const Wire__Answer *answer)
{
    struct buffer out = {0};
    if (!take_answer(task, err, answer)) {
        return;
    }
    for (size_t i = 0; i < answer->n_xattrs && err == ERR_OK; i++) {
        const Wire__Xattr *xattr = answer->xattrs[i];
        err = buffer_append(&out, xattr->name.data, xattr->name.len);
        err = err == ERR_OK ? buffer_append_u8(&out, 0) : err;
    }
    reply_done(task, err, &out);
    buffer_done(&out);
}

/* Begins a request about an attribute (NULL: all). NULL: it has been answered. */
static struct task *xattr_task(fuse_req_t req, fuse_ino_t nodeid, const char *name)
{
    enum face face = FACE_FILE;
    struct inode *inode = ops_inode(req, nodeid, &face);
    struct task *task = inode != NULL ? task_new(ops_mount(req), req, inode) : NULL;
    if (task != NULL) {
        task->face = face;
        if (name != NULL) {
            task_set_name(task, name);
        }
    }
    return task;
}

/* What is stored belongs to the directory, not to the file that is its data. */
static bool has_stored(const struct task *task)
{
    const struct inode *inode = task->inode;
    return !inode_is_data(inode, task->face) && (inode->attr.has_xattrs || !inode->promised);
}

void ops_getxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, size_t size)
{
    if (!is_user(name) || strlen(name) > NAME_BYTES_MAX) {
        (void)fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    const struct virtual_value *value = is_virtual(name) ? virtual_find(name) : NULL;
    if (special_is(nodeid) || (is_virtual(name) && value == NULL && strcmp(name, VIRTUAL) != 0)) {
        (void)fuse_reply_err(req, ENODATA);
        return;
    }
    struct task *task = xattr_task(req, nodeid, name);
    if (task == NULL) {
        return;
    }
    task->size = size;
    if (value != NULL && !value->is_asked && task->inode->promised) {
        reply_virtual(task, &task->inode->attr, NULL);
    } else if (is_virtual(name) || has_stored(task)) {
        ask(task, get_answered);
    } else {
        task_fail(task, ERR_XATTR_NONE);
    }
}

void ops_listxattr(fuse_req_t req, fuse_ino_t nodeid, size_t size)
{
    if (special_is(nodeid)) {
        (void)(size == 0 ? fuse_reply_xattr(req, 0) : fuse_reply_buf(req, NULL, 0));
        return;
    }
    struct task *task = xattr_task(req, nodeid, NULL);
    if (task == NULL) {
        return;
    }
    task->size = size;
    if (has_stored(task)) {
        ask(task, list_answered);
    } else {
        reply_bytes(task, NULL, 0);
    }
}

/* ---- changing ---- */

static void changed(struct task *task, enum err err, const Wire__Answer *answer)
{
    if (answer != NULL) {
        (void)task_take_answer(task->mount, answer, false /* make */);
    }
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
        return;
    }
    changes_own_face(task->mount, task->inode, task->face, task->inode->attr.data_bytes > 0);
    order_reply(task, ops_reply_ok);
}

static void change(struct task *task, Wire__XattrOp *xattr)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    at.ino = task->inode->ino;
    xattr->at = &at;
    xattr->name = wire_bytes(task->name, task->name_len);
    op.body_case = WIRE__OP__BODY_XATTR;
    op.xattr = xattr;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = &op;
    task_call(task, &request, changed);
}

/* The condition of the next publish: the data must have this version then, and has it now. */
static enum err set_if_version(struct inode *inode, const char *value, size_t len)
{
    char text[24];
    uint64_t version = 0;
    if (len >= sizeof text) {
        return ERR_INVALID;
    }
    memcpy(text, value, len);
    text[len] = '\0';
    if (parse_u64(text, 0, UINT32_MAX, &version) != ERR_OK) {
        return ERR_INVALID;
    }
    if (inode->attr.version != version) {
        return ERR_BAD_VERSION;
    }
    inode->if_version = true;
    inode->version_wanted = (uint32_t)version;
    return ERR_OK;
}

/* What may not be changed in this way: OK, or why. */
static enum err check_change(const struct task *task)
{
    if (!is_user(task->name)) {
        return ERR_UNSUPPORTED;
    }
    if (is_virtual(task->name)) {
        return ERR_PERM;
    }
    return inode_is_data(task->inode, task->face) ? ERR_UNSUPPORTED : ERR_OK;
}

/* Begins a change. NULL: it has been answered. */
static struct task *change_task(fuse_req_t req, fuse_ino_t nodeid, const char *name)
{
    if (!ops_may_change(req) || !ops_name_fits(req, name)) {
        return NULL;
    }
    return xattr_task(req, nodeid, name);
}

void ops_setxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, const char *value,
                  size_t size, int flags)
{
    Wire__XattrOp xattr = WIRE__XATTR_OP__INIT;
    struct task *task = change_task(req, nodeid, name);
    if (task == NULL) {
        return;
    }
    if (strcmp(name, VIRTUAL_IF_VERSION) == 0) {
        task_fail(task, set_if_version(task->inode, value, size));
        return;
    }
    enum err err = check_change(task);
    if (err != ERR_OK) {
        task_fail(task, err);
        return;
    }
    xattr.value = wire_bytes(value, size);
    xattr.create = (flags & XATTR_CREATE) != 0;
    xattr.replace = (flags & XATTR_REPLACE) != 0;
    change(task, &xattr);
}

void ops_removexattr(fuse_req_t req, fuse_ino_t nodeid, const char *name)
{
    Wire__XattrOp xattr = WIRE__XATTR_OP__INIT;
    struct task *task = change_task(req, nodeid, name);
    if (task == NULL) {
        return;
    }
    if (strcmp(name, VIRTUAL_IF_VERSION) == 0) {
        bool was_set = task->inode->if_version;
        task->inode->if_version = false;
        task_fail(task, was_set ? ERR_OK : ERR_XATTR_NONE);
        return;
    }
    enum err err = check_change(task);
    if (err != ERR_OK) {
        task_fail(task, err);
        return;
    }
    xattr.remove = true;
    change(task, &xattr);
}
