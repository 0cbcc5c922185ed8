/* SPDX-License-Identifier: Apache-2.0
 *
 * From the tree to the wire: executes reads and makes the answers, each with the promises that it
 * grants. Handed requests by request.c; hands on to the connection.
 *
 * Invariant: an answer is made of one state of the tree, the applied one, and is sent behind the
 * events of all entries up to that state.
 */
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "server/replica_internal.h"

#define CHILDREN_BYTES_DEFAULT (64u * KIB)
#define ENTRY_BYTES_AROUND     160u /* rough size of an Entry beside its name */

void attr_to_wire(const struct node_attr *attr, Wire__Attr *out)
{
    wire__attr__init(out);
    out->ino = attr->ino;
    out->kind = (Wire__Kind)attr->kind;
    out->mode = attr->mode;
    out->uid = attr->uid;
    out->gid = attr->gid;
    out->rdev = attr->rdev;
    out->data_bytes = attr->data_bytes;
    out->atime_ns = attr->atime_ns;
    out->mtime_ns = attr->mtime_ns;
    out->children_mtime_ns = attr->children_mtime_ns;
    out->ctime_ns = attr->ctime_ns;
    out->birth_ns = attr->birth_ns;
    out->czxid = attr->czxid;
    out->mzxid = attr->mzxid;
    out->pzxid = attr->pzxid;
    out->azxid = attr->azxid;
    out->version = attr->version;
    out->cversion = attr->cversion;
    out->aversion = attr->aversion;
    out->children = attr->children;
    out->subdirs = attr->subdirs;
    out->owner = attr->owner;
    out->parent = attr->parent;
    out->has_xattrs = attr->has_xattrs;
}

/* ---- promises ---- */

static void revoke(struct replica *replica, struct client *client, uint64_t ino)
{
    Wire__Event event = WIRE__EVENT__INIT;
    event.kind = WIRE__EVENT_KIND__EVENT_REVOKED;
    event.zxid = replica->applied_index;
    event.ino = ino;
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;
    message.body_case = WIRE__TO_CLIENT__BODY_EVENT;
    message.event = &event;
    client_send(replica, client, &message);
}

void answer_grant(struct replica *replica, struct client *client, uint64_t ino)
{
    uint64_t revoked = UINT64_MAX;
    if (watch_grant(replica->watches, &client->watcher, ino, client->watcher.last_grant,
                    &revoked) != ERR_OK) {
        replica->env.client_close(replica->env.context, client->conn, "no memory for promises");
        return;
    }
    if (revoked != UINT64_MAX) {
        revoke(replica, client, revoked);
    }
}

/* Begins the grants of one answer; 0: this client gets none. */
static uint64_t grant_begin(struct client *client)
{
    return client->promises && client->phase == CLIENT_ATTACHED ? ++client->watcher.last_grant : 0;
}

static void grant(struct replica *replica, struct client *client, const Wire__Answer *answer,
                  uint64_t ino)
{
    if (answer->grant != 0) {
        answer_grant(replica, client, ino);
    }
}

static void send_answer(struct replica *replica, struct client *client, Wire__Answer *answer)
{
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;
    message.body_case = WIRE__TO_CLIENT__BODY_ANSWER;
    message.answer = answer;
    client_send(replica, client, &message);
}

void answer_error(struct replica *replica, struct client *client, uint64_t call, enum err err)
{
    Wire__Answer answer = WIRE__ANSWER__INIT;
    answer.call = call;
    answer.err = (int32_t)err;
    answer.zxid = replica->applied_index;
    send_answer(replica, client, &answer);
}

/* ---- reads ---- */

static struct tree_address address_of(const Wire__Address *at)
{
    struct tree_address address = {0};
    if (at != NULL) {
        address.path = at->path.data;
        address.path_len = at->path.len;
        address.ino = at->ino;
        address.name = at->name.data;
        address.name_len = at->name.len;
    }
    return address;
}

