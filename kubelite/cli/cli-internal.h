/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CLI_CLI_INTERNAL_H
#define KUBELITE_CLI_CLI_INTERNAL_H

#include "base/buf.h"
#include "codec/value.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define CLI_STATE_DIR "/run/kubelite"
/* A daemon that is busy for longer counts as silent. */
#define CLI_QUERY_TIMEOUT_S 5

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

typedef enum CliFormat { CLI_TABLE, CLI_JSON, CLI_YAML } CliFormat;

typedef struct CliCommand CliCommand;
struct CliCommand {
        const char *name;
        const char *arguments; /* "POD [CONTAINER]" */
        const char *summary;
        const char *details; /* or NULL */
        int (*run)(const CliCommand *command, int argc, char **argv);
};

/* NULL-named last. */
extern const CliCommand cli_commands[];

int cli_run_pods(const CliCommand *command, int argc, char **argv);
int cli_run_ps(const CliCommand *command, int argc, char **argv);
int cli_run_images(const CliCommand *command, int argc, char **argv);
int cli_run_pull(const CliCommand *command, int argc, char **argv);
int cli_run_import(const CliCommand *command, int argc, char **argv);
int cli_run_rmi(const CliCommand *command, int argc, char **argv);
int cli_run_logs(const CliCommand *command, int argc, char **argv);
int cli_run_exec(const CliCommand *command, int argc, char **argv);
int cli_run_attach(const CliCommand *command, int argc, char **argv);
int cli_run_port_forward(const CliCommand *command, int argc, char **argv);
int cli_run_inspect(const CliCommand *command, int argc, char **argv);
int cli_run_stats(const CliCommand *command, int argc, char **argv);
int cli_run_version(const CliCommand *command, int argc, char **argv);
int cli_run_check(const CliCommand *command, int argc, char **argv);

/* --- args.c --- */

/* One of flag and string is set. */
typedef struct CliOption {
        char short_name; /* or 0 */
        const char *name, *arg_name, *help;
        bool *flag;
        const char **string;
} CliOption;

typedef struct CliCommon {
        const char *state_dir;
        const char *output;
        CliFormat format;
} CliCommon;

#define CLI_OPTIONS_MAX 16

/* options: ended by a NULL name. Puts the arguments at *ret_args (within argv, NULL-terminated).
 * Returns -1 to go on, or the exit status: after --help, or after a complaint. */
int cli_parse(const CliCommand *command, const CliOption *options, int min_args, int max_args,
              int argc, char **argv, CliCommon *common, char ***ret_args);

/* The name that is most like text, or NULL when none is. */
const char *cli_nearest(const char *text, const char *const *names, size_t n);

/* --- output.c --- */

/* "kubelite: …" on standard error; CLI_FAILED. */
int cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Control characters and escape sequences of foreign text must not reach a terminal. */
void cli_add_clean(Buf *to, const char *text);

/* Collects rows, then prints them with aligned columns. */
typedef struct CliTable {
        size_t n_columns, n_rows;
        char **cells; /* row by row, the header first */
        bool failed;
} CliTable;

void cli_table_init(CliTable *table, const char *const *header, size_t n);
void cli_table_add(CliTable *table, const char *text);
void cli_table_addf(CliTable *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_table_print(CliTable *table, FILE *to);

/* "3 minutes ago" as "3m"; "-" when there is no time. */
void cli_format_age(const char *rfc3339, int64_t now_us, char *buf, size_t size);
void cli_format_bytes(uint64_t bytes, char *buf, size_t size);

/* The whole value as JSON (one line) or YAML. */
int cli_print_value(const Value *value, CliFormat format);
void cli_yaml_write(const Value *value, Buf *to);

/* --- client.c --- */

typedef void (*CliProgressFunc)(const Value *progress, void *data);

typedef struct CliRequest {
        const char *state_dir;
        const char *json;       /* one line, without its end */
        int fd;                 /* to pass, or -1 */
        unsigned int timeout_s; /* for each line of the answer; 0: none */
        CliProgressFunc progress;
        void *data;
} CliRequest;

/* Connects, asks, waits for the answer. The error's reason is the server's. */
int cli_request(const CliRequest *request, Value **ret, KlError **err);

/* Asks (json may be NULL: out of memory), and complains itself: CLI_OK or the exit status. */
int cli_fetch(const CliCommon *common, const char *json, Value **ret);

/* The same in steps, for what goes on while it waits. */
#define CLI_FDS_MAX 3
int cli_connect(const char *state_dir, int *ret, KlError **err);
int cli_send(int socket, const char *json, const int *fds, size_t n_fds);
/* Of the answer, without its end: 1 when it was the last one, 0 for others. */
int cli_take_line(const CliRequest *request, const char *line, size_t len, Value **ret,
                  KlError **err);

/* --- target.c --- */

/* A running container, named as far as the user did: of several the first one of the pod. */
typedef struct CliTarget {
        char *namespace, *pod, *container;
} CliTarget;

int cli_find_target(const char *state_dir, const char *namespace, const char *pod,
                    const char *container, CliTarget *ret, KlError **err);
void cli_target_deinit(CliTarget *target);

/* --- streams.c --- */

/* Bytes between this command's standard streams and the pipes to a process. */
typedef struct CliStreams {
        int in, out, err; /* our ends, or -1; closed as they end */
        int control;      /* the daemon's connection; -1: only the streams count */
        bool tty;         /* the terminal here is the process's */
        bool ends_by_eof; /* and not by the daemon's answer */
} CliStreams;

/* Until the daemon's answer (returned) or the streams' end. 1: a signal ended it (*ret_signal). */
int cli_run_streams(CliStreams *streams, Value **ret, int *ret_signal, KlError **err);

/* {"command":command, key: value…} with NULL values left out; keys and values in pairs, NULL last.
 */
char *cli_make_request(const char *command, ...) __attribute__((sentinel));

/* --- log-file.c --- */

typedef struct CliLogOptions {
        const char *path;
        bool follow, timestamps;
        int64_t tail;     /* lines, or -1 */
        int64_t since_us; /* or INT64_MIN */
        /* While following, when nothing came for a second; false ends it. */
        bool (*goes_on)(void *data);
        void *data;
} CliLogOptions;

int cli_log_print(const CliLogOptions *options, FILE *out, FILE *errors, KlError **err);

/* --- check.c --- */

typedef enum CheckState { CHECK_OK, CHECK_WARNING, CHECK_MISSING } CheckState;

#define CHECKS_MAX 64

typedef struct CheckItem {
        const char *name; /* static */
        CheckState state;
        char *detail;
        const char *advice; /* static, or NULL */
} CheckItem;

typedef struct Checks {
        CheckItem items[CHECKS_MAX];
        size_t n;
} Checks;

typedef struct CheckPaths {
        const char *root_dir, *image_dir, *state_dir, *cni_conf_dir;
        char **cni_bin_dirs;
} CheckPaths;

void check_add(Checks *checks, const char *name, CheckState state, const char *advice,
               const char *format, ...) __attribute__((format(printf, 5, 6)));
void check_kernel(Checks *checks);
void check_cgroups(Checks *checks);
void check_node(Checks *checks, const CheckPaths *paths);

#endif
