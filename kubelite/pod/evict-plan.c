/* SPDX-License-Identifier: Apache-2.0 */

/* Thresholds, pressure, and what to reclaim. The containerfs signals are those of the image file
 * system, or of the node's where there is none: thresholds of their own are ignored, as upstream
 * does it. */

#include "pod/evict-plan.h"

#include "api/quantity.h"
#include "base/clock.h"
#include "base/str.h"

static const struct {
        const char *name, *resource;
        NodePressure pressure;
} signals[EVICT_SIGNALS] = {
        [SIGNAL_MEMORY] = { "memory.available", "memory", PRESSURE_MEMORY },
        [SIGNAL_ALLOCATABLE_MEMORY] = { "allocatableMemory.available", "memory", PRESSURE_MEMORY },
        [SIGNAL_NODEFS] = { "nodefs.available", "ephemeral-storage", PRESSURE_DISK },
        [SIGNAL_NODEFS_INODES] = { "nodefs.inodesFree", "inodes", PRESSURE_DISK },
        [SIGNAL_IMAGEFS] = { "imagefs.available", "ephemeral-storage", PRESSURE_DISK },
        [SIGNAL_IMAGEFS_INODES] = { "imagefs.inodesFree", "inodes", PRESSURE_DISK },
        [SIGNAL_PID] = { "pid.available", "pids", PRESSURE_PID },
};

const char *evict_resource(EvictSignal signal)
{
        return signals[signal].resource;
}

const char *evict_signal_name(EvictSignal signal)
{
        return signals[signal].name;
}

NodePressure evict_pressure(EvictSignal signal)
{
        return signals[signal].pressure;
}

/* --- configuration --- */

static int parse_amount(const char *field, const char *signal, const char *text, EvictAmount *ret,
                        KlError **err)
{
        size_t n = strlen(text);
        char number[32], *end;

        *ret = (EvictAmount){ 0 };
        if (n == 0 || text[n - 1] != '%') {
                if (quantity_value(text, &ret->quantity) < 0)
                        return kl_error(err, -EINVAL, NULL, "%s.%s: '%s' is no quantity", field,
                                        signal, text);
                return 0;
        }
        snprintf(number, sizeof(number), "%.*s", (int)(n - 1), text);
        ret->is_percentage = true;
        ret->fraction = strtof(number, &end) / 100;
        if (n >= sizeof(number) || *end || end == number ||
            !(ret->fraction >= 0 && ret->fraction <= 1))
                return kl_error(err, -EINVAL, NULL, "%s.%s: '%s' is no percentage", field, signal,
                                text);
        return 0;
}

static int parse_grace(const KubeletConfig *config, const char *signal, EvictThreshold *t,
                       KlError **err)
{
        const char *text = config_pair_get(config->eviction_soft_grace_period, signal);
        int64_t us;

        if (!text)
                return kl_error(err, -EINVAL, NULL,
                                "evictionSoftGracePeriod.%s: is needed, since evictionSoft has it",
                                signal);
        if (time_parse_duration(text, &us) < 0 || us < 0)
                return kl_error(err, -EINVAL, NULL,
                                "evictionSoftGracePeriod.%s: '%s' is no duration", signal, text);
        t->grace_ms = (uint64_t)us / 1000;
        return 0;
}

/* A threshold of 0 or of 100% (upstream's way to switch one off) is none. */
static bool is_off(const EvictAmount *value)
{
        return value->is_percentage ? value->fraction <= 0 || value->fraction >= 1
                                    : value->quantity <= 0;
}