/* Only a trusted connection may speak for somebody else. */
static struct tree_identity identity_of(const struct client *client, const Wire__Identity *claimed)
{
    struct tree_identity who = {
        .trusted = client->origin.trusted,
        .uid = client->origin.uid,
        .gid = client->origin.gid,
    };
    if (client->origin.trusted && claimed != NULL) {
        who.trusted = claimed->trusted;
        who.uid = claimed->uid;
        who.gid = claimed->gid;
        who.group_count = claimed->n_groups < GROUPS_MAX ? claimed->n_groups : GROUPS_MAX;
        who.groups = claimed->groups;
    }
    return who;
}

static void read_lookup(struct replica *replica, struct client *client,
                        const Wire__Request *request, Wire__Answer *answer)
{
    struct tree_address at = address_of(request->lookup->at);
    struct tree_identity who = identity_of(client, request->identity);
    struct node_attr attr;
    struct node_attr parent = {.ino = UINT64_MAX};
    struct buffer target = {0};
    enum err err = tree_lookup(replica->tree, &at, &who, &attr, &parent);
    Wire__Attr wire_attr;
    Wire__Attr wire_parent;
    if (err == ERR_OK) {
        attr_to_wire(&attr, &wire_attr);
        answer->attr = &wire_attr;
        grant(replica, client, answer, attr.ino);
        if (attr.kind == NODE_SYMLINK) {
            struct tree_address self = {.ino = attr.ino};
            struct tree_identity trusted = {.trusted = true};
            err = tree_read(replica->tree, &self, &trusted, 0, PATH_BYTES_MAX, &attr, &target);
            answer->data = wire_bytes(target.data, target.len);
        }
    }
    if ((err == ERR_OK || err == ERR_NO_NODE) && parent.ino != UINT64_MAX) {
        attr_to_wire(&parent, &wire_parent);
        answer->parent_attr = &wire_parent;
        grant(replica, client, answer, parent.ino);
    }
    answer->err = (int32_t)err;
    send_answer(replica, client, answer);
    buffer_done(&target);
}

static void read_data(struct replica *replica, struct client *client, const Wire__Request *request,
                      Wire__Answer *answer)
{
    struct tree_address at = address_of(request->data->at);
    struct tree_identity who = identity_of(client, request->identity);
    uint64_t bytes_max =
        request->data->bytes_max < FILE_BYTES_MAX ? request->data->bytes_max : FILE_BYTES_MAX;
    struct node_attr attr;
    struct buffer data = {0};
    enum err err =
        tree_read(replica->tree, &at, &who, request->data->offset, bytes_max, &attr, &data);
    Wire__Attr wire_attr;
    if (err == ERR_OK) {
        attr_to_wire(&attr, &wire_attr);
        answer->attr = &wire_attr;
        answer->data = wire_bytes(data.data, data.len);
        grant(replica, client, answer, attr.ino);
    }
    answer->err = (int32_t)err;
    send_answer(replica, client, answer);
    buffer_done(&data);
}

/* Attributes while they are gathered: they live in `bytes`, which moves as it grows. */
struct xattrs {
    struct buffer bytes;
    struct buffer lengths; /* be64 of each name, be64 of each value */
    enum err err;
};

static void xattrs_add(void *arg, const uint8_t *name, size_t name_len, const uint8_t *value,
                       size_t value_len)
{
    struct xattrs *xattrs = arg;
    if (xattrs->err == ERR_OK) {
        xattrs->err = buffer_append_be64(&xattrs->lengths, name_len);
    }
    if (xattrs->err == ERR_OK) {
        xattrs->err = buffer_append_be64(&xattrs->lengths, value_len);
    }
    if (xattrs->err == ERR_OK) {
        xattrs->err = buffer_append(&xattrs->bytes, name, name_len);
    }
    if (xattrs->err == ERR_OK) {
        xattrs->err = buffer_append(&xattrs->bytes, value, value_len);
    }
}

