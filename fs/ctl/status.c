/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumctl status: what the replica that answers says of itself.
 */
#include <stdio.h>

#include "fs/ctl/ctl.h"

struct number {
    const char *key;
    uint64_t value;
};

static void print_text(const Wire__Status *status)
{
    const struct number numbers[] = {
        {"term", status->term},
        {"commit index", status->commit_index},
        {"applied index", status->applied_index},
        {"durable index", status->durable_index},
        {"sessions", status->sessions},
        {"connections", status->connections},
        {"nodes", status->nodes},
        {"data bytes", status->data_bytes},
        {"promises", status->promises},
    };

    (void)printf("%-14s %llu\n", "replica", (unsigned long long)status->replica);
    (void)printf("%-14s ", "role");
    ctl_print_name(status->role.data, status->role.len);
    if (status->leader != 0) {
        (void)printf("\n%-14s %llu\n", "leader", (unsigned long long)status->leader);
    } else {
        (void)printf("\n%-14s none known\n", "leader");
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        (void)printf("%-14s %llu\n", numbers[i].key, (unsigned long long)numbers[i].value);
    }
    (void)printf("%-14s %llu.%03u s\n", "uptime", (unsigned long long)(status->uptime_ms / 1000),
                 (unsigned)(status->uptime_ms % 1000));
    (void)printf("%-14s %u (this replica knows %u)\n", "feature level", status->feature_level,
                 status->feature_level_known);
    (void)printf("%-14s ", "ensemble");
    for (size_t i = 0; i < status->ensemble.len; i++) {
        (void)printf("%02x", status->ensemble.data[i]);
    }
    (void)putchar('\n');
}

static void print_json(const Wire__Status *status)
{
    json_t *object = json_object();
    char ensemble[2 * 16 + 1] = "";
    const struct number numbers[] = {
        {"replica", status->replica},
        {"leader", status->leader},
        {"term", status->term},
        {"commit_index", status->commit_index},
        {"applied_index", status->applied_index},
        {"durable_index", status->durable_index},
        {"sessions", status->sessions},
        {"connections", status->connections},
        {"nodes", status->nodes},
        {"data_bytes", status->data_bytes},
        {"promises", status->promises},
        {"uptime_ms", status->uptime_ms},
        {"feature_level", status->feature_level},
        {"feature_level_known", status->feature_level_known},
    };

    ctl_json_bytes(object, "role", status->role.data, status->role.len);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        ctl_json_number(object, numbers[i].key, numbers[i].value);
    }
    for (size_t i = 0; i < status->ensemble.len && i < 16; i++) {
        (void)snprintf(&ensemble[2 * i], 3, "%02x", status->ensemble.data[i]);
    }
    (void)json_object_set_new(object, "ensemble", json_string(ensemble));
    ctl_json_print(object);
}

static enum ctl_exit run(struct ctl *ctl, int argc, char **argv)
{
    Wire__StatusRead read = WIRE__STATUS_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__Answer *answer = NULL;
    (void)argc;
    (void)argv;

    if (!ctl_connect(ctl, /* session */ false)) {
        return CTL_FAILED;
    }
    request.body_case = WIRE__REQUEST__BODY_STATUS;
    request.status = &read;
    enum err err = ctl_ask(ctl, &request, &answer);
    if (err == ERR_OK && answer->status == NULL) {
        err = ERR_MALFORMED;
    }
    if (err == ERR_OK && ctl->json) {
        print_json(answer->status);
    } else if (err == ERR_OK) {
        print_text(answer->status);
    }
    if (answer != NULL) {
        wire_free(&answer->base);
    }
    return err == ERR_OK ? CTL_OK : ctl_fail(ctl, NULL, err);
}

const struct command command_status = {
    .name = "status",
    .arguments = "",
    .summary = "show the state of the replica that answers",
    .help = "Show the state of the replica that answers: its role, who leads, how far its log\n"
            "and its tree are.\n",
    .run = run,
};
