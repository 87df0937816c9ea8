/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The API client as a program that a test can lead: commands on standard input, what happened on
 * standard output, a line each.
 *
 *     watch ID PATH [SELECTOR]                    ID SYNCED | ID SET ns/name version | ID DELETED
 *     patient ID MS PATH                          likewise, errors only after that time
 *     unwatch ID                                  ns/name | ID ERROR status message
 *     call ID METHOD PATH [TYPE BODY]             ID DONE status reason message
 *     critical ID METHOD PATH [TYPE BODY]         likewise
 *     event NAMESPACE NAME UID REASON MESSAGE
 *     status                                      STATUS connections reachable private-KiB
 *     quit
 */

#include "api/events.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/map.h"
#include "base/str.h"

#include <getopt.h>
#include <signal.h>

#define PEM_MAX (1U << 20)

typedef struct Probe {
        Loop *loop;
        ApiClient *client;
        EventRecorder *recorder;
        Map *watches; /* Named */
        Watch *input;
        Buf line;
} Probe;

typedef struct Named {
        char *id;
        ApiWatch *watch;
} Named;

static void named_free(void *data)
{
        Named *named = data;

        api_watch_free(named->watch);
        free(named->id);
        free(named);
}

static Named *named_new(const char *id)
{
        Named *named = calloc(1, sizeof(*named));

        if (!named)
                abort();
        named->id = strdup(id);
        return named;
}

static const char *dash(const char *text)
{
        return str_empty(text) ? "-" : text;
}

static void on_event(ApiWatch *watch, const ApiEvent *event, void *data)
{
        const Named *named = data;
        const char *version =
                value_get_str(value_get(event->object, "metadata"), "resourceVersion");

        if (event->type == API_EVENT_SYNCED)
                printf("%s SYNCED\n", named->id);
        else if (event->type == API_EVENT_ERROR)
                printf("%s ERROR %d %s\n", named->id, event->status, event->message);
        else
                printf("%s %s %s/%s %s\n", named->id,
                       event->type == API_EVENT_SET ? "SET" : "DELETED", dash(event->namespace),
                       event->name, dash(version));
        fflush(stdout);
}

static void on_answer(ApiRequest *request, const ApiResponse *response, void *data)
{
        Named *named = data;

        printf("%s DONE %d %s %s\n", named->id, response->status, dash(response->reason),
               dash(response->message));
        fflush(stdout);
        named_free(named);
}

static void start_watch(Probe *p, const char *id, ApiWatchSpec spec)
{
        Named *named = named_new(id);
        KL_AUTOERR err = NULL;

        spec.func = on_event;
        spec.data = named;
        if (api_watch(p->client, &spec, &named->watch, &err) < 0)
                printf("%s FAILED %s\n", id, kl_error_msg(err));
        map_set(p->watches, id, named);
}

static void run_call(Probe *p, char **words, size_t n, bool critical)
{
        Named *named = named_new(words[1]);
        ApiCall call = { .method = words[2],
                         .path = words[3],
                         .critical = critical,
                         .done = on_answer,
                         .data = named };
        KL_AUTOERR err = NULL;

        if (n > 5) {
                call.content_type = words[4];
                call.body = words[5];
                call.body_len = strlen(words[5]);
        }
        if (critical)
                call.timeout_ms = 3000;
        if (api_call(p->client, &call, NULL, &err) == 0)
                return;
        printf("%s FAILED %s\n", words[1], kl_error_msg(err));
        named_free(named);
}

static void run_event(Probe *p, char **words)
{
        EventObject object = { .api_version = "v1",
                               .kind = "Pod",
                               .namespace = words[1],
                               .name = words[2],
                               .uid = words[3],
                               .field_path = "spec.containers{c}" };

        event_emit(p->recorder, &object, "Normal", words[4], "%s", words[5]);
}

static long private_kib(void)
{
        FILE *f = fopen("/proc/self/smaps_rollup", "re");
        char line[256];
        long sum = 0, n;

        while (f && fgets(line, sizeof(line), f))
                if (sscanf(line, "Private_Clean: %ld", &n) == 1 ||
                    sscanf(line, "Private_Dirty: %ld", &n) == 1)
                        sum += n;
        if (f)
                fclose(f);
        return sum;
}

/* At most six words; the last takes the rest of the line. */
static size_t split_words(char *line, char **words)
{
        size_t n = 0;

        while (n < 6 && *line) {
                words[n++] = line;
                line += strcspn(line, n == 6 ? "" : " ");
                if (*line)
                        *line++ = '\0';
        }
        return n;
}

