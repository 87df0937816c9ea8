/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_VOLUME_INTERNAL_H
#define KUBELITE_VOLUME_INTERNAL_H

#include "base/buf.h"
#include "loop/worker.h"
#include "volume/volume.h"

typedef struct VolumeSetup VolumeSetup;
typedef struct Token Token;

struct Volumes {
        Loop *loop;
        char *root_dir;
        ObjectCache *objects;
        ApiClient *client;
        Worker *collector;
};

typedef enum SetupState {
        SETUP_PENDING,
        SETUP_READY,
        SETUP_FAILED,
} SetupState;

typedef struct Payload Payload;

/* One volume of one pod. */
struct VolumeSetup {
        PodVolumes *set;
        const Volume *volume;
        SetupState state;
        char *path; /* on the host */
        int fd;     /* O_PATH of it, where opening may block; else -1 */
        char *error;
        ObjectRef **refs; /* parallel to volume->sources; NULL where a source needs none */
        Token **tokens;   /* likewise */
        Worker *worker;
        Payload *payload; /* what the worker writes */
        bool again;       /* it is out of date already */
        uint64_t written; /* hash of what is there */
};

struct PodVolumes {
        Volumes *volumes;
        const Pod *pod;
        const PodFacts *facts;
        VolumesFunc func;
        void *data;
        VolumesState state;
        char *message;
        unsigned int failures;
        uint64_t retry_ms;
        VolumeSetup *setups;
        size_t n_setups;
        Timer *retry;
        Deferred *turn;
        Worker *teardown;
};

/* What a type does. Each call leads to setup_ready, setup_failed, or, while something is awaited,
 * to another call later. */
typedef struct VolumeOps {
        void (*start)(VolumeSetup *s);
        /* Pod, facts or an object changed. NULL: nothing to do. */
        void (*refresh)(VolumeSetup *s);
} VolumeOps;

extern const VolumeOps empty_dir_ops, host_path_ops, projected_ops;

const VolumeOps *volume_ops(const Volume *volume);

void setup_ready(VolumeSetup *s);
/* `MountVolume.SetUp failed for volume "x" : ` goes before the message. */
void setup_failed(VolumeSetup *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Starts the setup's worker with it as argument: whatever touches a disk belongs there. done() gets
 * the setup; a start that fails is reported by setup_failed. */
void setup_start_worker(VolumeSetup *s, const char *name, WorkerBody body, WorkerFunc done);
#define SETUP_DEADLINE_MS 30000

/* In a worker: complaints go to standard error. Makes the volume's directory. */
int setup_make_dir(const VolumeSetup *s, mode_t mode);
/* A tmpfs there, unless there is one already. options: "size=…" or "". */
int setup_mount_tmpfs(const VolumeSetup *s, const char *options);

/* projected.c */
Payload *payload_free(Payload *payload);

/* --- atomic.c: upstream's atomic writer (pkg/volume/util/atomic_writer.go) --- */

typedef struct AtomicFile {
        char *path; /* relative, checked: no "..", not absolute */
        const char *data;
        size_t len;
        uint32_t mode;
        int64_t uid; /* -1: root */
} AtomicFile;

/* Readers see all old or all new files. gid: fsGroup, or -1. Does nothing when nothing changed. */
int atomic_write(const char *dir, const AtomicFile *files, size_t n, int64_t gid, KlError **err);

/* --- token.c: one projected service account token --- */

typedef void (*TokenFunc)(void *data);

int token_new(Volumes *volumes, const Pod *pod, const Projection *source, TokenFunc func,
              void *data, Token **ret, KlError **err);
Token *token_free(Token *token);
/* NULL while there is none; token_error then says why not, or "" while it is asked for. */
const char *token_text(const Token *token);
const char *token_error(const Token *token);

#endif
