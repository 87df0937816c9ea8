/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The device rules of version 2: a program of type CGROUP_DEVICE, assembled here. The kernel runs
 * it for each open and mknod with a context of three words: (access << 16 | type), major, minor;
 * it answers 1 (allowed) or 0. A rule that covers the whole asked-for access allows; nothing
 * matching denies. Programs of ancestors must allow as well (BPF_F_ALLOW_MULTI).
 */

#include "runtime/cgroup-internal.h"

#include "base/str.h"

#include <linux/bpf.h>
#include <sys/syscall.h>

#define DEVICE_RULES_MAX 512
#define INSNS_PER_RULE 7
#define INSNS_HEAD 6
#define INSNS_TAIL 2

enum { REG_TYPE = BPF_REG_2, REG_ACCESS = BPF_REG_3, REG_MAJOR = BPF_REG_4, REG_MINOR = BPF_REG_5 };

typedef struct Program {
        struct bpf_insn *insns;
        size_t n;
} Program;

static void emit(Program *p, uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm)
{
        p->insns[p->n++] = (struct bpf_insn){
                .code = code,
                .dst_reg = dst,
                .src_reg = src,
                .off = off,
                .imm = imm,
        };
}

static void emit_head(Program *p)
{
        emit(p, BPF_LDX | BPF_MEM | BPF_W, REG_TYPE, BPF_REG_1, 0, 0);
        emit(p, BPF_ALU64 | BPF_MOV | BPF_X, REG_ACCESS, REG_TYPE, 0, 0);
        emit(p, BPF_ALU64 | BPF_RSH | BPF_K, REG_ACCESS, 0, 0, 16);
        emit(p, BPF_ALU64 | BPF_AND | BPF_K, REG_TYPE, 0, 0, 0xffff);
        emit(p, BPF_LDX | BPF_MEM | BPF_W, REG_MAJOR, BPF_REG_1, 4, 0);
        emit(p, BPF_LDX | BPF_MEM | BPF_W, REG_MINOR, BPF_REG_1, 8, 0);
}

static int32_t access_bits(const char *access)
{
        return (strchr(access, 'm') ? BPF_DEVCG_ACC_MKNOD : 0) |
               (strchr(access, 'r') ? BPF_DEVCG_ACC_READ : 0) |
               (strchr(access, 'w') ? BPF_DEVCG_ACC_WRITE : 0);
}

/* Each failing comparison jumps past the rule; the offsets are set when its length is known. */
static void emit_rule(Program *p, const DeviceRule *rule)
{
        int32_t bits = access_bits(rule->access);
        size_t start = p->n;

        if (rule->type != 'a')
                emit(p, BPF_JMP | BPF_JNE | BPF_K, REG_TYPE, 0, 0,
                     rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
        if (bits != (BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE))
                emit(p, BPF_JMP | BPF_JSET | BPF_K, REG_ACCESS, 0, 0, ~bits & 7);
        if (rule->major >= 0)
                emit(p, BPF_JMP | BPF_JNE | BPF_K, REG_MAJOR, 0, 0, (int32_t)rule->major);
        if (rule->minor >= 0)
                emit(p, BPF_JMP | BPF_JNE | BPF_K, REG_MINOR, 0, 0, (int32_t)rule->minor);
        emit(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1);
        emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
        for (size_t i = start; i < p->n - 2; i++)
                p->insns[i].off = (int16_t)(p->n - i - 1);
}

static int load(const Program *p)
{
        union bpf_attr attr;
        int fd;

        memset(&attr, 0, sizeof(attr));
        attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
        attr.insns = (uintptr_t)p->insns;
        attr.insn_cnt = (uint32_t)p->n;
        attr.license = (uintptr_t) "Apache-2.0";
        fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
        return fd < 0 ? -errno : fd;
}

int cgroup_device_program_attach(int cgroup_fd, const DeviceRule *rules, size_t n, KlError **err)
{
        KL_AUTOFREE struct bpf_insn *insns = NULL;
        KL_AUTOFD int fd = -1;
        Program p = { 0 };
        union bpf_attr attr;

        if (n > DEVICE_RULES_MAX)
                return kl_error(err, -E2BIG, NULL, "more than %d device rules", DEVICE_RULES_MAX);
        insns = calloc(INSNS_HEAD + n * INSNS_PER_RULE + INSNS_TAIL, sizeof(*insns));
        if (!insns)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        p.insns = insns;
        emit_head(&p);
        for (size_t i = 0; i < n; i++)
                emit_rule(&p, &rules[i]);
        emit(&p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0);
        emit(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
        fd = load(&p);
        if (fd < 0)
                return kl_error_errno(err, fd, NULL, "load the device program");
        memset(&attr, 0, sizeof(attr));
        attr.target_fd = (uint32_t)cgroup_fd;
        attr.attach_bpf_fd = (uint32_t)fd;
        attr.attach_type = BPF_CGROUP_DEVICE;
        attr.attach_flags = BPF_F_ALLOW_MULTI;
        if (syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof(attr)) < 0)
                return kl_error_errno(err, -errno, NULL, "attach the device program");
        return 0;
}