static void run(Probe *p, char *line)
{
        char *words[6];
        size_t n = split_words(line, words);

        if (n > 2 && str_eq(words[0], "watch")) {
                start_watch(p, words[1],
                            (ApiWatchSpec){ .path = words[2],
                                            .field_selector = n > 3 ? words[3] : NULL });
        } else if (n > 3 && str_eq(words[0], "patient")) {
                ApiWatchSpec spec = { .path = words[3] };

                if (str_to_u64(words[2], UINT32_MAX, &spec.error_grace_ms) == 0)
                        start_watch(p, words[1], spec);
        } else if (n > 1 && str_eq(words[0], "unwatch")) {
                map_remove(p->watches, words[1]);
        } else if (n > 3 && (str_eq(words[0], "call") || str_eq(words[0], "critical"))) {
                run_call(p, words, n, str_eq(words[0], "critical"));
        } else if (n > 5 && str_eq(words[0], "event")) {
                run_event(p, words);
        } else if (str_eq(words[0], "status")) {
                printf("STATUS %zu %d %ld\n", api_client_connections(p->client),
                       api_client_reachable(p->client), private_kib());
        } else if (str_eq(words[0], "quit")) {
                loop_stop(p->loop);
        } else {
                printf("? %s\n", words[0]);
        }
        fflush(stdout);
}

static void on_input(Watch *watch, int fd, unsigned int events, void *data)
{
        Probe *p = data;
        char *to = buf_reserve(&p->line, 65536);
        ssize_t n = to ? read(fd, to, 65536) : -1;
        char *lf;

        if (n <= 0) {
                loop_stop(p->loop);
                return;
        }
        buf_commit(&p->line, (size_t)n);
        while (p->line.len > 0 && (lf = memchr(p->line.data, '\n', p->line.len))) {
                *lf = '\0';
                run(p, p->line.data);
                buf_consume(&p->line, (size_t)(lf - p->line.data) + 1);
        }
}

static char *slurp(const char *path)
{
        char *text;
        size_t len;
        int r = file_read(path, PEM_MAX, &text, &len);

        if (r < 0) {
                fprintf(stderr, "%s: %s\n", path, strerror(-r));
                exit(2);
        }
        return text;
}

static void free_pem(ApiEndpoint *e)
{
        free((char *)(uintptr_t)e->ca_pem);
        free((char *)(uintptr_t)e->cert_pem);
        free((char *)(uintptr_t)e->key_pem);
}

static void read_options(int argc, char **argv, ApiEndpoint *e)
{
        static const struct option options[] = {
                { "server", 1, NULL, 's' },    { "ca", 1, NULL, 'a' },
                { "cert", 1, NULL, 'c' },      { "key", 1, NULL, 'k' },
                { "cert-file", 1, NULL, 'C' }, { "key-file", 1, NULL, 'K' },
                { "token", 1, NULL, 't' },     { "token-file", 1, NULL, 'T' },
                { "tls-name", 1, NULL, 'n' },  { "proxy", 1, NULL, 'p' },
                { "insecure", 0, NULL, 'i' },  { 0 },
        };
        int c;

        while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
                switch (c) {
                case 's':
                        e->server = optarg;
                        break;
                case 'a':
                        e->ca_pem = slurp(optarg);
                        break;
                case 'c':
                        e->cert_pem = slurp(optarg);
                        break;
                case 'k':
                        e->key_pem = slurp(optarg);
                        break;
                case 'C':
                        e->cert_file = optarg;
                        break;
                case 'K':
                        e->key_file = optarg;
                        break;
                case 't':
                        e->token = optarg;
                        break;
                case 'T':
                        e->token_file = optarg;
                        break;
                case 'n':
                        e->tls_server_name = optarg;
                        break;
                case 'p':
                        e->proxy_url = optarg;
                        break;
                case 'i':
                        e->insecure_skip_verify = true;
                        break;
                default:
                        exit(2);
                }
}

int main(int argc, char **argv)
{
        ApiEndpoint endpoint = { .user_agent = "api-probe" };
        Probe p = { 0 };
        KL_AUTOERR err = NULL;

        read_options(argc, argv, &endpoint);
        if (loop_new(&p.loop, &err) < 0 || api_client_new(p.loop, &endpoint, &p.client, &err) < 0 ||
            event_recorder_new(p.loop, p.client, "kubelet", "probe", &p.recorder, &err) < 0) {
                printf("FAILED %s\n", kl_error_msg(err));
                api_client_free(p.client);
                loop_free(p.loop);
                free_pem(&endpoint);
                return 1;
        }
        free_pem(&endpoint);
        p.watches = map_new(named_free);
        watch_new(p.loop, STDIN_FILENO, WATCH_READ, on_input, &p, &p.input);
        printf("READY\n");
        fflush(stdout);
        loop_run(p.loop);
        watch_free(p.input);
        map_free(p.watches);
        event_recorder_free(p.recorder);
        buf_deinit(&p.line);
        api_client_free(p.client);
        loop_free(p.loop);
        return 0;
}
