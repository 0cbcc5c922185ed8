/* SPDX-License-Identifier: Apache-2.0
 *
 * The stand-ins. Used by tests/unit/test_mount_*.c; linked in front of the libraries, so that the
 * functions here take the place of theirs.
 */
#include "tests/lib/mount_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "fs/mount/content.h"
#include "fs/mount/device.h"
#include "fs/mount/inval.h"
#include "fs/mount/order.h"
#include "fs/mount/publish.h"

static struct mount_fixture *current;

void mount_fixture_open(struct mount_fixture *fixture)
{
    memset(fixture, 0, sizeof *fixture);
    current = fixture;
    struct mount *mount = &fixture->mount;
    fixture->options.timeo_ms = 10000;
    fixture->options.cache_bytes = CONTENT_CACHE_BYTES_MAX;
    fixture->status = (struct client_status){.leader = 1, .replica = 1};
    assert_int_equal(uv_loop_init(&fixture->loop), 0);
    mount->options = &fixture->options;
    mount->loop = &fixture->loop;
    mount->root_ino = 1;
    mount->names_promised = true;
    /* Opaque to all but the functions below, which look at `current`. */
    mount->client = (struct client *)(void *)fixture;
    mount->device = (struct device *)(void *)fixture;
    mount->inval = (struct inval *)(void *)fixture;
    assert_int_equal(order_new(mount, &mount->order), ERR_OK);
    publish_init(mount);
}

