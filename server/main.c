/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumd: the command line. Hands a checked configuration on to daemon.c or
 * recover.c.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/version.h"
#include "server/config.h"
#include "server/daemon.h"
#include "server/recover.h"

#define EXIT_USAGE 2

static const char usage[] =
    "usage: quorumd [--config FILE] [--join | --check | --recover-alone [--yes]]\n"
    "Runs one replica of a quorumfs ensemble. Without --config: a single replica on\n"
    "127.0.0.1:2181 with its data in ./quorum-data.\n"
    "\n"
    "  -c, --config FILE  configuration, see quorumd(8)\n"
    "  -j, --join         with an empty data folder: wait to be added to the ensemble of\n"
    "                     the other members (quorumctl members add)\n"
    "  -n, --check        test the configuration and leave\n"
    "      --recover-alone\n"
    "                     when a majority is lost for good: make of this replica, which\n"
    "                     is not running, a new ensemble of one; tells what that means\n"
    "      --yes          with --recover-alone: do it\n"
    "  -V, --version      print the version\n"
    "  -h, --help         print this\n"
    "\n"
    "exit status: 0 ended by SIGTERM or SIGINT, 1 failed, 2 wrong usage or configuration\n";

struct arguments {
    const char *config;
    bool check;
    bool join;
    bool recover_alone;
    bool yes;
};

static bool fit_together(const struct arguments *arguments)
{
    int tasks =
        (arguments->join ? 1 : 0) + (arguments->check ? 1 : 0) + (arguments->recover_alone ? 1 : 0);
    const char *wrong = NULL;

    if (tasks > 1) {
        wrong = "only one of --join, --check and --recover-alone";
    } else if (arguments->yes && !arguments->recover_alone) {
        wrong = "--yes goes with --recover-alone";
    }
    if (wrong != NULL) {
        (void)fprintf(stderr, "quorumd: %s\ntry: quorumd --help\n", wrong);
    }
    return wrong == NULL;
}

/* True: go on; false: *out_status is the exit status. */
static bool parse_arguments(int argc, char **argv, struct arguments *out, int *out_status)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"check", no_argument, NULL, 'n'},
        {"join", no_argument, NULL, 'j'},         {"recover-alone", no_argument, NULL, 'R'},
        {"yes", no_argument, NULL, 'y'},          {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    int letter = 0;

    *out_status = EXIT_USAGE;
    while ((letter = getopt_long(argc, argv, "c:jnVh", options, NULL)) != -1) {
        switch (letter) {
        case 'c':
            out->config = optarg;
            break;
        case 'n':
            out->check = true;
            break;
        case 'j':
            out->join = true;
            break;
        case 'R':
            out->recover_alone = true;
            break;
        case 'y':
            out->yes = true;
            break;
        case 'V':
            (void)printf("quorumd %s\n", QUORUMFS_VERSION);
            *out_status = EXIT_SUCCESS;
            return false;
        case 'h':
            (void)fputs(usage, stdout);
            *out_status = EXIT_SUCCESS;
            return false;
        default:
            (void)fputs("try: quorumd --help\n", stderr);
            return false;
        }
    }
    if (optind != argc) {
        (void)fprintf(stderr, "quorumd: unexpected argument: %s\ntry: quorumd --help\n",
                      argv[optind]);
        return false;
    }
    return fit_together(out);
}

static int complain(struct buffer *error)
{
    (void)fprintf(stderr, "quorumd: %s\n",
                  error->data != NULL ? (const char *)error->data : "out of memory");
    buffer_done(error);
    return EXIT_USAGE;
}

static int recover(const struct config *config, bool yes)
{
    enum recover_result result = RECOVER_NEEDED;
    struct buffer text = {0};
    struct buffer error = {0};
    enum err err = recover_alone(config, yes, &result, &text, &error);

    if (text.data != NULL) {
        (void)fputs((const char *)text.data, stdout);
    }
    buffer_done(&text);
    if (err != ERR_OK) {
        int status = complain(&error);
        return err == ERR_CONFIG ? status : EXIT_FAILURE;
    }
    buffer_done(&error);
    if (result == RECOVER_NEEDED) {
        (void)fputs("quorumd: nothing was changed; to do it: --recover-alone --yes\n", stderr);
        return EXIT_USAGE;
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    static struct config config; /* too large for the stack of a small machine */
    struct arguments arguments = {0};
    struct buffer error = {0};
    int status = 0;

    if (!parse_arguments(argc, argv, &arguments, &status)) {
        return status;
    }
    config_default(&config);
    if (arguments.config != NULL && config_read(arguments.config, &config, &error) != ERR_OK) {
        return complain(&error);
    }
    if (arguments.check) {
        (void)puts("configuration is good");
        return EXIT_SUCCESS;
    }
    config.join = arguments.join;
    logging_set_level(config.log_level);
    return arguments.recover_alone ? recover(&config, arguments.yes) : daemon_run(&config);
}