/* Sends the gathered attributes. */
static enum err xattrs_send(struct replica *replica, struct client *client,
                            const struct xattrs *xattrs, Wire__Answer *answer)
{
    size_t count = xattrs->lengths.len / 16;
    Wire__Xattr *all = calloc(count + 1, sizeof *all);
    Wire__Xattr **pointers = calloc(count + 1, sizeof(Wire__Xattr *));
    const uint8_t *bytes = xattrs->bytes.data;
    enum err err = ERR_MEMORY;
    if (all == NULL || pointers == NULL) {
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        size_t name_len = get_be64(xattrs->lengths.data + 16 * i);
        size_t value_len = get_be64(xattrs->lengths.data + 16 * i + 8);
        wire__xattr__init(&all[i]);
        all[i].name = wire_bytes(bytes, name_len);
        all[i].value = wire_bytes(bytes + name_len, value_len);
        bytes += name_len + value_len;
        pointers[i] = &all[i];
    }
    answer->n_xattrs = count;
    answer->xattrs = pointers;
    send_answer(replica, client, answer);
    err = ERR_OK;
out:
    free(pointers);
    free(all);
    return err;
}

static void read_xattrs(struct replica *replica, struct client *client,
                        const Wire__Request *request, Wire__Answer *answer)
{
    struct tree_address at = address_of(request->xattrs->at);
    struct tree_identity who = identity_of(client, request->identity);
    struct xattrs xattrs = {.err = ERR_OK};
    struct buffer holder = {0};
    struct node_attr attr;
    enum err err = tree_xattrs(replica->tree, &at, &who, xattrs_add, &xattrs, &attr, &holder);
    err = err == ERR_OK ? xattrs.err : err;
    Wire__Attr wire_attr;
    if (err == ERR_OK) {
        attr_to_wire(&attr, &wire_attr);
        answer->attr = &wire_attr;
        answer->holder = wire_bytes(holder.data, holder.len);
        answer->fence = tree_lock_fence(replica->tree, attr.ino);
        grant(replica, client, answer, attr.ino);
        err = xattrs_send(replica, client, &xattrs, answer);
        answer->attr = NULL;
    }
    if (err != ERR_OK) {
        answer_error(replica, client, request->call, err);
    }
    buffer_done(&holder);
    buffer_done(&xattrs.lengths);
    buffer_done(&xattrs.bytes);
}

/* A page of a listing while it is gathered. */
struct page {
    size_t bytes;
    size_t bytes_max;
    size_t count;
    size_t capacity;
    struct page_entry {
        struct node_attr attr;
        struct node_name name;
        uint64_t cookie;
    } * entries;
    enum err err;
};

static bool page_add(void *arg, const uint8_t *name, size_t name_len, uint64_t cookie, bool same,
                     const struct node_attr *attr)
{
    struct page *page = arg;
    if (page->bytes >= page->bytes_max && !same) {
        return false;
    }
    if (page->count == page->capacity) {
        size_t capacity = page->capacity == 0 ? 64 : page->capacity * 2;
        struct page_entry *entries = realloc(page->entries, capacity * sizeof *entries);
        if (entries == NULL) {
            page->err = ERR_MEMORY;
            return false;
        }
        page->entries = entries;
        page->capacity = capacity;
    }
    struct page_entry *entry = &page->entries[page->count++];
    CHECK_OP(name_len, <=, NAME_BYTES_MAX);
    entry->attr = *attr;
    entry->name.len = (uint8_t)name_len;
    memcpy(entry->name.bytes, name, name_len);
    entry->cookie = cookie;
    page->bytes += name_len + ENTRY_BYTES_AROUND;
    return true;
}