void mount_fixture_close(struct mount_fixture *fixture)
{
    struct mount *mount = &fixture->mount;
    publish_done(mount);
    inode_free_all(mount);
    order_free(mount->order);
    uv_close((uv_handle_t *)&mount->append_timer, NULL);
    assert_int_equal(uv_run(&fixture->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
    for (size_t i = 0; i < fixture->call_count; i++) {
        buffer_done(&fixture->call[i].range);
        buffer_done(&fixture->call[i].append);
    }
    assert_int_equal(mount->contents_bytes, 0);
    assert_int_equal(mount->patch_bytes, 0);
    current = NULL;
}

Wire__Attr fixture_attr(uint64_t ino, Wire__Kind kind, uint64_t zxid)
{
    Wire__Attr attr = WIRE__ATTR__INIT;
    attr.ino = ino;
    attr.kind = kind;
    attr.parent = ino == 1 ? 0 : 1;
    attr.mode = 0644;
    attr.azxid = zxid;
    attr.mzxid = zxid;
    attr.pzxid = zxid;
    return attr;
}

struct inode *fixture_held(struct mount_fixture *fixture, uint64_t ino, Wire__Kind kind,
                           uint64_t zxid)
{
    const Wire__Attr attr = fixture_attr(ino, kind, zxid);
    struct inode *inode = inode_take(&fixture->mount, &attr, 1 /* grant */, true /* make */);
    assert_non_null(inode);
    inode_hold(inode, inode_face(&attr));
    return inode;
}

void fixture_answer(struct mount_fixture *fixture, size_t index, enum err err,
                    const Wire__Answer *answer)
{
    assert_true(index < fixture->call_count);
    const struct call_options *options = &fixture->call[index].options;
    options->done(options->arg, err, answer);
}

size_t fixture_count(const struct mount_fixture *fixture, uint64_t nodeid, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; i < fixture->pushed_count; i++) {
        const struct fixture_pushed *pushed = &fixture->pushed[i];
        count += pushed->nodeid == nodeid && strcmp(pushed->name, name != NULL ? name : "") == 0;
    }
    return count;
}

/* ---- instead of fs/client ---- */

static void note_op(struct fixture_call *call, const Wire__Op *op)
{
    call->op = op->body_case;
    if (op->body_case == WIRE__OP__BODY_STAGE) {
        call->stage = op->stage->stage;
        call->parts = op->stage->part;
        call->ranges = op->stage->n_ranges;
    }
    if (op->body_case != WIRE__OP__BODY_WRITE) {
        return;
    }
    const Wire__WriteOp *write = op->write;
    call->ino = write->at->ino;
    call->truncate = write->truncate;
    call->stage = write->stage;
    call->parts = write->stage_parts;
    call->if_version = write->if_version;
    call->ranges = write->n_ranges;
    if (write->n_ranges > 0) {
        const ProtobufCBinaryData *data = &write->ranges[0]->data;
        assert_int_equal(buffer_append(&call->range, data->data, data->len), ERR_OK);
    }
    assert_int_equal(buffer_append(&call->append, write->append.data, write->append.len), ERR_OK);
}

struct call *client_call(struct client *client, Wire__Request *request,
                         const struct call_options *options, enum err *out_err)
{
    (void)client;
    *out_err = current->call_err;
    if (current->call_err != ERR_OK) {
        return NULL;
    }
    assert_true(current->call_count < FIXTURE_CALLS_MAX);
    struct fixture_call *call = &current->call[current->call_count++];
    call->options = *options;
    call->body = request->body_case;
    if (request->body_case == WIRE__REQUEST__BODY_OP) {
        note_op(call, request->op);
    } else if (request->body_case == WIRE__REQUEST__BODY_DATA) {
        call->ino = request->data->at->ino;
        call->offset = request->data->offset;
    }
    return (struct call *)(void *)call;
}

void client_cancel(struct client *client, struct call *call)
{
    (void)client;
    (void)call;
}

void client_forget(struct client *client, uint64_t ino, uint64_t grant)
{
    (void)client;
    assert_true(current->forgotten_count < FIXTURE_PUSHED_MAX);
    current->forgotten[current->forgotten_count++] =
        (struct client_promise){.ino = ino, .zxid = grant};
}

enum err client_reclaim(struct client *client, const struct client_promise *promises, size_t count,
                        void (*done)(void *arg, enum err err), void *arg)
{
    (void)client;
    assert_true(count <= FIXTURE_CALLS_MAX);
    current->reclaims++;
    current->reclaimed_count = count;
    memcpy(current->reclaimed, promises, count * sizeof *promises);
    current->reclaim_done = done;
    current->reclaim_arg = arg;
    return current->reclaim_err;
}

void client_status(const struct client *client, struct client_status *out)
{
    (void)client;
    *out = current->status;
}

/* ---- instead of inval.c and device.c ---- */

static enum err push(uint64_t nodeid, bool attr_only, const void *name, size_t len)
{
    assert_true(current->pushed_count < FIXTURE_PUSHED_MAX);
    struct fixture_pushed *pushed = &current->pushed[current->pushed_count++];
    *pushed = (struct fixture_pushed){.nodeid = nodeid, .attr_only = attr_only};
    memcpy(pushed->name, name, len);
    return ERR_OK;
}

enum err inval_inode(struct inval *inval, uint64_t nodeid, bool attr_only)
{
    (void)inval;
    current->inodes_given++;
    return push(nodeid, attr_only, "", 0);
}

enum err inval_name(struct inval *inval, uint64_t parent_nodeid, const void *name, size_t len)
{
    (void)inval;
    if (current->names_are_full) {
        return ERR_LIMIT;
    }
    current->names_given++;
    return push(parent_nodeid, false, name, len);
}

void inval_inode_forget(struct inval *inval, uint64_t nodeid)
{
    (void)inval;
    (void)nodeid;
}

uint64_t inval_inodes_given(const struct inval *inval)
{
    (void)inval;
    return current->inodes_given;
}

uint64_t inval_inodes_done(struct inval *inval)
{
    (void)inval;
    return current->inodes_done;
}

uint64_t inval_names_given(const struct inval *inval)
{
    (void)inval;
    return current->names_given;
}

bool inval_names_wait(struct inval *inval)
{
    (void)inval;
    return current->names_done < current->names_given;
}

void inval_names_drop(struct inval *inval)
{
    (void)inval;
    current->names_dropped++;
    current->names_done = current->names_given;
}

void device_epoch(struct device *device)
{
    (void)device;
    current->epochs++;
}

bool device_kills_privilege(const struct device *device)
{
    (void)device;
    return false;
}