static int add_threshold(const KubeletConfig *config, EvictSignal signal, bool soft,
                         EvictConfig *ret, KlError **err)
{
        const char *name = signals[signal].name;
        const char *from =
                signal == SIGNAL_ALLOCATABLE_MEMORY && !soft ? signals[SIGNAL_MEMORY].name : name;
        const char *text =
                config_pair_get(soft ? config->eviction_soft : config->eviction_hard, from);
        const char *reclaim = config_pair_get(config->eviction_minimum_reclaim, from);
        EvictThreshold t = { .signal = signal };

        if (!text)
                return 0;
        KL_TRY(parse_amount(soft ? "evictionSoft" : "evictionHard", name, text, &t.value, err));
        if (is_off(&t.value))
                return 0;
        if (reclaim)
                KL_TRY(parse_amount("evictionMinimumReclaim", name, reclaim, &t.reclaim, err));
        if (soft)
                KL_TRY(parse_grace(config, name, &t, err));
        ret->thresholds[ret->n++] = t;
        return 0;
}

int evict_config(const KubeletConfig *config, EvictConfig *ret, KlError **err)
{
        bool enforced = strv_contains(config->enforce_node_allocatable, "pods");

        *ret = (EvictConfig){
                .transition_ms = (uint64_t)config->eviction_pressure_transition_period_us / 1000,
                .max_grace_s = config->eviction_max_pod_grace_period,
        };
        /* Memory first: it is what cannot wait. Of one signal the hard one. */
        for (EvictSignal signal = 0; signal < EVICT_SIGNALS; signal++) {
                if (signal != SIGNAL_ALLOCATABLE_MEMORY || enforced)
                        KL_TRY(add_threshold(config, signal, false, ret, err));
                KL_TRY(add_threshold(config, signal, true, ret, err));
        }
        return 0;
}

/* --- pressure --- */

static int64_t amount_of(const EvictAmount *amount, int64_t capacity)
{
        return amount->is_percentage ? (int64_t)((double)capacity * (double)amount->fraction)
                                     : amount->quantity;
}

static bool is_below(const EvictThreshold *t, const EvictObserved *o, bool with_reclaim)
{
        int64_t value = amount_of(&t->value, o->capacity);

        if (with_reclaim)
                value += amount_of(&t->reclaim, o->capacity);
        return o->available < value;
}

/* Whether the threshold is met, with its grace period, and has to be reclaimed. */
static bool step_threshold(const EvictThreshold *t, size_t i, EvictState *state,
                           const EvictObserved *o, uint64_t now_ms)
{
        if (!o->known)
                return false;
        if (!is_below(t, o, state->met[i])) {
                state->first_ms[i] = 0;
                state->met[i] = false;
                return false;
        }
        if (!state->first_ms[i])
                state->first_ms[i] = now_ms;
        state->met[i] = now_ms - state->first_ms[i] >= t->grace_ms;
        return state->met[i];
}

void evict_step(const EvictConfig *config, EvictState *state,
                const EvictObserved observed[static EVICT_SIGNALS], uint64_t now_ms,
                EvictDecision *ret)
{
        *ret = (EvictDecision){ 0 };
        for (size_t i = 0; i < config->n; i++) {
                const EvictThreshold *t = &config->thresholds[i];
                bool met = step_threshold(t, i, state, &observed[t->signal], now_ms);

                if (state->first_ms[i])
                        state->pressed_ms[evict_pressure(t->signal)] = now_ms;
                if (met && !ret->reclaim)
                        ret->reclaim = t;
        }
        for (size_t i = 0; i < NODE_PRESSURES; i++)
                ret->pressure[i] = state->pressed_ms[i] &&
                                   (now_ms - state->pressed_ms[i] < config->transition_ms ||
                                    state->pressed_ms[i] == now_ms);
}

bool evict_is_at_rest(const EvictConfig *config, const EvictObserved observed[static EVICT_SIGNALS])
{
        for (size_t i = 0; i < config->n; i++) {
                const EvictThreshold *t = &config->thresholds[i];

                if (observed[t->signal].known && is_below(t, &observed[t->signal], true))
                        return false;
        }
        return true;
}

int64_t evict_threshold_value(const EvictThreshold *t, int64_t capacity)
{
        return amount_of(&t->value, capacity);
}
