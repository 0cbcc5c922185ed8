/* SPDX-License-Identifier: Apache-2.0
 *
 * See list.h. Used by ls.c and rm.c.
 */
#include "fs/ctl/list.h"

#include <stdlib.h>

#include "common/limits.h"

static enum err keep_page(struct list *list, Wire__Answer *page)
{
    Wire__Answer **pages = realloc(list->pages, (list->page_count + 1) * sizeof *pages);

    if (pages == NULL) {
        wire_free(&page->base);
        return ERR_MEMORY;
    }
    list->pages = pages;
    list->pages[list->page_count++] = page;
    return ERR_OK;
}

static enum err make_room(struct list *list, size_t count)
{
    if (list->count + count > list->capacity) {
        size_t capacity = 2 * list->capacity + count;
        struct list_entry *entries = realloc(list->entries, capacity * sizeof *entries);
        if (entries == NULL) {
            return ERR_MEMORY;
        }
        list->entries = entries;
        list->capacity = capacity;
    }
    return ERR_OK;
}

static enum err add_entries(struct list *list, const Wire__Answer *page)
{
    enum err err = make_room(list, page->n_entries);

    if (err != ERR_OK) {
        return err;
    }
    for (size_t i = 0; i < page->n_entries; i++) {
        const Wire__Entry *entry = page->entries[i];
        if (entry->attr == NULL) {
            return ERR_MALFORMED;
        }
        list->entries[list->count++] = (struct list_entry){
            .name = entry->name.data, .name_len = entry->name.len, .attr = entry->attr};
    }
    return ERR_OK;
}

enum err list_read(struct ctl *ctl, const struct buffer *path, struct list *list)
{
    uint64_t cookie = 0;

    for (;;) {
        Wire__Address at = WIRE__ADDRESS__INIT;
        Wire__ChildrenRead read = WIRE__CHILDREN_READ__INIT;
        Wire__Request request = WIRE__REQUEST__INIT;
        Wire__Answer *page = NULL;

        at.path = wire_bytes(path->data, path->len);
        read.at = &at;
        read.cookie = cookie;
        read.bytes_max = READDIR_BYTES_MAX;
        request.body_case = WIRE__REQUEST__BODY_CHILDREN;
        request.children = &read;
        enum err err = ctl_ask(ctl, &request, &page);
        err = err == ERR_OK ? keep_page(list, page) : err;
        err = err == ERR_OK ? add_entries(list, page) : err;
        if (err != ERR_OK || page->end) {
            return err;
        }
        if (page->n_entries == 0 || page->entries[page->n_entries - 1]->cookie <= cookie) {
            return ERR_MALFORMED; /* It would never end. */
        }
        cookie = page->entries[page->n_entries - 1]->cookie;
    }
}

enum err list_self(struct ctl *ctl, const struct buffer *path, struct list *list)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__LookupRead lookup = WIRE__LOOKUP_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__Answer *answer = NULL;

    at.path = wire_bytes(path->data, path->len);
    lookup.at = &at;
    request.body_case = WIRE__REQUEST__BODY_LOOKUP;
    request.lookup = &lookup;
    enum err err = ctl_ask(ctl, &request, &answer);
    err = err == ERR_OK ? keep_page(list, answer) : err;
    err = err == ERR_OK && answer->attr == NULL ? ERR_MALFORMED : err;
    err = err == ERR_OK ? make_room(list, 1) : err;
    if (err == ERR_OK) {
        list->entries[list->count++] =
            (struct list_entry){.name = path->data, .name_len = path->len, .attr = answer->attr};
    }
    return err;
}

void list_done(struct list *list)
{
    for (size_t i = 0; i < list->page_count; i++) {
        wire_free(&list->pages[i]->base);
    }
    free(list->pages);
    free(list->entries);
    *list = (struct list){0};
}
