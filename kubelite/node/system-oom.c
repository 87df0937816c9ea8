/* SPDX-License-Identifier: Apache-2.0 */

#include "node/system-oom.h"

#include "base/log.h"
#include "base/str.h"

#include <fcntl.h>
#include <unistd.h>

#define KMSG "/dev/kmsg"
/* CONSOLE_EXT_LOG_MAX: longer records do not exist. */
#define RECORD_MAX 8192
/* In one go; more come with the next turn of the loop. */
#define RECORDS_AT_ONCE 256

struct SystemOom {
        EventRecorder *events;
        const char *node_name;
        Watch *watch;
        int fd;
};

bool system_oom_parse(const char *record, char ret_task[static OOM_TASK_SIZE], pid_t *ret_pid)
{
        static const char task_key[] = ",task=", pid_key[] = ",pid=";
        const char *text = strchr(record, ';');
        const char *task = text ? strstr(text, task_key) : NULL, *pid = NULL;
        char number[16];
        int64_t value;

        if (!task || !str_starts(text, ";oom-kill:") || !strstr(text, ",global_oom,"))
                return false;
        task += sizeof(task_key) - 1;
        /* The name may hold anything: what ends it is the last pid. */
        for (const char *p = task; (p = strstr(p, pid_key)); p++)
                pid = p;
        if (!pid)
                return false;
        snprintf(number, sizeof(number), "%.*s",
                 (int)strspn(pid + sizeof(pid_key) - 1, "0123456789"), pid + sizeof(pid_key) - 1);
        if (str_to_i64(number, 1, INT32_MAX, &value) < 0)
                return false;
        snprintf(ret_task, OOM_TASK_SIZE, "%.*s", (int)(pid - task), task);
        *ret_pid = (pid_t)value;
        return true;
}

static void tell(SystemOom *s, const char *task, pid_t pid)
{
        EventObject object = { .api_version = "v1",
                               .kind = "Node",
                               .namespace = "",
                               .name = s->node_name,
                               .uid = s->node_name };

        event_emit(s->events, &object, "Warning", "SystemOOM",
                   "System OOM encountered, victim process: %s, pid: %d", task, (int)pid);
}

static void on_record(Watch *watch, int fd, unsigned int events, void *data)
{
        SystemOom *s = data;
        char record[RECORD_MAX], task[OOM_TASK_SIZE];
        pid_t pid;

        for (int i = 0; i < RECORDS_AT_ONCE; i++) {
                ssize_t n = read(fd, record, sizeof(record) - 1);

                /* EPIPE: records were overwritten before they were read; the next one is there. */
                if (n < 0 && errno == EPIPE)
                        continue;
                if (n <= 0) {
                        if (n == 0 || (errno != EAGAIN && errno != EINTR))
                                s->watch = watch_free(s->watch);
                        return;
                }
                record[n] = '\0';
                if (system_oom_parse(record, task, &pid))
                        tell(s, task, pid);
        }
}

int system_oom_new(Loop *loop, EventRecorder *events, const char *node_name, SystemOom **ret,
                   KlError **err)
{
        KL_AUTO(system_oom_free) SystemOom *s = calloc(1, sizeof(*s));

        if (!s)
                return kl_error_oom(err);
        s->events = events;
        s->node_name = node_name;
        s->fd = open(KMSG, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        /* What was logged before is another daemon's, or was told by it. */
        if (s->fd < 0 || lseek(s->fd, 0, SEEK_END) < 0 ||
            watch_new(loop, s->fd, WATCH_READ, on_record, s, &s->watch) < 0)
                log_info(NULL, "The kernel's log cannot be read: no event will tell of a machine "
                               "that is out of memory");
        *ret = KL_STEAL(s);
        return 0;
}

SystemOom *system_oom_free(SystemOom *s)
{
        if (!s)
                return NULL;
        watch_free(s->watch);
        kl_close(s->fd);
        free(s);
        return NULL;
}