/* Sends the gathered page. */
static enum err page_send(struct replica *replica, struct client *client, const struct page *page,
                          Wire__Answer *answer)
{
    if (page->count == 0) {
        send_answer(replica, client, answer);
        return ERR_OK;
    }
    Wire__Entry *entries = calloc(page->count, sizeof *entries);
    Wire__Attr *attrs = calloc(page->count, sizeof *attrs);
    Wire__Entry **pointers = calloc(page->count, sizeof(Wire__Entry *));
    enum err err = ERR_MEMORY;
    if (entries == NULL || attrs == NULL || pointers == NULL) {
        goto out;
    }
    for (size_t i = 0; i < page->count; i++) {
        const struct page_entry *from = &page->entries[i];
        attr_to_wire(&from->attr, &attrs[i]);
        wire__entry__init(&entries[i]);
        entries[i].name = wire_bytes(from->name.bytes, from->name.len);
        entries[i].cookie = from->cookie;
        entries[i].attr = &attrs[i];
        pointers[i] = &entries[i];
        grant(replica, client, answer, from->attr.ino);
    }
    answer->n_entries = page->count;
    answer->entries = pointers;
    send_answer(replica, client, answer);
    err = ERR_OK;
out:
    free(pointers);
    free(attrs);
    free(entries);
    return err;
}

static void read_children(struct replica *replica, struct client *client,
                          const Wire__Request *request, Wire__Answer *answer)
{
    struct tree_address at = address_of(request->children->at);
    struct tree_identity who = identity_of(client, request->identity);
    uint32_t wanted = request->children->bytes_max;
    struct page page = {.bytes_max = wanted == 0                  ? CHILDREN_BYTES_DEFAULT
                                     : wanted < READDIR_BYTES_MAX ? wanted
                                                                  : READDIR_BYTES_MAX};
    struct node_attr attr;
    bool end = false;
    enum err err = tree_children(replica->tree, &at, &who, request->children->cookie, page_add,
                                 &page, &attr, &end);
    err = err == ERR_OK ? page.err : err;
    Wire__Attr wire_attr;
    if (err == ERR_OK) {
        attr_to_wire(&attr, &wire_attr);
        answer->attr = &wire_attr;
        answer->end = end;
        grant(replica, client, answer, attr.ino);
        err = page_send(replica, client, &page, answer);
        answer->attr = NULL;
    }
    if (err != ERR_OK) {
        answer_error(replica, client, request->call, err);
    }
    free(page.entries);
}

static void read_lock(struct replica *replica, struct client *client, const Wire__LockRead *read,
                      Wire__Answer *answer)
{
    enum lock_space space = (enum lock_space)read->space;
    struct tree_lock wanted = {
        .type = (enum lock_type)read->type,
        .session = client->session,
        .owner = read->owner,
        .start = read->start,
        .end = read->end,
    };
    struct tree_lock found;
    Wire__Lock lock = WIRE__LOCK__INIT;
    if (read->type != WIRE__LOCK_TYPE__LOCK_TYPE_NONE &&
        tree_lock_conflict(replica->tree, read->ino, space, &wanted, &found)) {
        lock.type = (Wire__LockType)found.type;
        lock.start = found.start;
        lock.end = found.end;
        lock.session = found.session;
        lock.pid = found.pid;
        answer->lock = &lock;
    }
    answer->queued =
        read->ticket != 0 && tree_lock_waits(replica->tree, read->ino, space, read->ticket);
    answer->fence = tree_lock_fence(replica->tree, read->ino);
    send_answer(replica, client, answer);
}

static void read_statfs(struct replica *replica, struct client *client, Wire__Answer *answer)
{
    answer->total_nodes = tree_node_count(replica->tree);
    answer->total_bytes = tree_data_bytes(replica->tree);
    replica->env.disk_space(replica->env.context, &answer->disk_bytes_total,
                            &answer->disk_bytes_free);
    send_answer(replica, client, answer);
}

