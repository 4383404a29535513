/* SPDX-License-Identifier: ISC */
/*
 * Pushing blobs, distribution-spec 1.1.1 "Pushing Blobs".
 *
 *   POST  mount -> 201, or a session:  begin -> 202
 *         with a digest:               begin -> body -> finish -> 201
 *   PATCH open -> body -> settle -> 202
 *   PUT   open -> body -> finish -> 201
 *
 * A client that leaves takes nothing with it: what it sent is in its session, but for one
 * that it cannot know, since it was never told the id.
 */
#include "proxy/local_private.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cache/err.h"
#include "cache/local.h"
#include "cache/upload.h"
#include "proxy/socket.h"
#include "proxy/twice.h"

#define LOCATION_MAX (NAME_MAX_SIZE + DIGEST_TEXT_MAX + 64)
/* Local repositories that are looked through for a mount that names none; and those that the
 * client is asked about before. */
#define MOUNT_HOLDERS_MAX 64u
#define MOUNT_LOOKED_MAX 4096u

static void on_answered(void *arg, int err)
{
    struct request *r = arg;
    struct local *l = r->local;

    worker_clock(r->worker);
    l->awaits = false;
    l->then(r, err);
}

static void on_room(void *arg)
{
    struct request *r = arg;

    worker_clock(r->worker);
    conn_read_more(r->conn);
}

static const struct upload_calls calls = {.answered = on_answered, .has_room = on_room};

static struct upload_order order_of(struct request *r)
{
    return (struct upload_order){
        .name = r->target.name,
        .answers = r->worker->queue,
        .calls = &calls,
        .arg = r,
    };
}

/* Wait for the upload's answer. */
static void await(struct request *r, void (*then)(struct request *r, int err))
{
    r->local->then = then;
    r->local->awaits = true;
    request_enter(r, REQUEST_WORKING);
}

/* --- answers --- */

/* The fields that say where the session is. */
struct place {
    char id[UPLOAD_ID_SIZE];
    char location[LOCATION_MAX];
    char range[48]; /* up to the last byte; 0-0 of none too, as Docker needs it */
    uint64_t size_bytes;
};

/* Leave the session: before the answer, since the client may go on with it by another
 * connection as soon as it has that. */
static void leave_session(struct request *r, struct place *p)
{
    struct upload **u = &r->local->upload;

    p->size_bytes = upload_size(*u);
    snprintf(p->id, sizeof p->id, "%s", upload_id(*u));
    snprintf(p->location, LOCATION_MAX, "/v2/%s/blobs/uploads/%s", r->target.name.repository,
             p->id);
    snprintf(p->range, sizeof p->range, "0-%llu",
             (unsigned long long)(p->size_bytes > 0 ? p->size_bytes - 1 : 0));
    upload_leave(u);
}

static void send_session(struct request *r, int status)
{
    struct place p;
    struct reply_extra fields[] = {
        {"Location", p.location},
        {"Range", p.range},
        {"Docker-Upload-UUID", p.id},
        {NULL, NULL},
    };

    leave_session(r, &p);
    request_done(r, OUT_ACCEPTED, status, fields);
}

static void send_out_of_order(struct request *r)
{
    struct place p;
    struct reply_extra fields[] = {{"Location", p.location}, {"Range", p.range}, {NULL, NULL}};
    char detail[96];

    leave_session(r, &p);
    snprintf(detail, sizeof detail, "the next chunk begins at %llu",
             (unsigned long long)p.size_bytes);
    request_refuse(r, OUT_UPLOAD_RANGE, detail, fields);
}

static void send_blob_made(struct request *r, enum outcome o, const struct digest *d)
{
    char location[LOCATION_MAX], digest[DIGEST_TEXT_MAX];
    struct reply_extra fields[] = {
        {"Location", location},
        {"Docker-Content-Digest", digest},
        {NULL, NULL},
    };

    digest_text(d, digest);
    snprintf(location, sizeof location, "/v2/%s/blobs/%s", r->target.name.repository, digest);
    request_done(r, o, 201, fields);
}

