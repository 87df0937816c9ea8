/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CODEC_VALUE_INTERNAL_H
#define KUBELITE_CODEC_VALUE_INTERNAL_H

#include "codec/value.h"

#include <jansson.h>
#include <stdint.h>

static inline json_t *value_json(Value *v)
{
        return (json_t *)v;
}

static inline const json_t *value_json_const(const Value *v)
{
        return (const json_t *)v;
}

static inline Value *value_wrap(json_t *j)
{
        return (Value *)j;
}

static inline const Value *value_wrap_const(const json_t *j)
{
        return (const Value *)j;
}

#endif