void answer_read(struct replica *replica, struct client *client, const Wire__Request *request)
{
    Wire__Answer answer = WIRE__ANSWER__INIT;
    answer.call = request->call;
    answer.zxid = replica->applied_index;
    switch (request->body_case) {
    case WIRE__REQUEST__BODY_LOOKUP:
        answer.grant = grant_begin(client);
        read_lookup(replica, client, request, &answer);
        break;
    case WIRE__REQUEST__BODY_DATA:
        answer.grant = grant_begin(client);
        read_data(replica, client, request, &answer);
        break;
    case WIRE__REQUEST__BODY_CHILDREN:
        answer.grant = grant_begin(client);
        read_children(replica, client, request, &answer);
        break;
    case WIRE__REQUEST__BODY_XATTRS:
        answer.grant = grant_begin(client);
        read_xattrs(replica, client, request, &answer);
        break;
    case WIRE__REQUEST__BODY_LOCK:
        read_lock(replica, client, request->lock, &answer);
        break;
    case WIRE__REQUEST__BODY_STATFS:
        read_statfs(replica, client, &answer);
        break;
    case WIRE__REQUEST__BODY_SYNC:
        send_answer(replica, client, &answer);
        break;
    case WIRE__REQUEST__BODY_STATUS:
        status_answer(replica, client, request->call);
        break;
    case WIRE__REQUEST__BODY_MEMBERS:
        status_members_answer(replica, client, request->call);
        break;
    case WIRE__REQUEST__BODY_MEMBERS_CHANGE:
        members_request(replica, client, request);
        break;
    case WIRE__REQUEST__BODY_OP:
    case WIRE__REQUEST__BODY__NOT_SET:
    case _WIRE__REQUEST__BODY__CASE_IS_INT_SIZE:
        CHECK(request->body_case != request->body_case); /* request.c lets none through. */
    }
}

/* ---- writes ---- */

/* The results of a transaction as messages, in memory of their own. */
struct parts {
    Wire__PartResult **pointers;
    struct part_row {
        Wire__PartResult part;
        Wire__Attr attr;
    } rows[];
};

/* NULL: no memory. */
static struct parts *parts_to_wire(const struct tree_result *result)
{
    size_t count = result->part_count;
    size_t rows_bytes = count * sizeof(struct part_row);
    struct parts *parts =
        calloc(1, sizeof *parts + rows_bytes + count * sizeof(Wire__PartResult *));
    if (parts == NULL) {
        return NULL;
    }
    parts->pointers = (Wire__PartResult **)(void *)&parts->rows[count];
    for (size_t i = 0; i < count; i++) {
        const struct tree_part *from = &result->parts[i];
        struct part_row *row = &parts->rows[i];
        parts->pointers[i] = &row->part;
        wire__part_result__init(&row->part);
        row->part.err = (int32_t)from->err;
        row->part.name = wire_bytes(from->name.bytes, from->name.len);
        if (from->has_attr) {
            attr_to_wire(&from->attr, &row->attr);
            row->part.attr = &row->attr;
        }
    }
    return parts;
}

void answer_write(struct replica *replica, struct client *client, uint64_t call,
                  const struct tree_result *result, bool tell_me)
{
    struct parts *parts = NULL;
    Wire__Answer answer = WIRE__ANSWER__INIT;
    Wire__Attr attr;
    Wire__Attr parent_attr;
    Wire__Attr to_parent_attr;
    answer.call = call;
    answer.err = (int32_t)result->err;
    answer.zxid = result->zxid;
    /* Who wants to be told by events does not take its knowledge from the answer. */
    answer.grant = tell_me ? 0 : grant_begin(client);
    if (result->has_attr) {
        attr_to_wire(&result->attr, &attr);
        answer.attr = &attr;
        grant(replica, client, &answer, result->attr.ino);
    }
    if (result->has_parent_attr) {
        attr_to_wire(&result->parent_attr, &parent_attr);
        answer.parent_attr = &parent_attr;
        grant(replica, client, &answer, result->parent_attr.ino);
    }
    if (result->has_to_parent_attr) {
        attr_to_wire(&result->to_parent_attr, &to_parent_attr);
        answer.to_parent_attr = &to_parent_attr;
        grant(replica, client, &answer, result->to_parent_attr.ino);
    }
    answer.name = wire_bytes(result->name.bytes, result->name.len);
    answer.queued = result->queued;
    if (result->part_count != 0) {
        parts = parts_to_wire(result);
        if (parts == NULL) {
            /* It has been applied: the client asks again on another connection. */
            replica->env.client_close(replica->env.context, client->conn, "no memory");
            return;
        }
        answer.parts = parts->pointers;
        answer.n_parts = result->part_count;
    }
    send_answer(replica, client, &answer);
    free(parts);
}