static void send_upload_error(struct request *r, int err)
{
    switch (err) {
    case ERR_NOT_FOUND:
        request_error(r, OUT_UPLOAD_UNKNOWN, NULL, 0);
        break;
    case ERR_BUSY:
        request_error(r, OUT_UPLOAD_BUSY, NULL, 0);
        break;
    case ERR_MISMATCH:
        request_error(r, OUT_UPLOAD_DIGEST, "the upload has ended; begin another one", 0);
        break;
    default:
        local_send_failure(r, err);
    }
}

/* --- the body --- */

bool local_upload_body(struct request *r, const char *p, size_t len)
{
    return upload_write(r->local->upload, p, len) || upload_has_failed(r->local->upload);
}

static void on_dropped(struct request *r, int err)
{
    (void)err;
    send_upload_error(r, r->local->failure);
}

/* What a full disk had no room for would only keep it full: the session goes. */
static void fail_write(struct request *r, int err)
{
    r->local->failure = err;
    await(r, on_dropped);
    upload_cancel(r->local->upload);
}

static void on_settled(struct request *r, int err)
{
    if (err)
        fail_write(r, err);
    else
        send_session(r, 202);
}

static void on_finished(struct request *r, int err)
{
    struct local *l = r->local;

    l->has_ended = err == 0 || err == ERR_MISMATCH;
    if (!l->has_ended) {
        fail_write(r, err);
    } else if (err) {
        send_upload_error(r, err);
    } else {
        twice_add_blob(r->worker->parts.twice, &r->target.name, &l->push.digest);
        send_blob_made(r, OUT_STORED, &l->push.digest);
    }
}

void local_upload_end(struct request *r)
{
    struct local *l = r->local;

    /* Nobody was told the id of this one. */
    if (l->upload && r->method == HTTP_POST && l->push.has_digest && !l->awaits && !l->has_ended)
        upload_cancel(l->upload);
    upload_leave(&l->upload);
}

static bool is_length_right(const struct local *l)
{
    return !l->has_range || l->body_bytes == l->range.end - l->range.start;
}

void local_upload_body_end(struct request *r)
{
    struct local *l = r->local;

    if (!is_length_right(l)) {
        upload_leave(&l->upload);
        request_error(r, OUT_UPLOAD_INVALID, "the body is not as long as its Content-Range", 0);
    } else if (r->method == HTTP_PATCH) {
        await(r, on_settled);
        upload_settle(l->upload);
    } else {
        await(r, on_finished);
        upload_finish(l->upload, &l->push.digest);
    }
}

/* --- sessions that are known --- */

static void open_session(struct request *r, void (*then)(struct request *r, int err))
{
    struct upload_order order = order_of(r);

    await(r, then);
    r->local->upload = upload_open(r->worker->parts.uploads, &order, r->target.tag);
}

static void read_body(struct request *r)
{
    struct local *l = r->local;

    if (l->content_length > 0)
        upload_expect(l->upload, (uint64_t)l->content_length);
    conn_read_body(r->conn);
}

/* The session takes the body, if that goes on where it is. */
static void on_opened(struct request *r, int err)
{
    struct local *l = r->local;

    if (err)
        send_upload_error(r, err);
    else if (l->has_range && l->range.start != upload_size(l->upload))
        send_out_of_order(r);
    else
        read_body(r);
}

void local_patch_upload(struct request *r)
{
    open_session(r, on_opened);
}

void local_put_upload(struct request *r)
{
    if (r->local->push.has_digest)
        open_session(r, on_opened);
    else
        request_error(r, OUT_DIGEST_INVALID, "the parameter digest is missing", 0);
}

static void on_status(struct request *r, int err)
{
    if (err)
        send_upload_error(r, err);
    else
        send_session(r, 204);
}

void local_get_upload(struct request *r)
{
    open_session(r, on_status);
}

static void on_cancelled(struct request *r, int err)
{
    if (err)
        send_upload_error(r, err);
    else
        request_done(r, OUT_DELETED, 204, NULL);
}

static void on_opened_to_cancel(struct request *r, int err)
{
    if (err) {
        send_upload_error(r, err);
        return;
    }
    await(r, on_cancelled);
    upload_cancel(r->local->upload);
}

void local_delete_upload(struct request *r)
{
    open_session(r, on_opened_to_cancel);
}

