/* SPDX-License-Identifier: Apache-2.0 */

/* The wire format, both ways, and what is no message. */

#include "../unit.h"
#include "base/str.h"
#include "codec/protobuf.h"

static void test_round_trip(void **state)
{
        KL_AUTOBUF buf = BUF_INIT;
        PbReader reader;
        PbField f;

        pb_put_uint(&buf, 1, 0);
        pb_put_uint(&buf, 1, 300);
        pb_put_bool(&buf, 2, true);
        pb_put_str(&buf, 3, "");
        pb_put_str(&buf, 3, "abc");
        pb_put_bytes(&buf, 4, "", 0);
        pb_put_uint(&buf, 536870911, UINT64_MAX);
        pb_reader_init(&reader, buf.data, buf.len);
        assert_int_equal(pb_next(&reader, &f), 1);
        assert_int_equal(f.number, 1);
        assert_int_equal(f.wire, PB_VARINT);
        assert_int_equal(f.value, 300);
        assert_int_equal(pb_next(&reader, &f), 1);
        assert_int_equal(f.value, 1);
        assert_int_equal(pb_next(&reader, &f), 1);
        assert_int_equal(f.number, 3);
        assert_int_equal(f.wire, PB_BYTES);
        assert_int_equal(f.len, 3);
        assert_memory_equal(f.data, "abc", 3);
        assert_int_equal(pb_next(&reader, &f), 1);
        assert_int_equal(f.number, 4);
        assert_int_equal(f.len, 0);
        assert_int_equal(pb_next(&reader, &f), 1);
        assert_int_equal(f.number, 536870911);
        assert_true(f.value == UINT64_MAX);
        assert_int_equal(pb_next(&reader, &f), 0);
}

static void test_fixed_sizes(void **state)
{
        static const char bytes[] = "\x09\x01\x02\x03\x04\x05\x06\x07\x08\x0d\x01\x00\x00\x80";
        PbReader reader;
        PbField f;

        pb_reader_init(&reader, bytes, sizeof(bytes) - 1);
        assert_int_equal(pb_next(&reader, &f), 1);
        assert_true(f.value == 0x0807060504030201ULL);
        assert_int_equal(pb_next(&reader, &f), 1);
        assert_int_equal(f.wire, PB_FIXED32);
        assert_true(f.value == 0x80000001ULL);
}

static void test_no_messages(void **state)
{
        static const struct {
                const char *bytes;
                size_t len;
        } cases[] = {
                { "\x08", 1 },     /* no value */
                { "\x80", 1 },     /* half a tag */
                { "\x00\x01", 2 }, /* field 0 */
                { "\x0b", 1 },     /* a group */
                { "\x0f", 1 },     /* wire type 7 */
                { "\x0a\x05"
                  "abc",
                  5 },                                                      /* cut off */
                { "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11 },     /* length 2^64 - 1 */
                { "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11 },     /* 65 bits */
                { "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 12 }, /* 11 bytes */
                { "\x80\x80\x80\x80\x10\x00", 6 },                          /* field 2^29 */
                { "\x0d\x01\x00", 3 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                PbReader reader;
                PbField f;

                pb_reader_init(&reader, cases[i].bytes, cases[i].len);
                assert_int_equal(pb_next(&reader, &f), -EPROTO);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_fixed_sizes),
                cmocka_unit_test(test_no_messages),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
