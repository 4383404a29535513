/* SPDX-License-Identifier: ISC */
#include "cache/receipt.h"

#include "cache/blob.h"
#include "cache/err.h"
#include "tests/unit/scratch.h"

static const char private_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n"
    "-----END PRIVATE KEY-----\n";
static const char public_key[] = "-----BEGIN PUBLIC KEY-----\n"
                                 "MCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\n"
                                 "-----END PUBLIC KEY-----\n";

static void hold(struct scratch *s, const char *what, bool with_file)
{
    struct digest d = scratch_digest(what);
    struct blob_record r = {.size_bytes = strlen(what), .origin = BLOB_PUBLIC};
    struct db_txn *txn = scratch_write(s);

    if (with_file)
        assert_int_equal(blob_write(s->store, &d, what, strlen(what)), 0);
    assert_int_equal(blob_put(txn, &d, &r), 0);
    assert_int_equal(db_commit(&txn), 0);
}

/* What is in it is what can be read: a record without its file is nothing. */
static void test_make(void **state)
{
    struct scratch *s = *state;
    struct db_reader *reader;
    struct db_txn *txn;
    struct receipt r;
    char why[128];
    char *text;
    size_t len;
    uint64_t count;
    struct digest one = scratch_digest("one"), two = scratch_digest("two");
    struct digest lost = scratch_digest("lost");

    hold(s, "one", true);
    hold(s, "two", true);
    hold(s, "lost", false);
    assert_int_equal(db_reader_new(store_db(s->store), &reader), 0);
    assert_int_equal(db_read(reader, &txn), 0);
    assert_int_equal(receipt_make(s->store, txn, 1774000000, &text, &len, &count), 0);
    db_read_end(reader);
    db_reader_free(&reader);
    assert_int_equal(count, 2);
    assert_int_equal(receipt_parse(&r, text, len, why, sizeof why), 0);
    assert_int_equal(r.made_at_s, 1774000000);
    assert_false(r.is_signed);
    assert_true(digest_map_find(r.digests, &one, NULL) && digest_map_find(r.digests, &two, NULL));
    assert_false(digest_map_find(r.digests, &lost, NULL));
    receipt_clear(&r);
    free(text);
}

static void test_signature(void **state)
{
    char *text = strdup("cachalot receipt 1\nmade 5\n");
    size_t len = strlen(text);
    uint8_t signature[BUNDLE_SIGNATURE_BYTES];
    struct receipt r;
    char why[128];

    (void)state;
    assert_int_equal(bundle_sign(private_key, strlen(private_key), text, len, signature), 0);
    size_t before = len;
    receipt_add_signature(&text, &len, signature);
    assert_int_equal(receipt_parse(&r, text, len, why, sizeof why), 0);
    assert_true(r.is_signed && r.signed_bytes == before);
    assert_int_equal(
        bundle_verify(public_key, strlen(public_key), text, r.signed_bytes, r.signature), 0);
    text[20] ^= 1;
    assert_int_equal(
        bundle_verify(public_key, strlen(public_key), text, r.signed_bytes, r.signature),
        ERR_MISMATCH);
    receipt_clear(&r);
    free(text);
}

static void test_keys(void **state)
{
    static const char rsa[] = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n";
    uint8_t signature[BUNDLE_SIGNATURE_BYTES] = {0};
    static const char *const none[] = {"", "key", public_key, rsa};

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(bundle_sign(none[i], strlen(none[i]), "x", 1, signature), ERR_INVALID);
    assert_int_equal(bundle_verify(private_key, strlen(private_key), "x", 1, signature),
                     ERR_INVALID);
    assert_int_equal(bundle_verify(rsa, strlen(rsa), "x", 1, signature), ERR_INVALID);
    assert_int_equal(bundle_verify(public_key, strlen(public_key), "x", 1, signature),
                     ERR_MISMATCH);
}

static void test_bad_texts(void **state)
{
#define HEAD "cachalot receipt 1\nmade 5\n"
#define DIGEST "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"
    static const char *const texts[] = {
        "",
        "cachalot receipt 2\nmade 5\n",
        "cachalot receipt 1\n",
        "cachalot receipt 1\nmade x\n",
        "cachalot receipt 1\nmade -5\n",
        HEAD "x\n",
        HEAD "sha256:00\n",
        HEAD DIGEST "\n",
        HEAD "signature 00\n",
        HEAD "signature \n" DIGEST,
        HEAD "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    };
    struct receipt r;
    char why[128];

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (receipt_parse(&r, texts[i], strlen(texts[i]), why, sizeof why) != ERR_INVALID)
            fail_msg("row %zu is taken", i);
    }
    static const char crlf[] = "cachalot receipt 1\r\nmade 5\r\n";
    assert_int_equal(receipt_parse(&r, crlf, strlen(crlf), why, sizeof why), 0);
    receipt_clear(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_make, scratch_setup, scratch_teardown),
        cmocka_unit_test(test_signature),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_bad_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
