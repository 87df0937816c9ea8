/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SHIM_RECORD_INTERNAL_H
#define KUBELITE_SHIM_RECORD_INTERNAL_H

#include <stdint.h>

/*
 * Tags of the encoded specs. Each field is two 32-bit numbers, tag and length, and the bytes,
 * filled up to eight. Tags are never given to something else and only ever appended.
 */

#define FIELD_ALIGN 8U

enum SandboxTag {
        SANDBOX_ID = 1,
        SANDBOX_NETNS,
        SANDBOX_HOSTNAME,
        SANDBOX_HOST_NETWORK,
        SANDBOX_HOST_PID,
        SANDBOX_HOST_IPC,
        SANDBOX_SHARE_PID,
        SANDBOX_UID_MAP,
        SANDBOX_GID_MAP,
        SANDBOX_SYSCTL,
        SANDBOX_CGROUP,
        SANDBOX_SHM_BYTES,
        SANDBOX_OOM_SCORE_ADJ,
        SANDBOX_TAGS,
};

enum StartTag {
        START_ID = 1,
        START_ARG,
        START_ENV,
        START_CWD,
        START_RUN_AS_USER,
        START_RUN_AS_GROUP,
        START_IMAGE_USER,
        START_NON_ROOT,
        START_STRICT_GROUPS,
        START_GROUPS,
        START_CAP_BOUNDING,
        START_CAP_EFFECTIVE,
        START_NO_NEW_PRIVS,
        START_SECCOMP,
        START_SECCOMP_FLAGS,
        START_RLIMIT,
        START_OOM_SCORE_ADJ,
        START_CGROUP,
        START_LAYERS_FD,
        START_LAYER,
        START_RW_FD,
        START_READ_ONLY_ROOT,
        START_MOUNT,
        START_MASKED,
        START_READ_ONLY,
        START_DEVICE,
        START_TTY,
        START_STDIN,
        START_STDIN_ONCE,
        START_LOG_FD,
        START_STOP_SIGNAL,
        START_LOG_DIR_FD,
        START_LOG_NAME,
        START_LOG_MAX_BYTES,
        START_APPARMOR,
        START_WRITABLE,
        START_PID_TARGET,
        START_HANDLER,
        START_CONFIG_HEAD,
        START_CONFIG_TAIL,
        START_PROCESS_REST,
        START_TAGS,
};

enum ExecTag {
        EXEC_CONTAINER = 1,
        EXEC_ARG,
        EXEC_ENV,
        EXEC_CWD,
        EXEC_TTY,
        EXEC_STDIN_FD,
        EXEC_STDOUT_FD,
        EXEC_STDERR_FD,
        EXEC_TIMEOUT_MS,
        EXEC_TAGS,
};

/* Nested fields. */
enum CgroupTag { CGROUP_ROLES = 1, CGROUP_NAME, CGROUP_PATH };
enum SysctlTag { SYSCTL_NAME = 1, SYSCTL_VALUE };
enum MountTag {
        MOUNT_KIND = 1,
        MOUNT_TARGET,
        MOUNT_FD,
        MOUNT_FLAGS,
        MOUNT_PROPAGATION,
        MOUNT_OPTIONS,
};
enum DeviceTag {
        DEVICE_PATH = 1,
        DEVICE_TYPE,
        DEVICE_MAJOR,
        DEVICE_MINOR,
        DEVICE_MODE,
        DEVICE_UID,
        DEVICE_GID,
};

#endif