/* --- a new session --- */

static void on_begun(struct request *r, int err)
{
    if (err == ERR_BUSY)
        request_error(r, OUT_OVERLOADED, "too many uploads are open", 60);
    else if (err)
        send_upload_error(r, err);
    else if (r->local->push.has_digest)
        read_body(r);
    else
        send_session(r, 202);
}

#define OWNER_MAX (SOCKET_PEER_MAX + CONFIG_USER_SIZE)

/* Who has one address of an IPv6 network has all of them. */
static const char *name_owner(const struct request *r, char out[OWNER_MAX])
{
    const char *user = request_user(r);
    char peer[SOCKET_PEER_MAX];
    struct in6_addr address;

    snprintf(peer, sizeof peer, "%s", conn_peer(r->conn));
    if (inet_pton(AF_INET6, peer, &address) == 1) {
        memset(address.s6_addr + 8, 0, 8);
        inet_ntop(AF_INET6, &address, peer, sizeof peer);
    }
    snprintf(out, OWNER_MAX, "%s %s", peer, user ? user : "");
    return out;
}

static void begin_session(struct request *r)
{
    struct upload_order order = order_of(r);
    const struct push_parameters *p = &r->local->push;
    enum digest_alg alg = p->algorithm ? p->algorithm : DIGEST_SHA256;
    char owner[OWNER_MAX];

    order.owner = name_owner(r, owner);
    if (p->has_digest)
        alg = p->digest.alg;
    await(r, on_begun);
    r->local->upload = upload_begin(r->worker->parts.uploads, &order, alg);
}

/* --- mounts --- */

static int mount_apply(struct storage_job *s, struct db_txn *txn)
{
    struct local_job *j = (struct local_job *)s;
    int64_t now_s = time(NULL);
    int err = ERR_NOT_FOUND;

    if (local_has_file(j, txn, &j->digest)) {
        err = local_mount(txn, &j->name, &j->digest, NULL, now_s);
        for (unsigned i = 0; err == ERR_NOT_FOUND && i < j->from_count; i++)
            err = local_mount(txn, &j->name, &j->digest, &j->from[i], now_s);
    }
    j->is_absent = err == ERR_NOT_FOUND;
    return j->is_absent ? 0 : err;
}

static void on_mounted(struct request *r, struct local_job *j, int err)
{
    if (err)
        local_send_failure(r, err);
    else if (j->is_absent)
        begin_session(r);
    else
        send_blob_made(r, OUT_MOUNTED, &j->digest);
}

struct holders {
    struct request *request;
    struct local_job *job;
    unsigned looked;
};

static int add_holder(void *arg, const struct name *n)
{
    struct holders *h = arg;

    if (request_may(h->request, n, RIGHT_PULL))
        h->job->from[h->job->from_count++] = *n;
    return ++h->looked == MOUNT_LOOKED_MAX || h->job->from_count == MOUNT_HOLDERS_MAX;
}

/* Where the blob may be taken from: only what the client may pull itself. What a public
 * upstream has may be taken from everywhere. */
static void find_holders(struct request *r, struct local_job *j)
{
    const struct push_parameters *p = &r->local->push;
    struct holders h = {.request = r, .job = j};
    struct db_txn *txn;

    j->from = mem_new(MOUNT_HOLDERS_MAX * sizeof *j->from);
    if (p->has_from) {
        if (name_set_local(j->from, p->from, strlen(p->from)) == 0 &&
            request_may(r, j->from, RIGHT_PULL))
            j->from_count = 1;
    } else if (db_read(r->worker->reader, &txn) == 0) {
        /* One that is not found is a mount that is not made: the client uploads it. */
        if (local_walk_holders(txn, &p->mount, add_holder, &h) < 0)
            j->from_count = 0;
        db_read_end(r->worker->reader);
    }
}

void local_post_upload(struct request *r)
{
    if (!r->local->push.has_mount) {
        begin_session(r);
        return;
    }
    struct local_job *j = local_job_new(r);

    j->digest = r->local->push.mount;
    j->job.apply = mount_apply;
    find_holders(r, j);
    local_job_post(j, on_mounted);
}
